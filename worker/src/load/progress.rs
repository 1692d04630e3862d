//! How far a load or seed is: in the log and, for other processes that wait for it, in `job_log`.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::json;
use store::job_log;
use store::pool::connect_one;

use crate::output::{format_duration, rows_per_second};

/// Time between two reports.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// The current step and its rows, shared by the threads and tasks that do the work.
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

    /// Starts the next step; rows are counted from 0 again.
    pub(crate) fn step(&self, name: impl Into<String>) {
        let name = name.into();
        tracing::debug!(step = name, "starting");
        self.0.rows.store(0, Ordering::Relaxed);
        *self.0.step.lock().unwrap_or_else(PoisonError::into_inner) = (name, Instant::now());
    }

    pub(crate) fn add(&self, rows: u64) {
        self.0.rows.fetch_add(rows, Ordering::Relaxed);
    }

    fn current(&self) -> (String, Duration, u64) {
        let step = self.0.step.lock().unwrap_or_else(PoisonError::into_inner);
        (step.0.clone(), step.1.elapsed(), self.0.rows.load(Ordering::Relaxed))
    }

    /// Reports the progress every two seconds, until it is dropped.
    pub(crate) async fn report(&self, url: &SecretString, job: i64) -> Infallible {
        let mut connection = connect_one(url, "monthend progress").await.ok();
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            let (step, time, rows) = self.current();
            if rows == 0 {
                tracing::info!(step, elapsed = format_duration(time), "working");
            } else {
                tracing::info!(
                    step,
                    rows,
                    elapsed = format_duration(time),
                    rows_per_second = rows_per_second(rows, time),
                    "working"
                );
            }
            if let Some(connected) = &mut connection {
                let progress = json!({ "step": step, "rows": rows });
                // Nothing depends on this report.
                if job_log::update_progress(connected, job, &progress).await.is_err() {
                    connection = None;
                }
            }
        }
    }
}
