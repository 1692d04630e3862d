//! A run with targets to tell: its publisher or rehearsal, what keeps consumers from sending, and when what is still open
//! is published again.

use std::time::Duration;

use api::{
    NotificationRun,
    conditions::{PROGRESSING, Said, TRANSPORT_AVAILABLE},
    notification_run::Phase,
};
use jiff::SignedDuration;
use store::notification::{NotificationState, Publication, Snapshot};

use super::{
    Do, NotificationDecision, World,
    decide::{WORKERS_FAILED, look_again},
    job::{self, Errand},
    status,
};
use crate::{
    run_loop::{Decision, Next},
    runs::errand::{self, Wanted},
};

/// Consumers are told of for this long after they were last seen; so long may one take to come at first.
const PATIENCE_WITH_CONSUMERS: SignedDuration = SignedDuration::from_secs(30);
/// Between the end of one publication and the next at least, doubled with each up to the longest.
const FIRST_PAUSE: u64 = 2;
const LONGEST_PAUSE: u64 = 60;
/// A look at the topic that began so soon after a publication ended may not have seen all of it.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

/// What keeps a run going, or from it.
struct Course {
    said: Said,
    transport: Option<Said>,
    next: Next<Do>,
}

pub(super) fn decide(run: &NotificationRun, world: &World, snapshot: &Snapshot) -> NotificationDecision {
    let Course { said, transport, next } = course(run, world, snapshot);
    let mut report = status::report(run, world, phase(snapshot), snapshot)
        .keeping(&[TRANSPORT_AVAILABLE])
        .saying_whether_suspended()
        .saying(said);
    if let Some(transport) = transport {
        report = report.saying(transport);
    }
    Decision { status: report.status(), next }
}

fn phase(snapshot: &Snapshot) -> Phase {
    let facts = &snapshot.facts;
    let published = snapshot
        .publication
        .as_ref()
        .is_some_and(|publication| publication.round > 1 || publication.done_at.is_some());
    if facts.selected && (facts.rehearsal || published) { Phase::Sending } else { Phase::Publishing }
}

fn course(run: &NotificationRun, world: &World, snapshot: &Snapshot) -> Course {
    let facts = &snapshot.facts;
    let suspend = run.spec.suspend;
    let transport = transport(snapshot);
    let going = |said, next| Course { said, transport: transport.clone(), next };
    if (facts.state == NotificationState::Suspended, facts.max_per_second)
        != (suspend, run.spec.max_per_second)
    {
        let adjust = Do::Adjust { id: facts.id, suspended: suspend, max_per_second: run.spec.max_per_second };
        return going(progress(run, world, snapshot), Next::Do(adjust));
    }
    // Nothing in hand: a bill whose target another run's message ended may still be on its way.
    if facts.selected && snapshot.open == 0 && snapshot.held() == 0 {
        return going(progress(run, world, snapshot), Next::Do(Do::Finish(facts.id)));
    }
    if let Some(old) = world.others.iter().find(|job| !job.deleting) {
        let delete = crate::runs::JobAction::Delete(old.name.clone());
        return going(progress(run, world, snapshot), Next::Do(Do::Job(delete)));
    }
    if let Some(work) = Errand::of(snapshot) {
        return errand(run, world, snapshot, work, transport);
    }
    let next = match &snapshot.publication {
        _ if suspend => look_again(),
        _ if facts.rehearsal => look_again(),
        None => Next::Do(Do::OpenRound { id: facts.id, after: facts.round }),
        Some(last) if is_to_be_published_again(world, snapshot, last) => {
            Next::Do(Do::OpenRound { id: facts.id, after: last.round })
        }
        Some(_) => look_again(),
    };
    going(progress(run, world, snapshot), next)
}

/// Work that a Job does.
fn errand(
    run: &NotificationRun,
    world: &World,
    snapshot: &Snapshot,
    work: Errand,
    transport: Option<Said>,
) -> Course {
    let name = work.job_name(run);
    let wanted = Wanted { name: &name, parallelism: 1, suspend: run.spec.suspend };
    let build = || job::build(run, snapshot, work, &world.parts);
    match errand::follow(wanted, &world.job, world.stuck.as_deref(), build) {
        errand::Errand::Under { trouble, next } => {
            let said = trouble.unwrap_or_else(|| progress(run, world, snapshot));
            Course { said, transport, next: next.map(Do::Job) }
        }
        errand::Errand::Failed(why) => {
            let said = Said::new(PROGRESSING, false, WORKERS_FAILED, why.clone());
            let fail = Do::Fail { id: snapshot.facts.id, reason: format!("{WORKERS_FAILED}: {why}") };
            Course { said, transport, next: Next::Do(fail) }
        }
    }
}

/// Some targets are open although the topic has nothing left of what was published: claims ran out, messages got lost, or
/// they were let pass while the run was suspended.
fn is_to_be_published_again(world: &World, snapshot: &Snapshot, last: &Publication) -> bool {
    let Some(done_at) = last.done_at else { return false };
    let since = snapshot.now.duration_since(done_at);
    // Each by its own clock.
    let looked_after = world.lag.as_ref().is_some_and(|lag| {
        lag.drained && world.now.duration_since(lag.read_at) < since.saturating_sub(CLOCK_TOLERANCE)
    });
    snapshot.held() == 0 && looked_after && since >= pause_after(last.round)
}

fn pause_after(round: i32) -> SignedDuration {
    let doubled = u32::try_from(round - 1).ok().and_then(|times| FIRST_PAUSE.checked_shl(times.min(16)));
    let seconds = doubled.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    SignedDuration::try_from(Duration::from_secs(seconds)).unwrap_or(SignedDuration::ZERO)
}

/// What the run does, or what it waits for.
fn progress(run: &NotificationRun, world: &World, snapshot: &Snapshot) -> Said {
    let waits = |reason: &'static str, message: String| Said::new(PROGRESSING, false, reason, message);
    let goes = |reason: &'static str, message: &str| Said::new(PROGRESSING, true, reason, message);
    let facts = &snapshot.facts;
    if run.spec.suspend {
        return waits("Suspended", "spec.suspend is true".to_owned());
    }
    if facts.rehearsal {
        return goes("Rehearsing", "every message is read, decrypted and rendered; none is sent");
    }
    if let Some(waiting) = snapshot.publication.as_ref().and_then(|round| round.waiting.as_ref()) {
        return waits("KafkaUnavailable", format!("the publisher waits: {waiting}"));
    }
    if phase(snapshot) == Phase::Publishing {
        return goes("Publishing", "the bills are chosen and put on the topic");
    }
    if let Some(why) = world.lag.as_ref().and_then(|lag| lag.unreadable.as_ref()) {
        return waits("KafkaUnavailable", format!("the topic's lag can't be read: {why}"));
    }
    let since = snapshot.publication.as_ref().map_or(snapshot.opened_at, |round| round.opened_at);
    if snapshot.consumers.is_empty()
        && snapshot.open > 0
        && snapshot.now.duration_since(since) > PATIENCE_WITH_CONSUMERS
    {
        let message = "no consumer was seen for 30 s; look at the pods of the Deployment that is labelled \
                       monthend.dev/scale-on-lag"
            .to_owned();
        return waits("NoConsumers", message);
    }
    if let Some(transport) = transport(snapshot).filter(|said| !said.status) {
        return waits("TransportUnavailable", transport.message);
    }
    goes("Sending", "the consumers send; what is still open when the topic is drained is published again")
}

/// What the consumers say of what they send through; nothing while none was seen.
fn transport(snapshot: &Snapshot) -> Option<Said> {
    if snapshot.facts.rehearsal {
        return None;
    }
    let first = snapshot.consumers.first()?;
    // Several consumers see the same trouble; one says it, always the same.
    let troubled = snapshot
        .consumers
        .iter()
        .filter_map(|seen| Some((seen.trouble_since, &seen.transport, seen.trouble.as_ref()?)))
        .min();
    Some(match troubled {
        Some((_, address, trouble)) if snapshot.consumers.iter().all(|seen| seen.trouble.is_some()) => {
            let message = format!("{address}: {trouble}; nobody fails by it, the consumers try again");
            Said::new(TRANSPORT_AVAILABLE, false, "TransportUnavailable", message)
        }
        _ => Said::new(
            TRANSPORT_AVAILABLE,
            true,
            "TransportUsable",
            format!("consumers send through {}", first.transport),
        ),
    })
}
