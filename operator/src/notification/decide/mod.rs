//! What to do about a notification run. Pure: all input is the run and the [`Observed`]. Each file
//! has one part of a run's life: [`pending`] before the database has a record of it, [`sending`]
//! while it has targets to send, [`ended`] once the database has closed it, [`deleting`] while the
//! run is being deleted.

mod deleting;
mod ended;
mod pending;
pub(super) mod progressing;
mod sending;

use api::conditions::PROGRESSING;
use api::run::Run as _;
use api::{NotificationRun, reasons};

use super::action::NotificationDecision;
use super::observed::Observed;
use crate::controller::lifecycle;

pub(super) fn decide(run: &NotificationRun, observed: &Observed) -> NotificationDecision {
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
        None if run.has_begun() => run_lost(run, observed),
        None => pending::decide(run, observed, &view.installation),
        Some(snapshot) if snapshot.facts.state.is_over() => ended::decide(run, observed, snapshot),
        Some(snapshot) => sending::decide(run, observed, snapshot),
    }
}

/// The status says that the run has begun, and the database does not have it: this is another
/// database, or one restored from an earlier time. Beginning again could send bills twice, so a
/// person has to decide.
fn run_lost(run: &NotificationRun, observed: &Observed) -> NotificationDecision {
    let message = "the database has no record of this run: it may be another database, or one restored from before the \
                   run. Connect the right database, or follow docs/run-books.md, Restore from a backup";
    lifecycle::back_off(run, observed.now, PROGRESSING, reasons::RUN_LOST, message)
}
