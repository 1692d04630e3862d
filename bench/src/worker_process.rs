//! Starts monthend processes and measures their time and memory.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::process_stats;

/// The monthend program and the settings that all of its sub-commands need.
pub(crate) struct WorkerProgram<'a> {
    pub(crate) program: &'a Path,
    pub(crate) database: &'a SecretString,
    pub(crate) keys: &'a Path,
}

/// The cost of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessCost {
    pub(crate) wall: Duration,
    pub(crate) peak_memory: u64,
    /// Up to the last sample.
    pub(crate) cpu: Duration,
}

impl WorkerProgram<'_> {
    /// Runs a command to its end.
    pub(crate) async fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<ProcessCost> {
        self.start(arguments)?.end().await
    }

    /// Starts a command and samples it from then on.
    pub(crate) fn start<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Running> {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .env("DATABASE_URL", self.database.expose_secret())
            .env("MONTHEND_KEYS_DIR", self.keys)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let pid = child.id().context("the process has ended already")?;
        Ok(Running { pid, end: tokio::spawn(watch(command, child, pid, begun)) })
    }
}

/// A running process, which is killed when the value is dropped.
pub(crate) struct Running {
    pid: u32,
    end: JoinHandle<anyhow::Result<ProcessCost>>,
}

impl Running {
    /// Waits until it exits.
    pub(crate) async fn end(mut self) -> anyhow::Result<ProcessCost> {
        (&mut self.end).await?
    }

    /// Sends SIGTERM and waits until it exits.
    pub(crate) async fn terminate(self) -> anyhow::Result<ProcessCost> {
        let asked = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await?;
        anyhow::ensure!(
            asked.success() || self.end.is_finished(),
            "cannot send SIGTERM to process {}",
            self.pid
        );
        self.end().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.abort();
    }
}

async fn watch(command: Command, mut child: Child, pid: u32, begun: Instant) -> anyhow::Result<ProcessCost> {
    let (mut peak_memory, mut cpu) = (0, Duration::ZERO);
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = interval.tick() => {
                peak_memory = peak_memory.max(process_stats::peak_memory(pid).unwrap_or_default());
                cpu = cpu.max(process_stats::cpu_of_process(pid).unwrap_or_default());
            }
        }
    };
    anyhow::ensure!(status.success(), "{:?} exited with {status}", command.as_std());
    Ok(ProcessCost { wall: begun.elapsed(), peak_memory, cpu })
}
