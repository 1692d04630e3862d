//! Runs other programs. What they print goes to a log, and the end of that log
//! is part of the error when they fail.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a log explains a failure.
const TAIL_LINES: usize = 20;

/// Runs to the end, everything printed appended to `log`.
pub(crate) fn run(command: &mut Command, log: &Path) -> Result<()> {
    start(command, log)?.wait()
}

/// Starts a program that runs beside others, everything printed appended to `log`.
pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Running> {
    let name = name(command);
    let mut file = append(log)?;
    // A log is read by people: what was run, then what it said.
    writeln!(file, "$ {}", line(command)).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = file.try_clone().with_context(|| format!("cannot write {}", log.display()))?;
    let child =
        command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().with_context(|| missing(&name))?;
    Ok(Running { child, name, log: log.to_owned() })
}

/// A program that runs. It is killed if nobody waits for its end.
pub(crate) struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Running {
    /// Waits for the end; the end of the log is part of the error.
    pub(crate) fn wait(mut self) -> Result<()> {
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        if !status.success() {
            bail!("{}: {status}\n{}", self.name, tail(&self.log));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs to the end on the caller's terminal.
pub(crate) fn inherit(command: &mut Command) -> Result<()> {
    let name = name(command);
    let shown = line(command);
    let status = command.status().with_context(|| missing(&name))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs to the end; what it printed to stdout, trimmed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| missing(&name))?;
    finished(&name, &output)
}

/// As [`output`], with something to read.
pub(crate) fn output_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    let name = name(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| missing(&name))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why; the broken pipe would hide it.
        drop(stdin.write_all(input));
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {name}"))?;
    finished(&name, &output)
}

/// Whether it can be run and ends well.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The program of this name that would be run.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    // Programs for the administrator are not always on the path of a shell.
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(extra).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn finished(name: &str, output: &Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name}: {}\n{}", output.status, last_lines(&said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

pub(crate) fn append(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))
}

/// The last lines of a log, with its name above.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    format!("last lines of {}:\n{}", log.display(), last_lines(&text))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("    | {line}")).collect::<Vec<_>>().join("\n")
}

fn name(command: &Command) -> String {
    Path::new(command.get_program())
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn missing(name: &str) -> String {
    format!("cannot run {name}: is it installed?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("step.log");
        let error = run(Command::new("sh").args(["-c", "seq 1 30; echo why >&2; exit 7"]), &log).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("exit status: 7"), "{text}");
        assert!(text.contains("    | 30\n    | why"), "{text}");
        assert!(!text.contains("    | 11\n"), "only the last lines are shown: {text}");
    }

    #[test]
    fn a_program_that_nobody_waits_for_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let running = start(Command::new("sleep").arg("60"), &dir.path().join("step.log")).unwrap();
        let process = format!("/proc/{}", running.child.id());
        assert!(Path::new(&process).exists());
        drop(running);
        assert!(!Path::new(&process).exists(), "{process} still exists");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot run no-such-program: is it installed?");
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(output_with_input(&mut Command::new("cat"), b"hello\n").unwrap(), "hello");
    }
}
