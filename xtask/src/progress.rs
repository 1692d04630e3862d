//! Shows what is going on: one line for each step, with the time it took.
//!
//! On a terminal the line of the running step is live. Elsewhere a step says
//! now and then that it still runs, so that a quiet log isn't taken for a
//! stuck one. Everything goes to stderr: stdout belongs to the results.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::interrupt;

const REDRAW: Duration = Duration::from_millis(200);
const REASSURE: Duration = Duration::from_secs(30);

/// The steps of one command.
pub(crate) struct Progress {
    started: Instant,
    silent: bool,
    times: RefCell<Vec<(String, Duration)>>,
}

/// What a running step may add to its line.
pub(crate) struct Step(RefCell<String>);

impl Step {
    /// A word on what the step found or did, shown behind its name.
    pub(crate) fn note(&self, text: impl Into<String>) {
        *self.0.borrow_mut() = text.into();
    }
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), silent: false, times: RefCell::default() }
    }

    /// Shows nothing; errors still say which step they are of.
    pub(crate) fn silent() -> Self {
        Self { silent: true, ..Self::new() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What each step took, in order.
    pub(crate) fn times(&self) -> Vec<(String, Duration)> {
        self.times.borrow().clone()
    }

    /// A step whose line is all that is seen of it.
    pub(crate) fn step<T>(&self, title: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        interrupt::check()?;
        let start = Instant::now();
        let step = Step(RefCell::default());
        let result = thread::scope(|scope| {
            let (done, wait) = mpsc::channel::<()>();
            if !self.silent {
                scope.spawn(move || redraw(title, start, &wait));
            }
            let result = work(&step);
            drop(done);
            result
        });
        self.finish(title, start, &step.0.take(), result)
    }

    /// A step that prints for itself, between a heading and its line.
    pub(crate) fn section<T>(&self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        interrupt::check()?;
        eprintln!("── {title}");
        let start = Instant::now();
        let result = work();
        self.finish(title, start, "", result)
    }

    fn finish<T>(&self, title: &str, start: Instant, note: &str, result: Result<T>) -> Result<T> {
        let took = start.elapsed();
        let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
        let clear = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        let mark = if result.is_ok() { "✓" } else { "✗" };
        if !self.silent {
            eprintln!("{clear}{mark} {title}{note}  {}", seconds(took));
        }
        self.times.borrow_mut().push((title.to_owned(), took));
        // Ctrl-C also ends what we were running; its error isn't the reason.
        if result.is_err() {
            interrupt::check()?;
        }
        result.with_context(|| format!("{title} failed"))
    }
}

fn redraw(title: &str, start: Instant, done: &mpsc::Receiver<()>) {
    let live = io::stderr().is_terminal();
    let every = if live { REDRAW } else { REASSURE };
    while done.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        let mut err = io::stderr().lock();
        // Progress that can't be shown is no reason to stop the work.
        drop(if live {
            write!(err, "\r\x1b[K… {title}  {}", seconds(start.elapsed())).and_then(|()| err.flush())
        } else {
            writeln!(err, "… {title}  {} so far", seconds(start.elapsed()))
        });
    }
}

/// A duration as people read it.
pub(crate) fn seconds(took: Duration) -> String {
    let whole = took.as_secs();
    if whole >= 60 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{}.{} s", whole, took.subsec_millis() / 100)
    }
}

/// Asks again and again until there is an answer. The error of a time-out is
/// what `describe` knows by then.
pub(crate) fn wait_for<T>(
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
    describe: impl FnOnce() -> String,
) -> Result<T> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            bail!("not after {}: {}", seconds(limit), describe());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        assert_eq!(seconds(Duration::from_millis(1_290)), "1.2 s");
        assert_eq!(seconds(Duration::from_millis(125_400)), "2 min 05 s");
    }

    #[test]
    fn a_failed_step_names_itself_and_is_timed() {
        let progress = Progress::new();
        let error = progress.step("making tea", |_| -> Result<()> { bail!("no water") }).unwrap_err();
        assert_eq!(format!("{error:#}"), "making tea failed: no water");
        assert_eq!(progress.times().len(), 1);
    }

    #[test]
    fn waiting_ends_with_what_is_known() {
        let error =
            wait_for(Duration::ZERO, || Ok(None::<()>), || "the pod is Pending".to_owned()).unwrap_err();
        assert_eq!(error.to_string(), "not after 0.0 s: the pod is Pending");
    }
}
