//! Runs the programs of a server.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Runs a program to its end. It inherits stderr.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    // A server that the program starts would keep a pipe open.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} exited with {status}");
    Ok(())
}
