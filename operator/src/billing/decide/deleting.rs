//! A run that is being deleted: its workers stop, then its draft is rejected, which unlocks the
//! month, then the finalizer is removed. Neither a pod that never ends nor a database that stays away
//! keeps it for longer than two minutes.

use api::conditions::PROGRESSING;
use api::run::Run as _;
use api::{BillingRun, reasons};
use store::billing::{EndStatus, RevisionState};

use super::ended;
use crate::billing::action::{Action, BillingDecision};
use crate::billing::observed::{Observed, RunRecord};
use crate::controller::decision::{Decision, Next};
use crate::controller::lifecycle;

pub(super) fn decide(run: &BillingRun, observed: &Observed) -> BillingDecision {
    let last_status = || run.status.clone().unwrap_or_default();
    if !lifecycle::has_finalizer(run) {
        return Decision { status: last_status(), next: Next::AwaitChange };
    }
    if run.is_over() || lifecycle::deletion_has_failed(run, observed.now) {
        return Decision { status: last_status(), next: Next::RemoveFinalizer };
    }
    let (jobs, pods) = (&observed.jobs_left, observed.pods_left);
    if let Some(stopping) = lifecycle::stop_workers(run, observed.now, jobs, pods, Action::Job) {
        return stopping;
    }
    let view = match &observed.database {
        Ok(view) => view,
        // Housekeeping rejects the draft when the database is back.
        Err(_) if lifecycle::deletion_is_overdue(run, observed.now) => {
            return Decision { status: last_status(), next: Next::RemoveFinalizer };
        }
        Err(problem) => {
            let message = format!(
                "{problem}; the draft is rejected, and the run deleted, as soon as the database answers; at {} the run is \
                 deleted anyway, and its draft rejected later",
                lifecycle::deletion_limit(run)
            );
            return lifecycle::back_off(
                run,
                observed.now,
                PROGRESSING,
                reasons::DATABASE_UNAVAILABLE,
                message,
            );
        }
    };
    match &view.run {
        None | Some(RunRecord::Rollback(_)) => {
            Decision { status: last_status(), next: Next::RemoveFinalizer }
        }
        Some(RunRecord::Revision(revision)) if revision.state == RevisionState::Draft => {
            let message = "the run was deleted before it was issued";
            let reject = Action::reject(revision, reasons::DELETED, message, EndStatus::Cancelled);
            let status = lifecycle::deleting_status(run, observed.now, "the draft is being rejected");
            Decision { status, next: Next::Apply(reject) }
        }
        Some(RunRecord::Revision(revision)) => {
            let ended = match revision.state {
                RevisionState::Rejected => ended::rejected(run, observed, revision),
                _ => ended::issued(run, observed, revision),
            };
            Decision { status: ended.status, next: Next::RemoveFinalizer }
        }
    }
}
