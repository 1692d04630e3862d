//! A run whose revision is issued or rejected: its last status.

use api::billing_run::Phase;
use api::conditions::{APPROVED, COMPLETE, ConditionUpdate, FAILED, FINISHED};
use api::{BillingRun, reasons};
use store::billing::RunSnapshot;

use crate::billing::action::BillingDecision;
use crate::billing::observed::Observed;
use crate::billing::status;
use crate::controller::lifecycle;

pub(super) fn issued(run: &BillingRun, observed: &Observed, revision: &RunSnapshot) -> BillingDecision {
    let message = format!(
        "revision {} of {} is live: {} billed, {} in quarantine, total {}",
        revision.key.revision,
        revision.key.month,
        revision.counts.billed,
        revision.counts.quarantined,
        revision.amounts.total
    );
    let status = status::builder(run, observed, Phase::Succeeded, revision)
        .keep(&[APPROVED])
        .condition(ConditionUpdate::new(COMPLETE, true, reasons::ISSUED, message.clone()))
        .condition(ConditionUpdate::new(FINISHED, true, reasons::ISSUED, message))
        .completed_at(revision.issued_at.unwrap_or(observed.now))
        .build();
    lifecycle::finish(run, observed.now, status)
}

pub(super) fn rejected(run: &BillingRun, observed: &Observed, revision: &RunSnapshot) -> BillingDecision {
    let kept = revision.reason.as_deref().unwrap_or_default();
    let codes = [reasons::DELETED, reasons::WORKERS_FAILED, reasons::VERIFICATION_FAILED];
    let (reason, message) = lifecycle::split_reason(kept, &codes).unwrap_or((reasons::REJECTED, kept));
    let phase = match reason {
        reasons::DELETED | reasons::REJECTED => Phase::Rejected,
        _ => Phase::Failed,
    };
    let message = format!("{message}; another run can bill the month");
    let status = status::builder(run, observed, phase, revision)
        .condition(ConditionUpdate::new(FAILED, true, reason, message.clone()))
        .condition(ConditionUpdate::new(FINISHED, true, reason, message))
        .completed_at(revision.closed_at.unwrap_or(observed.now))
        .build();
    lifecycle::finish(run, observed.now, status)
}
