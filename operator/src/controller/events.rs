//! The Events of a status change: one for each condition whose status or reason changed. Those of
//! kstatus have none, as they repeat another condition. Pure.

use api::conditions::{self, status_text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// An Event to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventRecord {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// Reasons of waits that are asked for or expected, which are no warnings.
const EXPECTED: [&str; 9] = [
    "Planning",
    "RollingBack",
    "Starting",
    "MonthNotOver",
    "Suspended",
    "Resumed",
    "Deleting",
    "Deleted",
    "ManualApproval",
];

pub(crate) fn changes(before: &[Condition], after: &[Condition]) -> Vec<EventRecord> {
    let mut records: Vec<EventRecord> = Vec::new();
    for new in after.iter().filter(|new| !conditions::HEALTH.contains(&new.type_.as_str())) {
        let same = |old: &Condition| (&old.status, &old.reason) == (&new.status, &new.reason);
        // One Event for each reason: Finished has the same reason as Complete or Failed.
        if conditions::find(before, &new.type_).is_some_and(same)
            || records.iter().any(|record| record.reason == new.reason)
        {
            continue;
        }
        let bad = if new.type_ == conditions::FAILED { status_text(true) } else { status_text(false) };
        let warning = new.status == bad && !EXPECTED.contains(&new.reason.as_str());
        records.push(EventRecord { warning, reason: new.reason.clone(), note: new.message.clone() });
    }
    records
}
