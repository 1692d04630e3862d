//! The conditions of kstatus: `Reconciling`, `Stalled` and `Ready`, as they follow from the phase and
//! the other conditions. `kubectl wait`, Flux and Argo CD read the health of an object from them.
//! Pure.
//!
//! `Reconciling` and `Stalled` are there only while they are `True`; `Ready` is always there.

use crate::conditions::{
    APPROVED, COMPLETE, ConditionUpdate, FAILED, PROGRESSING, READY, RECONCILING, STALLED, STARTED,
};
use crate::reasons;
use crate::run::RunPhase;

/// The health of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The operator works on it, or waits for something that comes without a person.
    Reconciling,
    /// A person stopped it, and nothing is wrong.
    Paused,
    /// It failed, or goes on only when a person acts.
    Stalled,
    /// What the spec asks for is done.
    Ready,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    Unfinished,
    Succeeded,
    /// It ended, and not everything that it was asked for is done.
    Failed,
}

impl RunState {
    pub fn of(phase: Option<impl RunPhase>) -> Self {
        match phase {
            Some(phase) if phase.is_success() => Self::Succeeded,
            Some(phase) if phase.is_final() => Self::Failed,
            _ => Self::Unfinished,
        }
    }
}

/// Reasons of waits that end without a person: by time, by another run, by a load that is due, by the
/// end of an outage, or by the next attempt.
const WAITS: [&str; 15] = [
    reasons::PLANNING,
    reasons::STARTING,
    reasons::ROLLING_BACK,
    reasons::CLOSING,
    reasons::DELETING,
    reasons::MONTH_NOT_OVER,
    reasons::MONTH_LOCKED,
    reasons::MONTH_NOT_BILLED,
    reasons::NO_DATA_LOADED,
    reasons::INPUTS_INCOMPLETE,
    reasons::DATABASE_UNAVAILABLE,
    reasons::KAFKA_UNAVAILABLE,
    reasons::TRANSPORT_UNAVAILABLE,
    reasons::ACTION_FAILED,
    reasons::ACTION_SLOW,
];

const NOT_LOOKED_AT: &str = "the operator has not looked at it yet";

/// The health of an unfinished object that has this condition.
fn health(condition: &ConditionUpdate) -> Health {
    match condition.reason.as_str() {
        _ if condition.status => Health::Reconciling,
        reasons::SUSPENDED => Health::Paused,
        reason if WAITS.contains(&reason) => Health::Reconciling,
        _ => Health::Stalled,
    }
}

/// The conditions of this health, with the reason and the message of what it follows from.
pub fn updates(
    health: Health,
    reason: impl Into<String>,
    message: impl Into<String>,
) -> Vec<ConditionUpdate> {
    let (reason, message) = (reason.into(), message.into());
    let update = |type_, status| ConditionUpdate::new(type_, status, reason.clone(), message.clone());
    match health {
        Health::Ready => vec![update(READY, true)],
        Health::Paused => vec![update(READY, false)],
        Health::Reconciling => vec![update(READY, false), update(RECONCILING, true)],
        Health::Stalled => vec![update(READY, false), update(STALLED, true)],
    }
}

/// The conditions of a run in this state that has these other conditions.
pub fn of_run(state: RunState, others: &[ConditionUpdate]) -> Vec<ConditionUpdate> {
    let find = |types: &[&str]| {
        types.iter().find_map(|type_| others.iter().find(|condition| condition.type_ == *type_))
    };
    let (cause, health) = match state {
        RunState::Succeeded => (find(&[COMPLETE]), Health::Ready),
        RunState::Failed => (find(&[FAILED, COMPLETE]), Health::Stalled),
        RunState::Unfinished => {
            // A draft that waits for approval has no condition Progressing.
            let cause = find(&[PROGRESSING, APPROVED, STARTED]);
            (cause, cause.map_or(Health::Reconciling, health))
        }
    };
    match cause {
        Some(cause) => updates(health, cause.reason.clone(), cause.message.clone()),
        None => updates(health, reasons::STARTING, NOT_LOOKED_AT),
    }
}

/// The conditions of an object that has no end, such as a schedule: it is ready unless one of its other
/// conditions is `False`.
pub fn of_object(others: &[ConditionUpdate]) -> Vec<ConditionUpdate> {
    let cause = others.iter().find(|condition| !condition.status);
    match cause.or_else(|| others.first()) {
        Some(cause) if cause.status => updates(Health::Ready, cause.reason.clone(), cause.message.clone()),
        Some(cause) => updates(health(cause), cause.reason.clone(), cause.message.clone()),
        None => updates(Health::Reconciling, reasons::STARTING, NOT_LOOKED_AT),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn summary(updates: &[ConditionUpdate]) -> String {
        let one = |update: &ConditionUpdate| {
            format!("{}{}:{}", if update.status { "" } else { "!" }, update.type_, update.reason)
        };
        updates.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn with(type_: &'static str, status: bool, reason: &str) -> ConditionUpdate {
        ConditionUpdate::new(type_, status, reason, "because")
    }

    #[test]
    fn a_finished_run_is_ready_only_if_it_succeeded() {
        let complete = [with(STARTED, true, "Planned"), with(COMPLETE, true, "Issued")];
        assert_eq!(summary(&of_run(RunState::Succeeded, &complete)), "Ready:Issued");
        let partly = [with(COMPLETE, true, "CompletedWithFailures")];
        assert_eq!(
            summary(&of_run(RunState::Failed, &partly)),
            "!Ready:CompletedWithFailures Stalled:CompletedWithFailures"
        );
        let failed = [with(STARTED, true, "Planned"), with(FAILED, true, "WorkersFailed")];
        assert_eq!(summary(&of_run(RunState::Failed, &failed)), "!Ready:WorkersFailed Stalled:WorkersFailed");
    }

    #[test]
    fn the_health_of_an_unfinished_run_follows_from_what_it_does_or_waits_for() {
        let reconciling = |reason: &str| format!("!Ready:{reason} Reconciling:{reason}");
        let stalled = |reason: &str| format!("!Ready:{reason} Stalled:{reason}");
        let unfinished = |conditions: &[ConditionUpdate]| summary(&of_run(RunState::Unfinished, conditions));
        assert_eq!(unfinished(&[]), reconciling("Starting"));
        let started = with(STARTED, true, "Planned");
        assert_eq!(
            unfinished(&[started.clone(), with(PROGRESSING, true, "Billing")]),
            reconciling("Billing")
        );
        // A person is asked for.
        let approval = with(APPROVED, false, "ManualApproval");
        assert_eq!(unfinished(&[started.clone(), approval.clone()]), stalled("ManualApproval"));
        // What happens now comes before what the draft waited for.
        let database = with(PROGRESSING, false, "DatabaseUnavailable");
        assert_eq!(unfinished(&[started.clone(), approval, database]), reconciling("DatabaseUnavailable"));
        assert_eq!(unfinished(&[started, with(PROGRESSING, false, "Suspended")]), "!Ready:Suspended");
        assert_eq!(unfinished(&[with(STARTED, false, "Suspended")]), "!Ready:Suspended");
    }

    #[test]
    fn an_object_without_an_end_is_ready_unless_a_condition_is_false() {
        let scheduled = with("Scheduled", true, "Scheduled");
        assert_eq!(summary(&of_object(std::slice::from_ref(&scheduled))), "Ready:Scheduled");
        let suspended = with(PROGRESSING, false, "Suspended");
        assert_eq!(summary(&of_object(&[scheduled.clone(), suspended])), "!Ready:Suspended");
        let invalid = with(PROGRESSING, false, "InvalidSpec");
        assert_eq!(summary(&of_object(&[scheduled, invalid])), "!Ready:InvalidSpec Stalled:InvalidSpec");
        assert_eq!(summary(&of_object(&[])), "!Ready:Starting Reconciling:Starting");
    }

    #[test]
    fn every_reason_to_wait_is_of_one_health() {
        // As docs/operations.md has them, and those of a run that is at work.
        let ends_without_a_person = [
            "Planning",
            "Starting",
            "RollingBack",
            "Closing",
            "Deleting",
            "MonthNotOver",
            "MonthLocked",
            "MonthNotBilled",
            "NoDataLoaded",
            "InputsIncomplete",
            "DatabaseUnavailable",
            "KafkaUnavailable",
            "TransportUnavailable",
            "ActionFailed",
            "ActionSlow",
        ];
        assert_eq!(BTreeSet::from(WAITS), BTreeSet::from(ends_without_a_person));
        let needs_a_person = [
            reasons::INVALID_SPEC,
            reasons::JOB_NAME_TAKEN,
            reasons::WORKERS_WAITING,
            reasons::WORKERS_FAILED,
            reasons::PODS_REFUSED,
            reasons::ACTION_REFUSED,
            reasons::NO_PROGRESS,
            reasons::PRICE_BOOK_NOT_FOUND,
            reasons::PRICE_BOOK_INVALID,
            reasons::DATA_CUTOFF_UNKNOWN,
            reasons::NOTHING_TO_ISSUE,
            reasons::PRICING_VERSION_CHANGED,
            reasons::MANUAL_APPROVAL,
            reasons::LIMIT_EXCEEDED,
            reasons::LIMIT_INVALID,
            reasons::DIGEST_MISMATCH,
            reasons::LOCK_LOST,
            reasons::REVISION_LOST,
            reasons::TEMPLATES_NOT_FOUND,
            reasons::TEMPLATES_INVALID,
            reasons::NO_CONSUMERS,
            reasons::RUN_LOST,
            reasons::DATABASE_RESTORED,
            reasons::MARKS_UNUSABLE,
            reasons::SCHEDULE_INVALID,
            reasons::MONTHS_MISSED,
            reasons::NOTIFICATION_FAILED,
        ];
        for reason in needs_a_person {
            assert_eq!(health(&with(PROGRESSING, false, reason)), Health::Stalled, "{reason}");
        }
        for reason in ends_without_a_person {
            assert_eq!(health(&with(STARTED, false, reason)), Health::Reconciling, "{reason}");
        }
    }
}
