//! Worker processes, watched while they run.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::process::Command;

use crate::cpu;

/// A worker binary with what all its commands need.
pub(crate) struct Worker<'a> {
    pub(crate) program: &'a Path,
    pub(crate) database: &'a SecretString,
    pub(crate) keys: &'a Path,
}

/// What one process took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) peak_memory: u64,
}

impl Worker<'_> {
    /// Runs a command to its end.
    pub(crate) async fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Took> {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .env("DATABASE_URL", self.database.expose_secret())
            .env("MONTHEND_KEYS_DIR", self.keys)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let begun = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let pid = child.id().context("the worker has ended already")?;
        let mut peak_memory = 0;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                _ = look.tick() => peak_memory = peak_memory.max(cpu::peak_memory(pid).unwrap_or_default()),
            }
        };
        anyhow::ensure!(status.success(), "{:?} ended with {status}", command.as_std());
        Ok(Took { wall: begun.elapsed(), peak_memory })
    }
}
