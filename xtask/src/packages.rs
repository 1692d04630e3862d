//! Debian packages: installed where that is possible (root on Debian), named
//! with the command to run elsewhere.

use std::process::Command;

use anyhow::{Result, bail};

use crate::exec;
use crate::paths::Paths;
use crate::progress::Progress;

/// A package, and a program that shows that it is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Package {
    name: &'static str,
    proof: &'static str,
}

/// A Docker engine, and what it calls.
pub(crate) const DOCKER: [Package; 4] = [
    Package { name: "docker.io", proof: "dockerd" },
    // For the DNS of containers on a network of their own.
    Package { name: "iptables", proof: "iptables" },
    Package { name: "iproute2", proof: "ip" },
    // Edits what the engine writes for runc, on a machine that lacks a capability.
    Package { name: "jq", proof: "jq" },
];

/// What makes base images where none can be pulled.
pub(crate) const DEBOOTSTRAP: [Package; 1] = [Package { name: "debootstrap", proof: "debootstrap" }];

/// What the tests need besides: servers on this machine.
pub(crate) const POSTGRES: [Package; 1] =
    // Its programs lie in a folder of their version; this one comes with any of them.
    [Package { name: "postgresql", proof: "pg_ctlcluster" }];
pub(crate) const JAVA: [Package; 1] = [Package { name: "openjdk-17-jre-headless", proof: "java" }];

/// What judges the alerts.
pub(crate) const PROMETHEUS: [Package; 2] = [
    Package { name: "prometheus", proof: "promtool" },
    Package { name: "prometheus-alertmanager", proof: "amtool" },
];

/// What fetches Kafka.
pub(crate) const MAVEN: [Package; 2] = [Package { name: "maven", proof: "mvn" }, JAVA[0]];

/// What fetches the mail server.
pub(crate) const NPM: [Package; 2] =
    [Package { name: "nodejs", proof: "node" }, Package { name: "npm", proof: "npm" }];

pub(crate) fn ensure(paths: &Paths, progress: &Progress, packages: &[Package]) -> Result<()> {
    progress.step("packages", |step| {
        let missing: Vec<&str> =
            packages.iter().filter(|package| !present(package)).map(|package| package.name).collect();
        if missing.is_empty() {
            step.note("all there");
            return Ok(());
        }
        let names = missing.join(" ");
        if exec::which("apt-get").is_none() {
            bail!("these Debian packages or their like are needed, and this is no Debian: {names}");
        }
        if !is_root() {
            bail!("packages are missing: run `sudo apt-get install --no-install-recommends {names}`");
        }
        step.note(format!("installed {names}"));
        let log = paths.log("packages");
        let apt = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        exec::run(apt().args(["--quiet", "update"]), &log)?;
        exec::run(apt().args(["--quiet", "install", "--yes", "--no-install-recommends"]).args(&missing), &log)
    })
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn present(package: &Package) -> bool {
    exec::which(package.proof).is_some()
}
