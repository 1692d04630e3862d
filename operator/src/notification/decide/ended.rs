//! A run that the database has closed: it waits for the outcome of the bills that were handed over,
//! and then gets its last status.

use std::time::Duration;

use api::conditions::{COMPLETE, ConditionUpdate, FAILED, FINISHED, PROGRESSING, TRANSPORT_AVAILABLE};
use api::notification_run::Phase;
use api::run::Run as _;
use api::{NotificationRun, NotificationRunStatus, reasons};
use store::notification::{NotificationState, Snapshot};

use crate::controller::decision::{Decision, Next};
use crate::controller::lifecycle;
use crate::notification::action::{Action, NotificationDecision};
use crate::notification::observed::Observed;
use crate::notification::status;

/// Leases expire by the database's clock, and housekeeping records the outcome of their bills.
const POLL_OUTCOMES: Duration = Duration::from_secs(1);

pub(super) fn decide(
    run: &NotificationRun,
    observed: &Observed,
    snapshot: &Snapshot,
) -> NotificationDecision {
    if let Some(closing) = closing(run, observed, snapshot) {
        return closing;
    }
    lifecycle::finish(run, observed.now, last_status(run, observed, snapshot))
}

/// What is left to do for a run that ended early: each bill that was handed over to a mail server
/// needs an outcome.
pub(super) fn closing(
    run: &NotificationRun,
    observed: &Observed,
    snapshot: &Snapshot,
) -> Option<NotificationDecision> {
    if snapshot.logged {
        return None;
    }
    let message = format!(
        "{} bills were handed over to the mail server; the run ends when their outcome is known or their lease has expired",
        snapshot.handed_over
    );
    let phase = run.phase().unwrap_or(Phase::Sending);
    let status = status::builder(run, observed, phase, snapshot)
        .condition(ConditionUpdate::new(PROGRESSING, false, reasons::CLOSING, message))
        .build();
    let next = if snapshot.handed_over > 0 {
        Next::RequeueAfter(POLL_OUTCOMES)
    } else {
        let (id, reason) = (snapshot.facts.id, snapshot.reason.clone().unwrap_or_default());
        Next::Apply(match snapshot.facts.state {
            NotificationState::Failed => Action::Fail { id, reason },
            _ => Action::Cancel { id, reason },
        })
    };
    Some(Decision { status, next })
}

pub(super) fn last_status(
    run: &NotificationRun,
    observed: &Observed,
    snapshot: &Snapshot,
) -> NotificationRunStatus {
    let at = snapshot.closed_at.unwrap_or(snapshot.now);
    let builder =
        |phase| status::builder(run, observed, phase, snapshot).keep(&[TRANSPORT_AVAILABLE]).completed_at(at);
    let summary = status::summary(snapshot);
    if snapshot.facts.state == NotificationState::Finished {
        let counts = &snapshot.counts;
        let (phase, reason) = match (counts.failed + counts.unknown, snapshot.facts.rehearsal) {
            (0, false) => (Phase::Succeeded, reasons::SENT),
            (0, true) => (Phase::Succeeded, reasons::REHEARSED),
            _ => (Phase::CompletedWithFailures, reasons::COMPLETED_WITH_FAILURES),
        };
        return builder(phase)
            .condition(ConditionUpdate::new(COMPLETE, true, reason, summary.clone()))
            .condition(ConditionUpdate::new(FINISHED, true, reason, summary))
            .build();
    }
    let kept = snapshot.reason.as_deref().unwrap_or_default();
    let codes = [reasons::DELETED, reasons::WORKERS_FAILED];
    let (reason, why) = lifecycle::split_reason(kept, &codes).unwrap_or((reasons::CANCELLED, kept));
    let message = format!("{why}; {summary}; another run can send the rest");
    builder(Phase::Failed)
        .condition(ConditionUpdate::new(FAILED, true, reason, message.clone()))
        .condition(ConditionUpdate::new(FINISHED, true, reason, message))
        .build()
}
