//! Programs that go on after this command ends, kept by their process ids in
//! files. A process id alone is not enough: ids are used again. What is ended
//! is only the process that was started, known by its start time and boot.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::exec;
use crate::paths::write_if_changed;

const TERM_PATIENCE: Duration = Duration::from_secs(10);

/// The processes of one cluster.
pub(crate) struct Daemons {
    /// One record for each process that was started.
    pids: PathBuf,
    logs: PathBuf,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// Clock ticks between boot and start, from /proc.
    start: u64,
    boot: String,
    /// Of the command line and configuration that it was started with.
    fingerprint: String,
}

/// What a start came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    AlreadyRunning,
    Anew,
}

impl Daemons {
    pub(crate) fn new(state: &Path) -> Self {
        Self { pids: state.join("pids"), logs: state.join("logs") }
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Starts it unless it runs already with the same command line and
    /// configuration (`config`: the content of its configuration file).
    pub(crate) fn start(&self, name: &str, command: &Command, config: &str) -> Result<Started> {
        let fingerprint = fingerprint(command, config);
        if let Some(record) = self.running(name)? {
            if record.fingerprint == fingerprint {
                return Ok(Started::AlreadyRunning);
            }
            self.stop(name)?;
        }
        let log = self.log(name);
        fs::create_dir_all(&self.logs).with_context(|| format!("cannot create {}", self.logs.display()))?;
        let open = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&log)
                .with_context(|| format!("cannot write {}", log.display()))
        };
        // A session of its own: Ctrl-C and a closed terminal don't reach it.
        let child = Command::new("setsid")
            .arg(command.get_program())
            .args(command.get_args())
            .envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pid = i32::try_from(child.id()).context("a process id out of range")?;
        let Some(start) = start_time(pid) else {
            bail!("{name} ended as soon as it was started\n{}", exec::tail(&log));
        };
        let record = Record { pid, start, boot: boot_id()?, fingerprint };
        write_if_changed(&self.file(name), &serde_json::to_vec(&record)?)?;
        Ok(Started::Anew)
    }

    /// Fails with the end of its log when it no longer runs.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        if self.running(name)?.is_none() {
            bail!("{name} is not running\n{}", exec::tail(&self.log(name)));
        }
        Ok(())
    }

    /// Ends it and forgets it; nothing to do when it is gone already.
    pub(crate) fn stop(&self, name: &str) -> Result<()> {
        if let Some(record) = self.running(name)? {
            let pid = Pid::from_raw(record.pid).context("a process id of 0")?;
            end(pid, Signal::TERM)?;
            if !gone_within(&record, TERM_PATIENCE) {
                end(pid, Signal::KILL)?;
                if !gone_within(&record, TERM_PATIENCE) {
                    bail!("{name} (process {}) does not end", record.pid);
                }
            }
        }
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.file(name).display()))
            }
            _ => Ok(()),
        }
    }

    fn running(&self, name: &str) -> Result<Option<Record>> {
        let Ok(bytes) = fs::read(self.file(name)) else { return Ok(None) };
        let record: Record = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not ours", self.file(name).display()))?;
        let same = record.boot == boot_id()? && start_time(record.pid) == Some(record.start);
        Ok(same.then_some(record))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.pids.join(format!("{name}.json"))
    }
}

fn end(pid: Pid, signal: Signal) -> Result<()> {
    match kill_process(pid, signal) {
        Err(error) if error != rustix::io::Errno::SRCH => {
            Err(error).with_context(|| format!("cannot end process {}", pid.as_raw_nonzero()))
        }
        _ => Ok(()),
    }
}

fn gone_within(record: &Record, limit: Duration) -> bool {
    let since = Instant::now();
    while start_time(record.pid) == Some(record.start) {
        if since.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn fingerprint(command: &Command, config: &str) -> String {
    let mut hash = Sha256::new();
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        hash.update(word.as_encoded_bytes());
        hash.update([0]);
    }
    hash.update(config);
    hex(&hash.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn boot_id() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
    Ok(id.trim().to_owned())
}

/// When the process started; nothing for one that is gone or a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let state = *fields.first()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    #[test]
    fn starts_once_and_stops() {
        let dir = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(dir.path());
        assert_eq!(daemons.start("nap", &sleeper(), "").unwrap(), Started::Anew);
        assert_eq!(daemons.start("nap", &sleeper(), "").unwrap(), Started::AlreadyRunning);
        assert_eq!(daemons.start("nap", &sleeper(), "other configuration").unwrap(), Started::Anew);
        assert!(daemons.running("nap").unwrap().is_some());
        daemons.stop("nap").unwrap();
        assert!(daemons.running("nap").unwrap().is_none());
        daemons.stop("nap").unwrap();
    }

    #[test]
    fn a_process_id_used_again_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(dir.path());
        daemons.start("nap", &sleeper(), "").unwrap();
        let file = daemons.file("nap");
        let original = fs::read(&file).unwrap();
        let mut record: Record = serde_json::from_slice(&original).unwrap();
        let pid = record.pid;
        record.start += 1;
        fs::write(&file, serde_json::to_vec(&record).unwrap()).unwrap();
        daemons.stop("nap").unwrap();
        assert!(start_time(pid).is_some(), "the process that now has the id must live");
        fs::write(&file, original).unwrap();
        daemons.stop("nap").unwrap();
        assert!(start_time(pid).is_none());
    }

    #[test]
    fn one_that_ended_is_reported_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(dir.path());
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such luck; sleep 0.2; exit 3"]);
        daemons.start("brief", &command, "").unwrap();
        while daemons.running("brief").unwrap().is_some() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let error = daemons.check("brief").unwrap_err().to_string();
        assert!(error.contains("brief is not running") && error.contains("| no such luck"), "{error}");
    }
}
