//! What the workers of a Job say while nothing gets done: why none can work, and what they do. Pure.

use api::conditions::{ConditionUpdate, PROGRESSING};
use api::reasons;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;

/// An older Event may be of a problem that is solved.
const EVENT_LIFETIME: SignedDuration = SignedDuration::from_mins(3);
/// In characters.
const LONGEST_QUOTE: usize = 600;

/// What the pods of a Job say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Workers {
    /// Why none of them can work.
    pub(crate) problem: Option<WorkerProblem>,
    /// What each does, or how it ended.
    pub(crate) report: String,
}

/// Why a Job's workers cannot work, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerProblem {
    /// There is a pod, and it cannot run.
    Waiting(String),
    /// There is no pod: a quota or an admission policy refuses it.
    Refused(String),
}

impl WorkerProblem {
    pub(crate) fn condition(&self) -> ConditionUpdate {
        let (reason, words) = match self {
            Self::Waiting(words) => (reasons::WORKERS_WAITING, words),
            Self::Refused(words) => (reasons::PODS_REFUSED, words),
        };
        ConditionUpdate::new(PROGRESSING, false, reason, words)
    }
}

/// The words of the last of these Events, if it is recent.
pub(in crate::controller) fn last_words(events: &[Event], now: Timestamp) -> Option<String> {
    let (at, event) =
        events.iter().filter_map(|event| Some((time(event)?, event))).max_by_key(|(at, _)| *at)?;
    if now.duration_since(at) > EVENT_LIFETIME {
        return None;
    }
    let words: String = event.message.as_deref()?.trim().chars().take(LONGEST_QUOTE).collect();
    (!words.is_empty()).then_some(words)
}

/// When the Event was seen last. Which field has it depends on who wrote the Event.
fn time(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let times = [
        event.last_timestamp.as_ref().map(|at| at.0),
        event.event_time.as_ref().map(|at| at.0),
        series.map(|at| at.0),
        event.metadata.creation_timestamp.as_ref().map(|at| at.0),
    ];
    times.into_iter().flatten().max()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn event(second: i64, message: &str) -> Event {
        Event {
            last_timestamp: Some(Time(at(second))),
            message: Some(message.to_owned()),
            ..Event::default()
        }
    }

    #[test]
    fn the_last_event_is_quoted_while_it_is_recent() {
        let events = [event(5, "exceeded quota: old"), event(9, "exceeded quota: new"), event(7, "x")];
        assert_eq!(last_words(&events, at(10)).as_deref(), Some("exceeded quota: new"));
        assert_eq!(last_words(&events, at(9 + 180)).as_deref(), Some("exceeded quota: new"));
        assert_eq!(last_words(&events, at(9 + 181)), None);
        assert_eq!(last_words(&[], at(10)), None);
        assert_eq!(last_words(&[event(9, " ")], at(10)), None);
        // The clock of the machine that wrote it may be ahead.
        assert_eq!(last_words(&events, at(0)).as_deref(), Some("exceeded quota: new"));
    }

    #[test]
    fn pods_that_are_refused_have_a_reason_of_their_own() {
        let refused = WorkerProblem::Refused("exceeded quota".to_owned()).condition();
        assert_eq!((refused.type_, refused.status), (PROGRESSING, false));
        assert_eq!((refused.reason.as_str(), refused.message.as_str()), ("PodsRefused", "exceeded quota"));
        let waiting = WorkerProblem::Waiting("no image".to_owned()).condition();
        assert_eq!(waiting.reason, "WorkersWaiting");
    }
}
