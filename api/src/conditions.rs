//! Conditions: their types, and how new ones replace the last ones. Their reasons are in
//! [`crate::reasons`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The run has begun; `False` says why it has not.
pub const STARTED: &str = "Started";
/// The run makes progress; `False` says what it waits for.
pub const PROGRESSING: &str = "Progressing";
/// `spec.suspend` has stopped the work.
pub const SUSPENDED: &str = "Suspended";
/// The draft may be issued; `False` says what approval is needed for.
pub const APPROVED: &str = "Approved";
/// The mail server can be used; `False` quotes its error.
pub const TRANSPORT_AVAILABLE: &str = "TransportAvailable";
/// The run has ended with a result.
pub const COMPLETE: &str = "Complete";
/// The run has ended without a result.
pub const FAILED: &str = "Failed";
/// The run has ended, with or without a result.
pub const FINISHED: &str = "Finished";

/// The object is finished and succeeded.
pub const READY: &str = "Ready";
/// The operator works on the object, or waits for something that comes without a person.
pub const RECONCILING: &str = "Reconciling";
/// The object has failed, or goes on only when a person acts.
pub const STALLED: &str = "Stalled";
/// The conditions of [`crate::kstatus`], which follow from the others.
pub const HEALTH: [&str; 3] = [READY, RECONCILING, STALLED];

/// The order of the conditions in a status.
pub const ORDER: [&str; 11] = [
    STARTED,
    SUSPENDED,
    APPROVED,
    PROGRESSING,
    TRANSPORT_AVAILABLE,
    COMPLETE,
    FAILED,
    FINISHED,
    READY,
    RECONCILING,
    STALLED,
];

/// A condition to set. Whether it is a transition depends on the conditions before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionUpdate {
    pub type_: &'static str,
    pub status: bool,
    pub reason: String,
    pub message: String,
}

impl ConditionUpdate {
    pub fn new(
        type_: &'static str,
        status: bool,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status, reason: reason.into(), message: message.into() }
    }
}

/// `True` or `False`, as Kubernetes writes it.
pub fn status_text(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}

/// The conditions after these updates. A condition without an update is dropped;
/// `lastTransitionTime` moves only when the status changes between `True` and `False`.
pub fn replace(
    before: &[Condition],
    updates: &[ConditionUpdate],
    generation: Option<i64>,
    now: &Time,
) -> Vec<Condition> {
    let mut updates: Vec<&ConditionUpdate> = updates.iter().collect();
    updates.sort_by_key(|update| ORDER.iter().position(|type_| *type_ == update.type_));
    updates
        .into_iter()
        .map(|update| {
            let status = status_text(update.status);
            let since = find(before, update.type_)
                .filter(|old| old.status == status)
                .map_or_else(|| now.clone(), |old| old.last_transition_time.clone());
            Condition {
                type_: update.type_.to_owned(),
                status: status.to_owned(),
                reason: update.reason.clone(),
                message: update.message.clone(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition exists and is `True`.
pub fn holds(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_transition_time_changes_with_the_status_only() {
        let first = replace(
            &[],
            &[ConditionUpdate::new(STARTED, false, "PriceBookNotFound", "no")],
            Some(1),
            &at(10),
        );
        assert_eq!(first[0].last_transition_time, at(10));

        let again = replace(
            &first,
            &[ConditionUpdate::new(STARTED, false, "MonthLocked", "by another")],
            Some(2),
            &at(20),
        );
        assert_eq!(again[0].last_transition_time, at(10));
        assert_eq!((again[0].reason.as_str(), again[0].observed_generation), ("MonthLocked", Some(2)));

        let flipped =
            replace(&again, &[ConditionUpdate::new(STARTED, true, "Planned", "yes")], Some(2), &at(30));
        assert_eq!(flipped[0].last_transition_time, at(30));
        assert!(holds(&flipped, STARTED));
    }

    #[test]
    fn conditions_have_a_fixed_order() {
        let updates =
            [FINISHED, STARTED, PROGRESSING].map(|type_| ConditionUpdate::new(type_, true, "Because", ""));
        let types: Vec<_> =
            replace(&[], &updates, None, &at(1)).into_iter().map(|condition| condition.type_).collect();
        assert_eq!(types, [STARTED, PROGRESSING, FINISHED]);
    }

    #[test]
    fn a_condition_without_an_update_is_dropped() {
        let before = replace(&[], &[ConditionUpdate::new(SUSPENDED, true, "Suspended", "")], None, &at(1));
        assert_eq!(replace(&before, &[], None, &at(2)), []);
    }
}
