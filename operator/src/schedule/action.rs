//! What a schedule does: it creates runs and deletes finished ones.

use api::BillingScheduleStatus;
use domain::month::BillingMonth;

use crate::controller::decision::Decision;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunKindName {
    Billing,
    Notification,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Create { kind: RunKindName, month: BillingMonth },
    Delete { kind: RunKindName, name: String, uid: String },
}

pub(crate) type ScheduleDecision = Decision<BillingScheduleStatus, Action>;

/// The name of the schedule's run of a month.
pub(super) fn run_name(schedule: &str, month: BillingMonth) -> String {
    format!("{schedule}-{month}")
}
