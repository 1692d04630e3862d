//! A run that is being deleted: it is cancelled, so that nothing more is sent, then its workers
//! stop, then each bill that was handed over gets an outcome, then the finalizer is removed. Neither a
//! pod that never ends nor a database that stays away keeps it for longer than two minutes.

use api::conditions::PROGRESSING;
use api::run::Run as _;
use api::{NotificationRun, reasons};

use super::ended;
use crate::controller::decision::{Decision, Next};
use crate::controller::lifecycle;
use crate::notification::action::{Action, NotificationDecision};
use crate::notification::observed::Observed;

pub(super) fn decide(run: &NotificationRun, observed: &Observed) -> NotificationDecision {
    let last_status = || run.status.clone().unwrap_or_default();
    if !lifecycle::has_finalizer(run) {
        return Decision { status: last_status(), next: Next::AwaitChange };
    }
    if run.is_over() || lifecycle::deletion_has_failed(run, observed.now) {
        return Decision { status: last_status(), next: Next::RemoveFinalizer };
    }
    let snapshot = observed.database.as_ref().ok().and_then(|view| view.run.as_ref());
    if let Some(open) = snapshot.filter(|snapshot| !snapshot.facts.state.is_over()) {
        let reason = format!("{}: the run was deleted before every bill had an outcome", reasons::DELETED);
        let status = lifecycle::deleting_status(run, observed.now, "the run is being cancelled");
        return Decision { status, next: Next::Apply(Action::Cancel { id: open.facts.id, reason }) };
    }
    if let Some(stopping) =
        lifecycle::stop_workers(run, observed.now, &observed.other_jobs, observed.pods_left, Action::Job)
    {
        return stopping;
    }
    match (&observed.database, snapshot) {
        // Housekeeping cancels the run when the database is back.
        (Err(_), _) if lifecycle::deletion_is_overdue(run, observed.now) => {
            Decision { status: last_status(), next: Next::RemoveFinalizer }
        }
        (Err(problem), _) => {
            let message = format!(
                "{problem}; the run is cancelled and deleted as soon as the database answers; at {} it is deleted anyway, \
                 and cancelled later",
                lifecycle::deletion_limit(run)
            );
            lifecycle::back_off(run, observed.now, PROGRESSING, reasons::DATABASE_UNAVAILABLE, message)
        }
        (Ok(_), None) => Decision { status: last_status(), next: Next::RemoveFinalizer },
        (Ok(_), Some(closed)) => match ended::closing(run, observed, closed) {
            Some(closing) => closing,
            None => {
                Decision { status: ended::last_status(run, observed, closed), next: Next::RemoveFinalizer }
            }
        },
    }
}
