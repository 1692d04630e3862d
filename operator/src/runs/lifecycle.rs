//! The parts of a run's life that are the same for every kind: out of reach, on its way out, over. Pure.

use std::time::Duration;

use api::{
    conditions::{PROGRESSING, STARTED, Said},
    labels::FINALIZER,
    run::{Run, RunPhase as _, RunSpec as _, RunStatus},
};
use jiff::Timestamp;

use super::{JobAction, JobState, errand::LOOK_WHILE_RUNNING, report::Report};
use crate::run_loop::{Decision, Next};

/// A wait of weeks is looked at again now and then.
const LONGEST_WAIT: i64 = 3600;

pub(crate) fn is_held(run: &impl Run) -> bool {
    run.meta().finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// A run that is over waits for its time to live, if it has one.
pub(crate) fn rest_in_peace<R: Run, A>(run: &R, now: Timestamp) -> Decision<R::Status, A> {
    let mut status = run.status().cloned().unwrap_or_default();
    status.set_observed_generation(run.meta().generation);
    let next = match (run.spec().ttl_seconds_after_finished(), status.completion_time()) {
        (Some(seconds), Some(ended)) => {
            let left = seconds.saturating_sub(now.duration_since(ended).as_secs());
            match u64::try_from(left.min(LONGEST_WAIT)) {
                Ok(left) if left > 0 => Next::Wait(Duration::from_secs(left)),
                _ => Next::DeleteRun,
            }
        }
        _ => Next::Rest,
    };
    Decision { status, next }
}

/// This status ends the run.
pub(crate) fn end<R: Run, A>(run: &R, now: Timestamp, status: R::Status) -> Decision<R::Status, A> {
    rest_in_peace(&run.with_status(status), now)
}

/// The database does not answer, for this reason.
pub(crate) fn without_database<R: Run, A>(run: &R, now: Timestamp, trouble: &str) -> Decision<R::Status, A> {
    if run.has_begun() {
        stuck(
            run,
            now,
            PROGRESSING,
            "DatabaseUnavailable",
            format!("{trouble}; the run goes on as soon as the database answers"),
        )
    } else {
        stuck(
            run,
            now,
            STARTED,
            "DatabaseUnavailable",
            format!("{trouble}; the run starts as soon as the database answers"),
        )
    }
}

/// Nothing can be done, and nothing tells when it can.
pub(crate) fn stuck<R: Run, A>(
    run: &R,
    now: Timestamp,
    type_: &'static str,
    reason: &'static str,
    message: impl Into<String>,
) -> Decision<R::Status, A> {
    let report = Report::unchanged(run, now, phase(run)).saying(Said::new(type_, false, reason, message));
    Decision { status: report.status(), next: Next::BackOff }
}

/// What a run that is deleted says meanwhile. One that was over before says what it said then.
pub(crate) fn leaving<R: Run>(run: &R, now: Timestamp, message: &str) -> R::Status {
    if run.is_over() {
        return run.status().cloned().unwrap_or_default();
    }
    let said = Said::new(PROGRESSING, false, "Deleting", message);
    Report::unchanged(run, now, phase(run)).saying(said).status()
}

/// What is left to do until none of the run's workers is there; none when none is.
pub(crate) fn stop_workers<'a, R: Run, A>(
    run: &R,
    now: Timestamp,
    jobs: impl IntoIterator<Item = &'a JobState>,
    pods: usize,
    act: impl FnOnce(JobAction) -> A,
) -> Option<Decision<R::Status, A>> {
    let (mut still, mut going) = (None, pods > 0);
    for job in jobs {
        if job.deleting {
            going = true;
        } else {
            still = Some(job.name.clone());
        }
    }
    let next = match (still, going) {
        (Some(name), _) => Next::Do(act(JobAction::Delete(name))),
        (None, true) => Next::Wait(LOOK_WHILE_RUNNING),
        (None, false) => return None,
    };
    Some(Decision { status: leaving(run, now, "the workers are being stopped"), next })
}

fn phase<R: Run>(run: &R) -> <R::Status as RunStatus>::Phase {
    run.phase().unwrap_or(<R::Status as RunStatus>::Phase::PENDING)
}
