//! Runs commands as a person would: kubectl, helm and monthend.

use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// The output and the exit code of a command.
#[derive(Debug)]
pub struct CommandOutput {
    pub stdout: String,
    pub stderr: String,
    /// None if a signal ended the command.
    pub code: Option<i32>,
}

/// Runs a command to its end, with any exit code.
pub async fn capture(command: &[&str], env: &[(&str, &str)], stdin: Option<&str>) -> Result<CommandOutput> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(env.iter().copied())
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            format!("start `{program}`: install it, and run `eval \"$(cargo xtask env)\"` in this shell")
        })?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).await.with_context(|| format!("write to `{program}`"))?;
    }
    let Output { status, stdout, stderr } = child.wait_with_output().await?;
    Ok(CommandOutput {
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        code: status.code(),
    })
}

/// Runs a command that must succeed. Returns its standard output.
pub async fn run(command: &[&str], env: &[(&str, &str)], stdin: Option<&str>) -> Result<String> {
    let output = capture(command, env, stdin).await?;
    if output.code != Some(0) {
        bail!(
            "`{}` exited with {:?}\n{}{}",
            command.join(" "),
            output.code,
            tail(&output.stdout, 30),
            tail(&output.stderr, 30)
        );
    }
    Ok(output.stdout)
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.iter().skip(all.len().saturating_sub(lines)).flat_map(|line| [line, "\n"]).collect()
}

/// The path as an argument of a command.
pub fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
