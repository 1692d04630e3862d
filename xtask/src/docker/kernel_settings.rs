//! The settings of the machine's kernel that a node's kubelet and kube-proxy change: kept before,
//! and restored after.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::paths::write_if_changed;

/// Below /proc/sys. None of them belongs to a container alone.
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/netfilter/nf_conntrack_max",
];

/// Keeps them as they are now, unless that was done before.
pub(super) fn save(file: &Path) -> Result<()> {
    if file.exists() {
        return Ok(());
    }
    let settings: BTreeMap<&str, String> =
        SETTINGS.iter().filter_map(|name| Some((*name, read(name)?))).collect();
    write_if_changed(file, &serde_json::to_vec(&settings)?).map(drop)
}

/// Sets them as they were kept; nothing to do without a file.
pub(super) fn restore(file: &Path) -> Result<()> {
    let Ok(bytes) = fs::read(file) else { return Ok(()) };
    let settings: BTreeMap<String, String> = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not a file of kernel settings", file.display()))?;
    for (name, value) in settings {
        if read(&name).as_ref() != Some(&value) {
            fs::write(format!("/proc/sys/{name}"), &value)
                .with_context(|| format!("cannot set /proc/sys/{name} to {value}"))?;
        }
    }
    Ok(())
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|value| value.trim().to_owned())
}
