//! The bridge of the pods, the rules around it and the kernel's settings, made
//! and taken back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::layout::{BRIDGE, BRIDGE_ADDRESS, POD_RANGE};
use crate::exec;

const FORWARD: &str = "net/ipv4/ip_forward";
const FILTER_BRIDGE: &str = "net/bridge/bridge-nf-call-iptables";

/// What we, the kubelet or kube-proxy set.
const SETTINGS: [&str; 8] = [
    FORWARD,
    FILTER_BRIDGE,
    "net/ipv4/conf/all/route_localnet",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// The mark that our own rules carry.
const COMMENT: &str = "monthend";

/// Makes what is missing. Whether iptables sees packets between pods.
pub(super) fn ensure(saved_settings: &Path) -> Result<bool> {
    if !saved_settings.exists() {
        let settings: BTreeMap<&str, String> =
            SETTINGS.iter().filter_map(|name| Some((*name, read(name)?))).collect();
        crate::paths::write_if_changed(saved_settings, &serde_json::to_vec(&settings)?)?;
    }
    if !exec::succeeds(ip().args(["link", "show", BRIDGE])) {
        exec::output(ip().args(["link", "add", BRIDGE, "type", "bridge"]))?;
    }
    exec::output(ip().args(["address", "replace", BRIDGE_ADDRESS, "dev", BRIDGE]))?;
    exec::output(ip().args(["link", "set", BRIDGE, "up"]))?;
    write(FORWARD, "1")?;
    let filtered = read(FILTER_BRIDGE).is_some();
    if filtered {
        write(FILTER_BRIDGE, "1")?;
    }
    // A firewall that drops what it doesn't know must let the pods through.
    for rule in [
        &["filter", "FORWARD", "-i", BRIDGE, "-j", "ACCEPT"][..],
        &["filter", "FORWARD", "-o", BRIDGE, "-j", "ACCEPT"],
        &["nat", "POSTROUTING", "-s", POD_RANGE, "!", "-d", POD_RANGE, "-j", "MASQUERADE"],
    ] {
        let [table, chain, rest @ ..] = rule else { continue };
        let iptables = |action: &str| {
            let mut command = Command::new("iptables");
            command
                .args(["-w", "-t", table, action, chain])
                .args(["-m", "comment", "--comment", COMMENT])
                .args(rest);
            command
        };
        if !exec::succeeds(&mut iptables("-C")) {
            exec::output(&mut iptables("-I"))?;
        }
    }
    Ok(filtered)
}

/// Takes everything back.
pub(super) fn remove(saved_settings: &Path) -> Result<()> {
    for family in ["iptables", "ip6tables"] {
        let Ok(dump) = exec::output(&mut Command::new(format!("{family}-save"))) else { continue };
        let undo = undo(&dump);
        if !undo.is_empty() {
            exec::output_with_input(
                Command::new(format!("{family}-restore")).args(["--noflush", "-w"]),
                undo.as_bytes(),
            )?;
        }
    }
    if exec::succeeds(ip().args(["link", "show", BRIDGE])) {
        exec::output(ip().args(["link", "delete", BRIDGE]))?;
    }
    if let Ok(bytes) = fs::read(saved_settings) {
        let settings: BTreeMap<String, String> = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not ours", saved_settings.display()))?;
        for (name, value) in settings {
            if read(&name).as_ref() != Some(&value) {
                write(&name, &value)?;
            }
        }
    }
    Ok(())
}

/// Input for iptables-restore that removes Kubernetes' chains and our rules
/// from what iptables-save printed, and touches nothing else.
fn undo(dump: &str) -> String {
    let mut result = String::new();
    let mut table = "";
    let (mut rules, mut chains) = (Vec::new(), Vec::new());
    for line in dump.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            if chain.starts_with("KUBE-") {
                chains.push(chain);
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let inside = rule.starts_with("KUBE-");
            let leads = rule.split(' ').any(|word| word.starts_with("KUBE-"));
            let ours = rule.contains(&format!("--comment {COMMENT} "))
                || rule.contains(&format!("--comment \"{COMMENT}\" "));
            if !inside && (leads || ours) {
                rules.push(rule);
            }
        } else if line == "COMMIT" && !(rules.is_empty() && chains.is_empty()) {
            result.push_str(&format!("*{table}\n"));
            for rule in rules.drain(..) {
                result.push_str(&format!("-D {rule}\n"));
            }
            // Emptied first: a chain that another leads to can't go.
            for chain in &chains {
                result.push_str(&format!("-F {chain}\n"));
            }
            for chain in chains.drain(..) {
                result.push_str(&format!("-X {chain}\n"));
            }
            result.push_str("COMMIT\n");
        }
    }
    result
}

fn ip() -> Command {
    Command::new("ip")
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned())
}

fn write(name: &str, value: &str) -> Result<()> {
    fs::write(Path::new("/proc/sys").join(name), value)
        .with_context(|| format!("cannot set /proc/sys/{name} to {value}"))
}

#[cfg(test)]
mod tests {
    use super::undo;

    #[test]
    fn only_what_is_ours_is_removed() {
        let dump = "# Generated\n*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n:KUBE-SERVICES - [0:0]\n\
            :KUBE-SVC-ABC - [0:0]\n\
            -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
            -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
            -A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -m comment --comment monthend -j MASQUERADE\n\
            -A KUBE-SERVICES -j KUBE-SVC-ABC\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
        assert_eq!(
            undo(dump),
            "*nat\n-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -D POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -m comment --comment monthend -j MASQUERADE\n\
             -F KUBE-SERVICES\n-F KUBE-SVC-ABC\n-X KUBE-SERVICES\n-X KUBE-SVC-ABC\nCOMMIT\n"
        );
        assert_eq!(undo("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"), "");
    }
}
