//! The decisions that are the same for every kind of run: the database is unavailable, the run is
//! being deleted, the run is over. Pure.

use std::time::Duration;

use api::conditions::{ConditionUpdate, PROGRESSING, STARTED};
use api::labels::FINALIZER;
use api::reconciled::ReconciledStatus as _;
use api::run::{Run, RunPhase as _, RunSpec as _, RunStatus};
use jiff::Timestamp;

use super::decision::{Decision, Next};
use super::status_builder::StatusBuilder;
use super::worker_job::{JobAction, JobState, POLL_RUNNING};

/// In seconds: a run with a longer time to live is reconciled again in between.
const LONGEST_WAIT: i64 = 3600;

pub(crate) fn has_finalizer(run: &impl Run) -> bool {
    run.meta().finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// A run that is over: it is deleted once its time to live, if it has one, is over.
pub(crate) fn ttl_after_finished<R: Run, A>(run: &R, now: Timestamp) -> Decision<R::Status, A> {
    let mut status = run.status().cloned().unwrap_or_default();
    status.set_observed_generation(run.meta().generation);
    let next = match (run.spec().ttl_seconds_after_finished(), status.completion_time()) {
        (Some(seconds), Some(ended)) => {
            let left = seconds.saturating_sub(now.duration_since(ended).as_secs());
            match u64::try_from(left.min(LONGEST_WAIT)) {
                Ok(left) if left > 0 => Next::RequeueAfter(Duration::from_secs(left)),
                _ => Next::DeleteRun,
            }
        }
        _ => Next::AwaitChange,
    };
    Decision { status, next }
}

/// Ends the run with this status.
pub(crate) fn finish<R: Run, A>(run: &R, now: Timestamp, status: R::Status) -> Decision<R::Status, A> {
    ttl_after_finished(&run.with_status(status), now)
}

/// The database cannot be read, for this reason.
pub(crate) fn database_unavailable<R: Run, A>(
    run: &R,
    now: Timestamp,
    problem: &str,
) -> Decision<R::Status, A> {
    if run.has_begun() {
        back_off(
            run,
            now,
            PROGRESSING,
            "DatabaseUnavailable",
            format!("{problem}; the run resumes as soon as the database answers"),
        )
    } else {
        back_off(
            run,
            now,
            STARTED,
            "DatabaseUnavailable",
            format!("{problem}; the run starts as soon as the database answers"),
        )
    }
}

/// The run is blocked, and no watch reports when it no longer is.
pub(crate) fn back_off<R: Run, A>(
    run: &R,
    now: Timestamp,
    type_: &'static str,
    reason: &'static str,
    message: impl Into<String>,
) -> Decision<R::Status, A> {
    let update = ConditionUpdate::new(type_, false, reason, message);
    let status = StatusBuilder::from_last(run, now, phase(run)).condition(update).build();
    Decision { status, next: Next::BackOff }
}

/// The status of a run that is being deleted. A run that was over keeps its last status.
pub(crate) fn deleting_status<R: Run>(run: &R, now: Timestamp, message: &str) -> R::Status {
    if run.is_over() {
        return run.status().cloned().unwrap_or_default();
    }
    let update = ConditionUpdate::new(PROGRESSING, false, "Deleting", message);
    StatusBuilder::from_last(run, now, phase(run)).condition(update).build()
}

/// Deletes the run's Jobs and waits for its pods to end. None once no worker is left.
pub(crate) fn stop_workers<'a, R: Run, A>(
    run: &R,
    now: Timestamp,
    jobs: impl IntoIterator<Item = &'a JobState>,
    pods: usize,
    action: impl FnOnce(JobAction) -> A,
) -> Option<Decision<R::Status, A>> {
    let (mut to_delete, mut terminating) = (None, pods > 0);
    for job in jobs {
        if job.deleting {
            terminating = true;
        } else {
            to_delete = Some(job.name.clone());
        }
    }
    let next = match (to_delete, terminating) {
        (Some(name), _) => Next::Apply(action(JobAction::Delete(name))),
        (None, true) => Next::RequeueAfter(POLL_RUNNING),
        (None, false) => return None,
    };
    Some(Decision { status: deleting_status(run, now, "the workers are being stopped"), next })
}

fn phase<R: Run>(run: &R) -> <R::Status as RunStatus>::Phase {
    run.phase().unwrap_or(<R::Status as RunStatus>::Phase::PENDING)
}

/// The reason for which a run ended early, as it is kept in the database: `CODE: MESSAGE`, where
/// CODE is one of `codes`. A reason that somebody else wrote has no code.
pub(crate) fn split_reason<'a>(kept: &'a str, codes: &[&'static str]) -> Option<(&'static str, &'a str)> {
    codes.iter().find_map(|code| Some((*code, kept.strip_prefix(code)?.strip_prefix(": ")?)))
}
