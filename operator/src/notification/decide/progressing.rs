//! What a run that is not over does or waits for: its phase, and its conditions Progressing and
//! TransportAvailable.

use api::conditions::{ConditionUpdate, PROGRESSING, TRANSPORT_AVAILABLE};
use api::notification_run::Phase;
use api::{NotificationRun, reasons};
use jiff::SignedDuration;
use store::notification::Snapshot;

use crate::notification::observed::Observed;

/// Consumers count as present for this long after their last report, and may take this long to
/// start.
const CONSUMER_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);

pub(super) fn phase(snapshot: &Snapshot) -> Phase {
    let facts = &snapshot.facts;
    let published = snapshot
        .publication
        .as_ref()
        .is_some_and(|publication| publication.round > 1 || publication.done_at.is_some());
    if facts.selected && (facts.rehearsal || published) { Phase::Sending } else { Phase::Publishing }
}

/// The condition Progressing.
pub(super) fn condition(run: &NotificationRun, observed: &Observed, snapshot: &Snapshot) -> ConditionUpdate {
    let waiting =
        |reason: &'static str, message: String| ConditionUpdate::new(PROGRESSING, false, reason, message);
    let active =
        |reason: &'static str, message: &str| ConditionUpdate::new(PROGRESSING, true, reason, message);
    if let Some(hold) = &observed.hold {
        return hold.condition(PROGRESSING, run);
    }
    if run.spec.suspend {
        return waiting(reasons::SUSPENDED, "spec.suspend is true".to_owned());
    }
    if snapshot.facts.rehearsal {
        let message = "every e-mail is being decrypted and rendered; none is sent";
        return active(reasons::REHEARSING, message);
    }
    if let Some(problem) = snapshot.publication.as_ref().and_then(|round| round.waiting.as_ref()) {
        return waiting(reasons::KAFKA_UNAVAILABLE, format!("the publisher waits for Kafka: {problem}"));
    }
    if phase(snapshot) == Phase::Publishing {
        return active(reasons::PUBLISHING, "the bills are being selected and published to Kafka");
    }
    if let Some(problem) = observed.lag.as_ref().and_then(|lag| lag.unreadable.as_ref()) {
        return waiting(reasons::KAFKA_UNAVAILABLE, format!("the topic's lag cannot be read: {problem}"));
    }
    let since = snapshot.publication.as_ref().map_or(snapshot.opened_at, |round| round.opened_at);
    if snapshot.consumers.is_empty()
        && snapshot.open > 0
        && snapshot.now.duration_since(since) > CONSUMER_TIMEOUT
    {
        let message = "no consumer has reported for 30 s; check the pods of the Deployment with the label \
                       monthend.dev/scale-on-lag"
            .to_owned();
        return waiting(reasons::NO_CONSUMERS, message);
    }
    if let Some(transport) = transport(snapshot).filter(|update| !update.status) {
        return waiting(reasons::TRANSPORT_UNAVAILABLE, transport.message);
    }
    let message =
        "the consumers are sending; bills that are still open when the topic is drained are published again";
    active(reasons::SENDING, message)
}

/// The condition TransportAvailable, as the consumers report it; None while no consumer has.
pub(super) fn transport(snapshot: &Snapshot) -> Option<ConditionUpdate> {
    if snapshot.facts.rehearsal {
        return None;
    }
    let first = snapshot.consumers.first()?;
    // Of several consumers with a problem, always the same one is quoted: the one that has had it
    // longest.
    let problem = snapshot
        .consumers
        .iter()
        .filter_map(|consumer| {
            Some((consumer.trouble_since, &consumer.transport, consumer.trouble.as_ref()?))
        })
        .min();
    Some(match problem {
        Some((_, address, problem))
            if snapshot.consumers.iter().all(|consumer| consumer.trouble.is_some()) =>
        {
            let message =
                format!("{address}: {problem}; no bill fails because of this, the consumers try again");
            ConditionUpdate::new(TRANSPORT_AVAILABLE, false, reasons::TRANSPORT_UNAVAILABLE, message)
        }
        _ => {
            let message = format!("the consumers send through {}", first.transport);
            ConditionUpdate::new(TRANSPORT_AVAILABLE, true, reasons::TRANSPORT_USABLE, message)
        }
    })
}
