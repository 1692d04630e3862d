//! A run whose revision is issued or rejected, or that has rolled one back: its last status.

use api::billing_run::Phase;
use api::conditions::{APPROVED, COMPLETE, ConditionUpdate, FAILED, FINISHED, STARTED};
use api::{BillingRun, BillingRunStatus, reasons};
use store::billing::{PostedDifferences, Rollback, RunSnapshot};

use crate::billing::action::BillingDecision;
use crate::billing::observed::Observed;
use crate::billing::status;
use crate::controller::lifecycle;
use crate::controller::status_builder::{StatusBuilder, whole_second};

pub(super) fn issued(run: &BillingRun, observed: &Observed, revision: &RunSnapshot) -> BillingDecision {
    let again = revision.rebilling.as_ref().map_or_else(String::new, |rebilling| {
        let changed = rebilling.changed;
        format!(", which {} and changes the outcome of {changed} members,", status::again(rebilling))
    });
    let posted = revision.posts_to.map_or_else(String::new, |month| {
        let PostedDifferences { members, amount } = revision.posted;
        format!("; {amount:+} for {members} members is posted to {month}")
    });
    let message = format!(
        "revision {} of {}{again} was issued: {} billed, {} in quarantine, total {}{posted}",
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
    let message = format!("{message}; nothing of the month has changed, and another run can begin");
    let status = status::builder(run, observed, phase, revision)
        .condition(ConditionUpdate::new(FAILED, true, reason, message.clone()))
        .condition(ConditionUpdate::new(FINISHED, true, reason, message))
        .completed_at(revision.closed_at.unwrap_or(observed.now))
        .build();
    lifecycle::finish(run, observed.now, status)
}

pub(super) fn rolled_back(run: &BillingRun, observed: &Observed, rollback: &Rollback) -> BillingDecision {
    let Rollback { month, revision, outcomes, .. } = rollback;
    let now_live = match rollback.live_again {
        Some(below) => format!("revision {below} is live again"),
        None => "no revision of the month is live, so that another run can bill it".to_owned(),
    };
    let message = format!(
        "revision {revision} of {month} is rolled back: its outcomes of {outcomes} members are no longer live; {now_live}"
    );
    let status = BillingRunStatus {
        phase: Some(Phase::Succeeded),
        revision: Some(revision.get()),
        start_time: Some(whole_second(rollback.rolled_back_at)),
        ..BillingRunStatus::default()
    };
    let update = |type_| ConditionUpdate::new(type_, true, reasons::ROLLED_BACK, message.clone());
    let status = StatusBuilder::new(run, observed.now, status)
        .condition(update(STARTED))
        .condition(update(COMPLETE))
        .condition(update(FINISHED))
        .completed_at(rollback.rolled_back_at)
        .build();
    lifecycle::finish(run, observed.now, status)
}
