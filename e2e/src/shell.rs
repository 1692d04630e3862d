//! Commands as a person types them: kubectl, helm and the worker.

use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

/// Runs a command to its end, whatever that is.
pub async fn attempt(command: &[&str], env: &[(&str, &str)], stdin: Option<&str>) -> Result<Said> {
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
            format!(
                "start `{program}`: is it installed, and `eval \"$(cargo xtask env)\"` done in this shell?"
            )
        })?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).await.with_context(|| format!("write to `{program}`"))?;
    }
    let Output { status, stdout, stderr } = child.wait_with_output().await?;
    Ok(Said {
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        code: status.code(),
    })
}

/// Runs a command that has to succeed; its standard output.
pub async fn run(command: &[&str], env: &[(&str, &str)], stdin: Option<&str>) -> Result<String> {
    let said = attempt(command, env, stdin).await?;
    if said.code != Some(0) {
        bail!(
            "`{}` ended with {:?}\n{}{}",
            command.join(" "),
            said.code,
            tail(&said.stdout, 30),
            tail(&said.stderr, 30)
        );
    }
    Ok(said.stdout)
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.iter().skip(all.len().saturating_sub(lines)).flat_map(|line| [line, "\n"]).collect()
}
