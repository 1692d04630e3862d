//! What a run that is not over does or waits for: its phase, and its conditions Progressing and
//! TransportAvailable.

use api::conditions::{ConditionUpdate, PROGRESSING, TRANSPORT_AVAILABLE};
use api::notification_run::Phase;
use api::{NotificationRun, reasons};
use jiff::SignedDuration;
use store::notification::Snapshot;

use crate::autoscaling::LagView;
use crate::controller::no_progress;
use crate::notification::observed::Observed;

/// Consumers count as present for this long after their last report, and may take this long to
/// start.
const CONSUMER_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);
/// The chart's lease of 120 s, and the longest delay before a round of 60 s.
const LONGEST_STANDSTILL: SignedDuration = SignedDuration::from_secs(180);

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
        if let Some(still) = no_progress(run, observed, snapshot) {
            return still;
        }
        let message = "every e-mail is being decrypted and rendered; none is sent";
        return active(reasons::REHEARSING, message);
    }
    if let Some(problem) = snapshot.publication.as_ref().and_then(|round| round.waiting.as_ref()) {
        return waiting(reasons::KAFKA_UNAVAILABLE, format!("the publisher waits for Kafka: {problem}"));
    }
    if phase(snapshot) == Phase::Publishing {
        if let Some(still) = no_progress(run, observed, snapshot) {
            return still;
        }
        return active(reasons::PUBLISHING, "the bills are being selected and published to Kafka");
    }
    if let Some(problem) = observed.lag.as_ref().and_then(|lag| lag.unreadable.as_ref()) {
        return waiting(reasons::KAFKA_UNAVAILABLE, format!("the topic's lag cannot be read: {problem}"));
    }
    if let Some(problem) = &observed.consumer_problem {
        return waiting(reasons::NO_CONSUMERS, problem.clone());
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
    if let Some(still) = no_progress(run, observed, snapshot) {
        return still;
    }
    let message =
        "the consumers are sending; bills that are still open when the topic is drained are published again";
    active(reasons::SENDING, message)
}

/// Whether there may be no consumer, so that it is worth to look at their pods.
pub(in crate::notification) fn may_lack_consumers(snapshot: &Snapshot, lag: Option<&LagView>) -> bool {
    let none_ready = lag.and_then(|lag| lag.consumers).is_some_and(|consumers| consumers.ready == 0);
    !snapshot.facts.rehearsal
        && !snapshot.facts.state.is_over()
        && phase(snapshot) == Phase::Sending
        && snapshot.open > 0
        && snapshot.ended_recently == 0
        && (snapshot.consumers.is_empty() || none_ready)
}

/// No bill got an outcome for longer than a lease and the delay before the next round take together.
fn no_progress(run: &NotificationRun, observed: &Observed, snapshot: &Snapshot) -> Option<ConditionUpdate> {
    let facts = &snapshot.facts;
    if facts.selected && snapshot.open == 0 {
        return None;
    }
    let published = snapshot.publication.as_ref().map(|round| round.done_at.unwrap_or(round.opened_at));
    let last_done = [Some(snapshot.opened_at), published, snapshot.last_ended_at];
    let last_done = last_done.into_iter().flatten().max().unwrap_or(snapshot.opened_at);
    let since = no_progress::since(run, observed.now, snapshot.now, last_done, LONGEST_STANDSTILL)?;
    let message = if facts.rehearsal || phase(snapshot) == Phase::Publishing {
        format!("no bill got an outcome since {since:.0}; {}", observed.workers.report)
    } else {
        let lag = observed.lag.as_ref().and_then(|lag| lag.lag);
        let lag = lag.map_or_else(String::new, |lag| format!("; {lag} messages wait on the topic"));
        let transport =
            transport(snapshot).map_or_else(String::new, |update| format!("; {}", update.message));
        format!(
            "no bill got an outcome since {since:.0}: {} are open, of which consumers have claimed {} and handed {} over to the \
             mail server; {} consumers have reported within 30 s{lag}{transport}",
            snapshot.open,
            snapshot.claimed,
            snapshot.handed_over,
            snapshot.consumers.len()
        )
    };
    Some(ConditionUpdate::new(PROGRESSING, false, reasons::NO_PROGRESS, message))
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
