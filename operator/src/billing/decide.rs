//! What to do about a billing run. Pure: everything it knows is in the run and the [`World`]. The parts of a run's life
//! are in [`super::start`] (before it has a revision) and [`super::draft`] (while its revision is one).

use std::time::Duration;

use api::{
    BillingRun, BillingRunStatus,
    billing_run::Phase,
    conditions::{APPROVED, COMPLETE, FAILED, FINISHED, PROGRESSING, STARTED, Said},
    labels::FINALIZER,
};
use kube::ResourceExt as _;
use store::billing::{Ending, RevisionState, RunSnapshot};

use super::{BillingDecision, Do, JobFound, World, draft, start, status::Report};
use crate::run_loop::{Decision, Next};

/// While workers work, so that the status is never much older.
pub(super) const LOOK_WHILE_RUNNING: Duration = Duration::from_secs(1);

/// Why a revision was rejected, as the first word of the reason that is kept with it.
pub(super) const DELETED: &str = "Deleted";
pub(super) const WORKERS_FAILED: &str = "WorkersFailed";
pub(super) const VERIFICATION_FAILED: &str = "VerificationFailed";
const REJECTED: &str = "Rejected";

/// Whether the run has ended; nothing about it changes any more.
pub(super) fn is_over(run: &BillingRun) -> bool {
    phase(run).is_some_and(Phase::is_final)
}

pub(super) fn phase(run: &BillingRun) -> Option<Phase> {
    run.status.as_ref().and_then(|status| status.phase)
}

pub(super) fn decide(run: &BillingRun, world: &World) -> BillingDecision {
    if run.metadata.deletion_timestamp.is_some() {
        return delete(run, world);
    }
    if is_over(run) {
        return rest_in_peace(run, world);
    }
    let stored = match &world.database {
        Ok(stored) => stored,
        Err(trouble) => return without_database(run, world, trouble),
    };
    let had_revision = run.status.as_ref().is_some_and(|status| status.revision.is_some());
    match &stored.run {
        None if had_revision => lost(run, world),
        None => start::decide(run, world, stored),
        Some(revision) => match revision.state {
            RevisionState::Draft => draft::decide(run, world, revision),
            RevisionState::Live | RevisionState::RolledBack => issued(run, world, revision),
            RevisionState::Rejected => rejected(run, world, revision),
        },
    }
}

/// A run that is over waits for its time to live, if it has one.
fn rest_in_peace(run: &BillingRun, world: &World) -> BillingDecision {
    let status = BillingRunStatus {
        observed_generation: run.metadata.generation,
        ..run.status.clone().unwrap_or_default()
    };
    let ended = status.completion_time.as_ref().map(|time| time.0);
    let next = match (run.spec.ttl_seconds_after_finished, ended) {
        (Some(seconds), Some(ended)) => {
            let left = seconds.saturating_sub(world.now.duration_since(ended).as_secs());
            // A wait of weeks is looked at again now and then.
            match u64::try_from(left) {
                Ok(left) if left > 0 => Next::Wait(Duration::from_secs(left.min(3600))),
                _ => Next::DeleteRun,
            }
        }
        _ => Next::Rest,
    };
    Decision { status, next }
}

fn without_database(run: &BillingRun, world: &World, trouble: &str) -> BillingDecision {
    let started = run.status.as_ref().is_some_and(|status| status.revision.is_some());
    let said = if started {
        let message = format!("{trouble}; the run goes on as soon as the database answers");
        Said::new(PROGRESSING, false, "DatabaseUnavailable", message)
    } else {
        let message = format!("{trouble}; the run starts as soon as the database answers");
        Said::new(STARTED, false, "DatabaseUnavailable", message)
    };
    let phase = phase(run).unwrap_or(Phase::Pending);
    Decision { status: Report::unchanged(run, world, phase).saying(said).status(), next: Next::BackOff }
}

/// The status speaks of a revision that the database does not have: another database, or one restored from before. To
/// begin again could bill a month twice, so that is for a person to decide.
fn lost(run: &BillingRun, world: &World) -> BillingDecision {
    let message = "the database has no revision of this run, though it had: is it another database, or one restored from \
                   before the run? Put the right one back, or delete this run and create another";
    let report = Report::unchanged(run, world, phase(run).unwrap_or(Phase::Running)).saying(Said::new(
        PROGRESSING,
        false,
        "RevisionLost",
        message,
    ));
    Decision { status: report.status(), next: Next::BackOff }
}

fn issued(run: &BillingRun, world: &World, revision: &RunSnapshot) -> BillingDecision {
    let message = format!(
        "revision {} of {} is live: {} billed, {} in quarantine, total {}",
        revision.key.revision,
        revision.key.month,
        revision.counts.billed,
        revision.counts.quarantined,
        revision.amounts.total
    );
    let report = Report::of(run, world, Phase::Succeeded, revision)
        .keeping(&[APPROVED])
        .saying(Said::new(COMPLETE, true, "Issued", message.clone()))
        .saying(Said::new(FINISHED, true, "Issued", message))
        .ended(revision.issued_at.unwrap_or(world.now));
    rest_in_peace(&ended_with(run, report.status()), world)
}

fn rejected(run: &BillingRun, world: &World, revision: &RunSnapshot) -> BillingDecision {
    let kept = revision.reason.clone().unwrap_or_default();
    let (reason, message) = [DELETED, WORKERS_FAILED, VERIFICATION_FAILED]
        .into_iter()
        .find_map(|code| Some((code, kept.strip_prefix(code)?.strip_prefix(": ")?.to_owned())))
        .unwrap_or((REJECTED, kept.clone()));
    let phase = if reason == DELETED || reason == REJECTED { Phase::Rejected } else { Phase::Failed };
    let message = format!("{message}; the month is free for another run");
    let report = Report::of(run, world, phase, revision)
        .saying(Said::new(FAILED, true, reason, message.clone()))
        .saying(Said::new(FINISHED, true, reason, message))
        .ended(revision.closed_at.unwrap_or(world.now));
    rest_in_peace(&ended_with(run, report.status()), world)
}

/// The run as it is once this status is written.
pub(super) fn ended_with(run: &BillingRun, status: BillingRunStatus) -> BillingRun {
    BillingRun { status: Some(status), ..run.clone() }
}

pub(super) fn reject(revision: &RunSnapshot, code: &str, message: &str, ending: Ending) -> Do {
    Do::Reject { key: revision.key.clone(), reason: format!("{code}: {message}"), ending }
}

/// First the workers go, then the draft is rejected and the month free, then the run may vanish.
fn delete(run: &BillingRun, world: &World) -> BillingDecision {
    let as_it_is = || run.status.clone().unwrap_or_default();
    if !run.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Decision { status: as_it_is(), next: Next::Rest };
    }
    let over = is_over(run);
    let stopping = |message: &str| {
        if over {
            return as_it_is();
        }
        let said = Said::new(PROGRESSING, false, "Deleting", message);
        Report::unchanged(run, world, phase(run).unwrap_or(Phase::Pending)).saying(said).status()
    };
    match &world.job {
        JobFound::Ours(job) if !job.deleting => {
            return Decision {
                status: stopping("the workers are being stopped"),
                next: Next::Do(Do::DeleteJob),
            };
        }
        JobFound::Ours(_) => {
            return Decision {
                status: stopping("the workers are being stopped"),
                next: Next::Wait(LOOK_WHILE_RUNNING),
            };
        }
        JobFound::None | JobFound::Foreign(_) => {}
    }
    if world.workers > 0 {
        return Decision {
            status: stopping("the workers are being stopped"),
            next: Next::Wait(LOOK_WHILE_RUNNING),
        };
    }
    if over {
        return Decision { status: as_it_is(), next: Next::LetGo };
    }
    match &world.database {
        Err(trouble) => {
            let message = format!(
                "{trouble}; the draft can be rejected, and the run deleted, once the database answers"
            );
            let said = Said::new(PROGRESSING, false, "DatabaseUnavailable", message);
            let phase = phase(run).unwrap_or(Phase::Pending);
            Decision {
                status: Report::unchanged(run, world, phase).saying(said).status(),
                next: Next::BackOff,
            }
        }
        Ok(stored) => match &stored.run {
            None => Decision { status: as_it_is(), next: Next::LetGo },
            Some(revision) if revision.state == RevisionState::Draft => {
                let reject =
                    reject(revision, DELETED, "the run was deleted before it was issued", Ending::Cancelled);
                Decision { status: stopping("the draft is being rejected"), next: Next::Do(reject) }
            }
            Some(revision) => {
                let ended = match revision.state {
                    RevisionState::Rejected => rejected(run, world, revision),
                    _ => issued(run, world, revision),
                };
                Decision { status: ended.status, next: Next::LetGo }
            }
        },
    }
}
