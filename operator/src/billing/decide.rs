//! What to do about a billing run. Pure: everything it knows is in the run and the [`World`]. The parts of a run's life
//! are in [`super::start`] (before it has a revision) and [`super::draft`] (while its revision is one).

use api::{
    BillingRun,
    billing_run::Phase,
    conditions::{APPROVED, COMPLETE, FAILED, FINISHED, PROGRESSING, Said},
    run::Run as _,
};
use store::billing::{EndStatus, RevisionState, RunSnapshot};

use super::{BillingDecision, Do, World, draft, start, status};
use crate::{
    run_loop::{Decision, Next},
    runs::lifecycle,
};

/// Why a revision was rejected, as the first word of the reason that is kept with it.
pub(super) const DELETED: &str = "Deleted";
pub(super) const WORKERS_FAILED: &str = "WorkersFailed";
pub(super) const VERIFICATION_FAILED: &str = "VerificationFailed";
const REJECTED: &str = "Rejected";

pub(super) fn decide(run: &BillingRun, world: &World) -> BillingDecision {
    if run.metadata.deletion_timestamp.is_some() {
        return delete(run, world);
    }
    if run.is_over() {
        return lifecycle::rest_in_peace(run, world.now);
    }
    let stored = match &world.database {
        Ok(stored) => stored,
        Err(trouble) => return lifecycle::without_database(run, world.now, trouble),
    };
    match &stored.run {
        None if run.has_begun() => lost(run, world),
        None => start::decide(run, world, stored),
        Some(revision) => match revision.state {
            RevisionState::Draft => draft::decide(run, world, revision),
            RevisionState::Live | RevisionState::RolledBack => issued(run, world, revision),
            RevisionState::Rejected => rejected(run, world, revision),
        },
    }
}

/// The status speaks of a revision that the database does not have: another database, or one restored from before. To
/// begin again could bill a month twice, so that is for a person to decide.
fn lost(run: &BillingRun, world: &World) -> BillingDecision {
    let message = "the database has no revision of this run, though it had: is it another database, or one restored from \
                   before the run? Put the right one back, or delete this run and create another";
    lifecycle::stuck(run, world.now, PROGRESSING, "RevisionLost", message)
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
    let report = status::report(run, world, Phase::Succeeded, revision)
        .keeping(&[APPROVED])
        .saying(Said::new(COMPLETE, true, "Issued", message.clone()))
        .saying(Said::new(FINISHED, true, "Issued", message))
        .ended(revision.issued_at.unwrap_or(world.now));
    lifecycle::end(run, world.now, report.status())
}

fn rejected(run: &BillingRun, world: &World, revision: &RunSnapshot) -> BillingDecision {
    let kept = revision.reason.clone().unwrap_or_default();
    let (reason, message) = [DELETED, WORKERS_FAILED, VERIFICATION_FAILED]
        .into_iter()
        .find_map(|code| Some((code, kept.strip_prefix(code)?.strip_prefix(": ")?.to_owned())))
        .unwrap_or((REJECTED, kept.clone()));
    let phase = if reason == DELETED || reason == REJECTED { Phase::Rejected } else { Phase::Failed };
    let message = format!("{message}; the month is free for another run");
    let report = status::report(run, world, phase, revision)
        .saying(Said::new(FAILED, true, reason, message.clone()))
        .saying(Said::new(FINISHED, true, reason, message))
        .ended(revision.closed_at.unwrap_or(world.now));
    lifecycle::end(run, world.now, report.status())
}

pub(super) fn reject(revision: &RunSnapshot, code: &str, message: &str, ending: EndStatus) -> Do {
    Do::Reject { key: revision.key.clone(), reason: format!("{code}: {message}"), ending }
}

/// First the workers go, then the draft is rejected and the month free, then the run may vanish.
fn delete(run: &BillingRun, world: &World) -> BillingDecision {
    let as_it_is = || run.status.clone().unwrap_or_default();
    if !lifecycle::is_held(run) {
        return Decision { status: as_it_is(), next: Next::Rest };
    }
    if let Some(first) = lifecycle::stop_workers(run, world.now, world.job.ours(), world.workers, Do::Job) {
        return first;
    }
    if run.is_over() {
        return Decision { status: as_it_is(), next: Next::LetGo };
    }
    let stored = match &world.database {
        Ok(stored) => stored,
        Err(trouble) => {
            let message = format!(
                "{trouble}; the draft can be rejected, and the run deleted, once the database answers"
            );
            return lifecycle::stuck(run, world.now, PROGRESSING, "DatabaseUnavailable", message);
        }
    };
    match &stored.run {
        None => Decision { status: as_it_is(), next: Next::LetGo },
        Some(revision) if revision.state == RevisionState::Draft => {
            let reject =
                reject(revision, DELETED, "the run was deleted before it was issued", EndStatus::Cancelled);
            let status = lifecycle::leaving(run, world.now, "the draft is being rejected");
            Decision { status, next: Next::Do(reject) }
        }
        Some(revision) => {
            let ended = match revision.state {
                RevisionState::Rejected => rejected(run, world, revision),
                _ => issued(run, world, revision),
            };
            Decision { status: ended.status, next: Next::LetGo }
        }
    }
}
