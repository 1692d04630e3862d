//! What a person sees of a load: how far it is, and what came of it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Value, json};
use store::job_log;
use store::pool::connect_one;

use super::file::File;
use crate::terminal::{elapsed, grouped, rate, say};

const INTERVAL: Duration = Duration::from_secs(2);

/// How far a load or seed is, shared with whoever does the work.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    step: Mutex<(String, Instant)>,
    rows: AtomicU64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { step: Mutex::new((String::new(), Instant::now())), rows: AtomicU64::new(0) }))
    }

    /// Begins the next step; rows count from 0 again.
    pub(crate) fn step(&self, name: impl Into<String>) {
        let name = name.into();
        tracing::debug!(step = name, "begins");
        self.0.rows.store(0, Ordering::Relaxed);
        *self.0.step.lock().unwrap_or_else(PoisonError::into_inner) = (name, Instant::now());
    }

    pub(crate) fn add(&self, rows: u64) {
        self.0.rows.fetch_add(rows, Ordering::Relaxed);
    }

    fn look(&self) -> (String, Duration, u64) {
        let step = self.0.step.lock().unwrap_or_else(PoisonError::into_inner);
        (step.0.clone(), step.1.elapsed(), self.0.rows.load(Ordering::Relaxed))
    }

    /// Tells how far it is every two seconds, here and in `job_log`, until it is dropped.
    pub(crate) async fn tell(&self, url: &SecretString, job: i64) -> Infallible {
        let mut connection = connect_one(url, "worker progress").await.ok();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let (step, time, rows) = self.look();
            if rows == 0 {
                tracing::info!(step, elapsed = elapsed(time), "working");
            } else {
                tracing::info!(
                    step,
                    rows,
                    elapsed = elapsed(time),
                    rows_per_second = rate(rows, time),
                    "working"
                );
            }
            if let Some(connected) = &mut connection {
                let progress = json!({ "step": step, "rows": rows });
                // Nothing depends on it: who waits is told less.
                if job_log::report(connected, job, &progress).await.is_err() {
                    connection = None;
                }
            }
        }
    }
}

/// What became of the lines of one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) new: u64,
    pub(crate) rejects: u64,
    pub(crate) addresses_dropped: u64,
}

impl Tally {
    /// Lines that brought nothing new: repeated, or outdone by a later one.
    pub(crate) fn unchanged(self) -> u64 {
        self.rows - self.new - self.rejects
    }
}

/// For `job_log`.
pub(crate) fn detail(tallies: &BTreeMap<File, Tally>) -> Value {
    let files: serde_json::Map<_, _> = tallies
        .iter()
        .map(|(file, tally)| {
            let mut counts = json!({
                "rows": tally.rows, "new": tally.new, "unchanged": tally.unchanged(), "rejects": tally.rejects,
            });
            if tally.addresses_dropped > 0 {
                counts["addressesDropped"] = tally.addresses_dropped.into();
            }
            (file.name().to_owned(), counts)
        })
        .collect();
    json!({ "files": files })
}

/// For a person.
pub(crate) fn table(tallies: &BTreeMap<File, Tally>) {
    say(format_args!("{:<18} {:>14} {:>14} {:>14} {:>10}", "file", "rows", "new", "unchanged", "rejects"));
    for (file, tally) in tallies {
        say(format_args!(
            "{:<18} {:>14} {:>14} {:>14} {:>10}",
            file.name(),
            grouped(tally.rows),
            grouped(tally.new),
            grouped(tally.unchanged()),
            grouped(tally.rejects)
        ));
    }
}
