//! The Docker engine that kind's nodes run in and that builds the images: the machine's own where
//! one answers, otherwise Debian's, started here and ended with the cluster.

mod cleanup;
mod kernel_settings;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::daemon::Daemons;
use crate::paths::{Paths, write_if_changed};
use crate::progress::{Progress, wait_for};
use crate::{exec, packages};

/// Sockets and what a reboot should forget; short, for a socket's path has at most 107 bytes.
const RUN: &str = "/run/monthend";
const DAEMON: &str = "dockerd";
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A runtime for containers on a machine that lacks CAP_SYS_RESOURCE.
const RUNTIME: &str = include_str!("runc-without-sys-resource");
/// The bit of that capability.
const SYS_RESOURCE: u32 = 24;

/// Which engine a cluster runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// The one that the docker command finds by itself.
    Machine,
    /// One that this program starts and stops.
    Own,
}

impl Engine {
    /// The machine's engine if one answers, otherwise one of our own.
    ///
    /// # Errors
    /// When there is neither, with what to install.
    pub(crate) fn choose() -> Result<Self> {
        let answer = exec::output(Command::new("docker").arg("info"));
        match answer {
            Ok(_) => Ok(Self::Machine),
            Err(_) if packages::is_root() && exec::which("apt-get").is_some() => Ok(Self::Own),
            Err(error) => Err(error).context(
                "no Docker engine answers: start it, or install Docker (https://docs.docker.com/engine/install/); \
                 as root on Debian this command installs and starts one",
            ),
        }
    }

    /// Has the engine running.
    pub(crate) fn ensure(self, paths: &Paths, progress: &Progress) -> Result<()> {
        match self {
            Self::Machine => progress.step("Docker engine", |step| {
                step.note(format!("the machine's, {}", self.version()?));
                Ok(())
            }),
            Self::Own => {
                packages::ensure(paths, progress, &packages::DOCKER)?;
                progress.step("Docker engine", |step| {
                    self.start(paths)?;
                    step.note(format!("Debian's, {}", self.version()?));
                    Ok(())
                })
            }
        }
    }

    /// Ends an engine of our own with all that it left on the machine; the machine's stays as it
    /// is.
    pub(crate) fn stop(self, paths: &Paths) -> Result<()> {
        if self == Self::Machine {
            return Ok(());
        }
        daemons(paths).stop(DAEMON)?;
        cleanup::remove(&folder(paths), Path::new(RUN))?;
        kernel_settings::restore(&saved_settings(paths))
    }

    /// The docker command, for this engine.
    pub(crate) fn docker(self) -> Command {
        let mut command = Command::new("docker");
        self.configure(&mut command);
        command
    }

    /// Makes a command that calls docker, such as kind, use this engine.
    pub(crate) fn configure(self, command: &mut Command) {
        if let Some(host) = self.host() {
            command.env("DOCKER_HOST", host).env_remove("DOCKER_CONTEXT");
            // Debian's engine is older than the builder plug-in of today's docker command.
            command.env("DOCKER_BUILDKIT", "0");
        }
    }

    /// Its address, where the docker command does not find it by itself.
    pub(crate) fn host(self) -> Option<String> {
        (self == Self::Own).then(|| format!("unix://{RUN}/docker.sock"))
    }

    /// Has the image, from its registry where it is not here yet. False when it can't be had.
    pub(crate) fn has_or_pulls(self, image: &str) -> bool {
        self.has(image) || exec::succeeds(self.docker().args(["pull", "--quiet", image]))
    }

    pub(crate) fn has(self, image: &str) -> bool {
        exec::succeeds(self.docker().args(["image", "inspect", image]))
    }

    fn version(self) -> Result<String> {
        exec::output(self.docker().args(["version", "--format", "{{.Server.Version}}"]))
    }

    fn start(self, paths: &Paths) -> Result<()> {
        let folder = folder(paths);
        cleanup::note_places(&folder)?;
        kernel_settings::save(&saved_settings(paths))?;
        let config = folder.join("daemon.json");
        let content = if has_capability(SYS_RESOURCE)? {
            serde_json::json!({})
        } else {
            let runtime = folder.join("runc-without-sys-resource");
            write_if_changed(&runtime, RUNTIME.as_bytes())?;
            fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("cannot make {} executable", runtime.display()))?;
            serde_json::json!({
                "runtimes": {"runc-without-sys-resource": {"path": runtime}},
                "default-runtime": "runc-without-sys-resource",
            })
        };
        let content = serde_json::to_string_pretty(&content)?;
        write_if_changed(&config, content.as_bytes())?;
        let run = Path::new(RUN);
        let mut command = Command::new("dockerd");
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        command
            .args([
                flag("config-file", &config),
                // Images are a cache: they outlive the cluster.
                flag("data-root", &paths.cache.join("docker")),
                flag("exec-root", &run.join("docker")),
                flag("pidfile", &run.join("docker.pid")),
            ])
            .arg(format!("--host=unix://{}", run.join("docker.sock").display()))
            // The machine's firewall and addresses stay as they are: builds use the machine's network, nodes
            // reach each other over their bridge, and published ports are relayed by
            // docker-proxy.
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--ip-forward=false", "--ip-masq=false"]);
        let daemons = daemons(paths);
        daemons.start(DAEMON, &command, &content)?;
        wait_for(
            START_TIMEOUT,
            || {
                daemons.check(DAEMON)?;
                Ok(self.version().ok().map(drop))
            },
            || format!("the Docker engine does not answer\n{}", exec::tail(&daemons.log(DAEMON))),
        )
    }
}

fn folder(paths: &Paths) -> PathBuf {
    paths.state.join("docker")
}

fn daemons(paths: &Paths) -> Daemons {
    Daemons::new(&folder(paths))
}

fn saved_settings(paths: &Paths) -> PathBuf {
    folder(paths).join("kernel-settings.json")
}

/// Whether processes of this machine can have the capability.
fn has_capability(bit: u32) -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    bounding_set(&status)
        .map(|set| set & (1 << bit) != 0)
        .context("/proc/self/status has no line CapBnd with a hexadecimal number")
}

fn bounding_set(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_set_is_read_from_the_status_of_a_process() {
        let status = "Name:\tcat\nCapInh:\t0000000000000000\nCapBnd:\t000001fffeffffff\nSeccomp:\t0\n";
        let set = bounding_set(status).unwrap();
        assert_eq!(set & (1 << SYS_RESOURCE), 0);
        assert_ne!(set & (1 << (SYS_RESOURCE - 1)), 0);
        assert_eq!(bounding_set("Name:\tcat\n"), None);
    }

    #[test]
    fn an_engine_of_our_own_is_named_to_every_command_and_the_machines_is_not() {
        let value = |engine: Engine| {
            let command = engine.docker();
            let found = command.get_envs().find(|(name, _)| *name == "DOCKER_HOST");
            found.and_then(|(_, value)| Some(value?.to_string_lossy().into_owned()))
        };
        assert_eq!(value(Engine::Own).as_deref(), Some("unix:///run/monthend/docker.sock"));
        assert_eq!(value(Engine::Machine), None);
    }
}
