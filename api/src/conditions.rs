//! Conditions: their types, and how a new set of them replaces the old one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The run has begun; `False` says why it hasn't yet.
pub const STARTED: &str = "Started";
/// Work goes on; `False` says what it waits for.
pub const PROGRESSING: &str = "Progressing";
/// `spec.suspend` has stopped the work.
pub const SUSPENDED: &str = "Suspended";
/// The draft may be issued; `False` says what approval is needed for.
pub const APPROVED: &str = "Approved";
/// What the consumers send through can be used; `False` says what is wrong with it, in its own words.
pub const TRANSPORT_AVAILABLE: &str = "TransportAvailable";
/// Ended as it should.
pub const COMPLETE: &str = "Complete";
/// Ended without a result.
pub const FAILED: &str = "Failed";
/// Ended, either way.
pub const FINISHED: &str = "Finished";

/// The order in which they are told.
const ORDER: [&str; 8] =
    [STARTED, SUSPENDED, APPROVED, PROGRESSING, TRANSPORT_AVAILABLE, COMPLETE, FAILED, FINISHED];

/// A condition as decided, before it is known whether it flips anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub type_: &'static str,
    pub status: bool,
    pub reason: String,
    pub message: String,
}

impl Said {
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

/// The conditions that hold now. What was said before of a type that is not mentioned now is forgotten;
/// `lastTransitionTime` moves only when the status flips.
pub fn replace(before: &[Condition], said: &[Said], generation: Option<i64>, now: &Time) -> Vec<Condition> {
    let mut said: Vec<&Said> = said.iter().collect();
    said.sort_by_key(|said| ORDER.iter().position(|type_| *type_ == said.type_));
    said.into_iter()
        .map(|said| {
            let status = status_text(said.status);
            let since = find(before, said.type_)
                .filter(|old| old.status == status)
                .map_or_else(|| now.clone(), |old| old.last_transition_time.clone());
            Condition {
                type_: said.type_.to_owned(),
                status: status.to_owned(),
                reason: said.reason.clone(),
                message: said.message.clone(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition is there and `True`.
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
    fn the_transition_time_moves_on_a_flip_only() {
        let first = replace(&[], &[Said::new(STARTED, false, "PriceBookNotFound", "no")], Some(1), &at(10));
        assert_eq!(first[0].last_transition_time, at(10));

        let again =
            replace(&first, &[Said::new(STARTED, false, "MonthLocked", "by another")], Some(2), &at(20));
        assert_eq!(again[0].last_transition_time, at(10));
        assert_eq!((again[0].reason.as_str(), again[0].observed_generation), ("MonthLocked", Some(2)));

        let flipped = replace(&again, &[Said::new(STARTED, true, "Planned", "yes")], Some(2), &at(30));
        assert_eq!(flipped[0].last_transition_time, at(30));
        assert!(holds(&flipped, STARTED));
    }

    #[test]
    fn they_are_told_in_one_order() {
        let said = [FINISHED, STARTED, PROGRESSING].map(|type_| Said::new(type_, true, "Because", ""));
        let told: Vec<_> =
            replace(&[], &said, None, &at(1)).into_iter().map(|condition| condition.type_).collect();
        assert_eq!(told, [STARTED, PROGRESSING, FINISHED]);
    }

    #[test]
    fn what_is_no_longer_said_is_forgotten() {
        let before = replace(&[], &[Said::new(SUSPENDED, true, "Suspended", "")], None, &at(1));
        assert_eq!(replace(&before, &[], None, &at(2)), []);
    }
}
