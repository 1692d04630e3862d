//! Runs the scenarios one after the other in one process against one installation, and removes it
//! afterwards.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use crate::installation::Installation;

/// With this many failures the installation itself is in doubt, and each further scenario would only
/// wait for its time limit: the remaining ones fail at once.
const MAX_FAILURES: usize = 8;

/// What the scenarios share. There is no installation while scenarios are only listed.
struct Shared {
    runtime: Runtime,
    installation: Mutex<Option<Arc<Installation>>>,
    failures: AtomicUsize,
}

pub struct Suite {
    shared: Arc<Shared>,
    trials: Vec<Trial>,
}

impl Suite {
    pub fn new() -> Result<Self> {
        let runtime = Runtime::new().context("start tokio")?;
        let shared =
            Arc::new(Shared { runtime, installation: Mutex::new(None), failures: AtomicUsize::new(0) });
        Ok(Self { shared, trials: Vec::new() })
    }

    /// Adds a scenario. Its name states what it tests. After each, the invariants of the months that have
    /// a run are checked.
    pub fn scenario(
        &mut self,
        name: &str,
        scenario: impl AsyncFnOnce(&Installation) -> Result<()> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        self.trials.push(Trial::test(name.to_owned(), move || shared.run_scenario(scenario)));
    }

    /// Runs the scenarios that the command line selects, like any test binary.
    #[expect(clippy::print_stderr, reason = "a test runner reports progress on stderr")]
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads = Some(1);
        if arguments.list {
            return libtest_mimic::run(&arguments, self.trials).exit_code();
        }
        let start = Instant::now();
        match self.shared.runtime.block_on(Installation::create()) {
            Ok(installation) => self.shared.put(Some(installation)),
            Err(error) => {
                eprintln!("The tests' installation could not be created: {error:#}");
                return ExitCode::FAILURE;
            }
        }
        eprintln!("The tests' installation is ready after {:.0?}", start.elapsed());
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        let removed = match self.shared.installation() {
            Some(installation) if !conclusion.has_failed() => {
                self.shared.runtime.block_on(installation.remove())
            }
            _ => {
                eprintln!(
                    "The tests' namespace and database are kept for inspection; the next test run removes them."
                );
                Ok(())
            }
        };
        if let Err(error) = removed {
            eprintln!("The tests' installation could not be removed: {error:#}");
            return ExitCode::FAILURE;
        }
        conclusion.exit_code()
    }
}

impl Shared {
    fn put(&self, installation: Option<Installation>) {
        if let Ok(mut shared) = self.installation.lock() {
            *shared = installation.map(Arc::new);
        }
    }

    fn installation(&self) -> Option<Arc<Installation>> {
        self.installation.lock().ok().and_then(|shared| shared.clone())
    }

    #[expect(clippy::print_stderr, reason = "a test runner reports progress on stderr")]
    fn run_scenario(&self, scenario: impl AsyncFnOnce(&Installation) -> Result<()>) -> Result<(), Failed> {
        let installation = self.installation().ok_or("there is no installation to test")?;
        if self.failures.load(Ordering::Relaxed) >= MAX_FAILURES {
            return Err(format!("not run, as {MAX_FAILURES} scenarios have failed").into());
        }
        self.runtime.block_on(async {
            let start = Instant::now();
            let mut outcome = scenario(&installation).await;
            let acted = start.elapsed();
            if outcome.is_ok() {
                outcome = installation.invariants_hold().await;
            }
            let checked = start.elapsed();
            if let Err(error) = &outcome {
                // Printed at once and only here: the list of failures at the end has one short text for each.
                eprintln!("{}\n{}", causes(error), installation.diagnosis().await);
            }
            let cleaned = installation.clean_up().await.context("clean up after the scenario");
            eprintln!(
                "    {:.0?}, invariants {:.1?}, clean-up {:.1?}",
                acted,
                checked - acted,
                start.elapsed() - checked
            );
            outcome.and(cleaned).map_err(|error| {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Failed::from(causes(&error))
            })
        })
    }
}

/// An error with its causes, without the backtrace that a test runner may have asked for.
fn causes(error: &anyhow::Error) -> String {
    error.chain().map(|cause| format!("{cause}\n")).collect()
}
