//! What to do about a billing run. Pure: all input is the run and the [`Observed`]. Each file has
//! one part of a run's life: [`pending`] before it has a revision, [`draft`] while its revision is
//! a draft, [`ended`] once it is issued or rejected, [`deleting`] while the run is being deleted. A
//! rollback goes from [`pending`] to [`ended`].

mod approval;
mod deleting;
pub(super) mod draft;
mod ended;
mod pending;

use api::conditions::PROGRESSING;
use api::run::Run as _;
use api::{BillingRun, reasons};
use store::billing::RevisionState;

use super::action::BillingDecision;
use super::observed::{Observed, RunRecord};
use crate::controller::lifecycle;

pub(super) fn decide(run: &BillingRun, observed: &Observed) -> BillingDecision {
    if run.metadata.deletion_timestamp.is_some() {
        return deleting::decide(run, observed);
    }
    if run.is_over() {
        return lifecycle::ttl_after_finished(run, observed.now);
    }
    let view = match &observed.database {
        Ok(view) => view,
        Err(problem) => return lifecycle::database_unavailable(run, observed.now, problem),
    };
    match &view.run {
        None if run.has_begun() => revision_lost(run, observed),
        None => pending::decide(run, observed, view),
        Some(RunRecord::Rollback(rollback)) => ended::rolled_back(run, observed, rollback),
        Some(RunRecord::Revision(revision)) => match revision.state {
            RevisionState::Draft => draft::decide(run, observed, revision),
            RevisionState::Live | RevisionState::RolledBack => ended::issued(run, observed, revision),
            RevisionState::Rejected => ended::rejected(run, observed, revision),
        },
    }
}

/// The status has a revision that the database does not have: this is another database, or one
/// restored from an earlier time. Beginning again could bill a month twice, so a person has to
/// decide.
fn revision_lost(run: &BillingRun, observed: &Observed) -> BillingDecision {
    let message = "the database has no record of this run's revision: it may be another database, or one restored from \
                   before the run. Restore the right database, or delete this run and create another";
    lifecycle::back_off(run, observed.now, PROGRESSING, reasons::REVISION_LOST, message)
}
