//! The decisions that are the same for every kind of run: the database is unavailable, the run is
//! being deleted, the run is over. Pure.

use std::time::Duration;

use api::conditions::{self, ConditionUpdate, FAILED, FINISHED, PROGRESSING, STARTED};
use api::labels::FINALIZER;
use api::reasons;
use api::run::{Run, RunPhase as _, RunSpec as _, RunStatus};
use jiff::{SignedDuration, Timestamp};

use super::decision::{Decision, Next};
use super::run_loop::failure;
use super::status_builder::StatusBuilder;
use super::worker_job::{JobAction, JobState, POLL_RUNNING};

/// In seconds: a run with a longer time to live is reconciled again in between.
const LONGEST_WAIT: i64 = 3600;
/// Longer than a worker's grace period and the end of its pod on a healthy node.
const LONGEST_DELETION: SignedDuration = SignedDuration::from_mins(2);

pub(crate) fn has_finalizer(run: &impl Run) -> bool {
    run.meta().finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// A run that is over: it needs no finalizer, and is deleted once its time to live, if it has one, is
/// over.
pub(crate) fn ttl_after_finished<R: Run, A>(run: &R, now: Timestamp) -> Decision<R::Status, A> {
    let status = StatusBuilder::finished(run, now);
    let next = match (run.spec().ttl_seconds_after_finished(), status.completion_time()) {
        _ if has_finalizer(run) => Next::RemoveFinalizer,
        // Whatever created it again would do so once more.
        _ if name_used(run) => Next::AwaitChange,
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

/// Whether the run ended because an earlier run of its name has had its effect.
fn name_used(run: &impl Run) -> bool {
    conditions::find(run.conditions(), FAILED)
        .is_some_and(|failed| failed.status == "True" && failed.reason == reasons::NAME_USED)
}

/// Ends a run whose name an earlier run has used, without doing anything. `effect` says when that run
/// ended and with what.
pub(crate) fn name_was_used<R: Run, A>(run: &R, now: Timestamp, effect: &str) -> Decision<R::Status, A> {
    let message = format!(
        "an earlier run of this name {effect}. Its ttlSecondsAfterFinished, or somebody, deleted it since, and something, \
         such as Argo CD or Flux, created it again; this run changes nothing, and is kept whatever its ttl. To ask for more, \
         use another metadata.name; so that it is not created again, remove it from Git, or set no ttlSecondsAfterFinished"
    );
    let update = |type_, status| ConditionUpdate::new(type_, status, reasons::NAME_USED, message.clone());
    let status = StatusBuilder::from_last(run, now, <R::Status as RunStatus>::Phase::FAILED)
        .condition(update(STARTED, false))
        .condition(update(FAILED, true))
        .condition(update(FINISHED, true))
        .completed_at(now)
        .build();
    finish(run, now, status)
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

/// The last status with the reason why an attempt failed, or has not ended. None if the run is over.
pub(crate) fn with_failure<R: Run>(
    run: &R,
    now: Timestamp,
    reason: &'static str,
    message: &str,
) -> Option<R::Status> {
    if run.is_over() {
        return None;
    }
    let type_ = if run.has_begun() { PROGRESSING } else { STARTED };
    let update = ConditionUpdate::new(type_, false, reason, message);
    Some(StatusBuilder::from_last(run, now, phase(run)).condition(update).build())
}

/// The status of a run that is being deleted. A run that was over keeps its last status.
pub(crate) fn deleting_status<R: Run>(run: &R, now: Timestamp, message: &str) -> R::Status {
    if run.is_over() {
        return run.status().cloned().unwrap_or_default();
    }
    let update = ConditionUpdate::new(PROGRESSING, false, "Deleting", message);
    StatusBuilder::from_last(run, now, phase(run)).condition(update).build()
}

/// Whether the deletion has waited long enough for what may never come: the end of a pod whose node
/// is lost, or the database. What it leaves is harmless: the fencing number keeps workers that are
/// left from writing, and housekeeping rejects or cancels the run in the database.
pub(crate) fn deletion_is_overdue(run: &impl Run, now: Timestamp) -> bool {
    let since = run.meta().deletion_timestamp.as_ref();
    since.is_some_and(|since| now.duration_since(since.0) >= LONGEST_DELETION)
}

/// Whether the deletion is overdue and the last attempt to go on with it failed.
pub(crate) fn deletion_has_failed(run: &impl Run, now: Timestamp) -> bool {
    deletion_is_overdue(run, now) && failure::is_reported(run.conditions())
}

/// When an overdue deletion goes on, for a condition.
pub(crate) fn deletion_limit(run: &impl Run) -> String {
    let since = run.meta().deletion_timestamp.as_ref();
    let limit = since.and_then(|since| since.0.checked_add(LONGEST_DELETION).ok());
    limit.map_or_else(String::new, |limit| format!("{limit:.0}"))
}

/// Deletes the run's Jobs and waits for its pods to end, but not longer than a deletion may take.
/// None once no worker is left.
pub(crate) fn stop_workers<'a, R: Run, A>(
    run: &R,
    now: Timestamp,
    jobs: impl IntoIterator<Item = &'a JobState>,
    pods: usize,
    action: impl FnOnce(JobAction) -> A,
) -> Option<Decision<R::Status, A>> {
    if deletion_is_overdue(run, now) {
        return None;
    }
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
