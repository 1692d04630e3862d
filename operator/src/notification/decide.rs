//! What to do about a notification run. Pure: everything it knows is in the run and the [`World`]. The parts of a run's
//! life are in [`super::start`] (before the database knows it) and [`super::send`] (while it has targets to tell).

use std::time::Duration;

use api::{
    NotificationRun,
    conditions::{COMPLETE, FAILED, FINISHED, PROGRESSING, Said, TRANSPORT_AVAILABLE},
    notification_run::Phase,
    run::Run as _,
};
use store::notification::{NotificationState, Snapshot};

use super::{Do, NotificationDecision, World, send, start, status};
use crate::{
    run_loop::{Decision, Next},
    runs::lifecycle,
};

/// Why a run ended early, as the first word of the reason that is kept with it.
pub(super) const DELETED: &str = "Deleted";
pub(super) const WORKERS_FAILED: &str = "WorkersFailed";
const CANCELLED: &str = "Cancelled";
/// The status is to be at most 2 s old, and each look counts a million targets.
const LOOK_WHILE_SENDING: Duration = Duration::from_millis(1500);
/// Its leases run out by the database's clock, and housekeeping sees to what they leave.
const LOOK_FOR_SETTLED: Duration = Duration::from_secs(1);

pub(super) fn decide(run: &NotificationRun, world: &World) -> NotificationDecision {
    if run.metadata.deletion_timestamp.is_some() {
        return delete(run, world);
    }
    if run.is_over() {
        return lifecycle::rest_in_peace(run, world.now);
    }
    let stored = match &world.database {
        Ok(stored) => stored,
        Err(trouble) => return lifecycle::without_database(run, world.now, trouble),
    };
    match &stored.run {
        None if run.has_begun() => lost(run, world),
        None => start::decide(run, world),
        Some(snapshot) if snapshot.facts.state.is_over() => over(run, world, snapshot),
        Some(snapshot) => send::decide(run, world, snapshot),
    }
}

/// The status speaks of a run that the database does not have: another database, or one restored from before. To begin
/// again could tell members twice, so that is for a person to decide.
fn lost(run: &NotificationRun, world: &World) -> NotificationDecision {
    let message = "the database does not have this run, though it had: is it another database, or one restored from \
                   before the run? Put the right one back, or delete this run and create another";
    lifecycle::stuck(run, world.now, PROGRESSING, "RunLost", message)
}

/// The database has closed the run; the status follows once nothing of it is on its way any more.
fn over(run: &NotificationRun, world: &World, snapshot: &Snapshot) -> NotificationDecision {
    if let Some(first) = close(run, world, snapshot) {
        return first;
    }
    lifecycle::end(run, world.now, ended(run, world, snapshot))
}

/// What is left to do of a run that broke off: bills that a mail server was given have to get an outcome.
fn close(run: &NotificationRun, world: &World, snapshot: &Snapshot) -> Option<NotificationDecision> {
    if snapshot.logged {
        return None;
    }
    let message = format!(
        "{} bills are in a mail server's hands; the run ends when their outcome is known or their lease is over",
        snapshot.handed_over
    );
    let phase = run.phase().unwrap_or(Phase::Sending);
    let status = status::report(run, world, phase, snapshot)
        .saying(Said::new(PROGRESSING, false, "Closing", message))
        .status();
    let next = if snapshot.handed_over > 0 {
        Next::Wait(LOOK_FOR_SETTLED)
    } else {
        let (id, reason) = (snapshot.facts.id, snapshot.reason.clone().unwrap_or_default());
        Next::Do(match snapshot.facts.state {
            NotificationState::Failed => Do::Fail { id, reason },
            _ => Do::Cancel { id, reason },
        })
    };
    Some(Decision { status, next })
}

/// The last status of a run that is closed.
fn ended(run: &NotificationRun, world: &World, snapshot: &Snapshot) -> api::NotificationRunStatus {
    let at = snapshot.closed_at.unwrap_or(snapshot.now);
    let report =
        |phase| status::report(run, world, phase, snapshot).keeping(&[TRANSPORT_AVAILABLE]).ended(at);
    if snapshot.facts.state == NotificationState::Finished {
        let counts = &snapshot.counts;
        let message = status::summary(snapshot);
        let (phase, reason) = match (counts.failed + counts.unknown, snapshot.facts.rehearsal) {
            (0, false) => (Phase::Succeeded, "Sent"),
            (0, true) => (Phase::Succeeded, "Rehearsed"),
            _ => (Phase::CompletedWithFailures, "CompletedWithFailures"),
        };
        return report(phase)
            .saying(Said::new(COMPLETE, true, reason, message.clone()))
            .saying(Said::new(FINISHED, true, reason, message))
            .status();
    }
    let kept = snapshot.reason.clone().unwrap_or_default();
    let (reason, why) = [DELETED, WORKERS_FAILED]
        .into_iter()
        .find_map(|code| Some((code, kept.strip_prefix(code)?.strip_prefix(": ")?.to_owned())))
        .unwrap_or((CANCELLED, kept.clone()));
    let message = format!("{why}; {}; another run can tell the rest", status::summary(snapshot));
    report(Phase::Failed)
        .saying(Said::new(FAILED, true, reason, message.clone()))
        .saying(Said::new(FINISHED, true, reason, message))
        .status()
}

/// First nothing more is sent, then the workers go, then what is in a mail server's hands gets an outcome, then the run
/// may vanish.
fn delete(run: &NotificationRun, world: &World) -> NotificationDecision {
    let as_it_is = || run.status.clone().unwrap_or_default();
    if !lifecycle::is_held(run) {
        return Decision { status: as_it_is(), next: Next::Rest };
    }
    let over = run.is_over();
    let known = world.database.as_ref().ok().and_then(|stored| stored.run.as_ref());
    if let Some(open) = known.filter(|snapshot| !over && !snapshot.facts.state.is_over()) {
        let reason = format!("{DELETED}: the run was deleted before every bill had an outcome");
        let status = lifecycle::leaving(run, world.now, "nothing more is sent");
        return Decision { status, next: Next::Do(Do::Cancel { id: open.facts.id, reason }) };
    }
    if let Some(first) = lifecycle::stop_workers(run, world.now, &world.others, world.workers, Do::Job) {
        return first;
    }
    if over {
        return Decision { status: as_it_is(), next: Next::LetGo };
    }
    match (&world.database, known) {
        (Err(trouble), _) => {
            let message =
                format!("{trouble}; the run can be called off, and deleted, once the database answers");
            lifecycle::stuck(run, world.now, PROGRESSING, "DatabaseUnavailable", message)
        }
        (Ok(_), None) => Decision { status: as_it_is(), next: Next::LetGo },
        (Ok(_), Some(closed)) => match close(run, world, closed) {
            Some(first) => first,
            None => Decision { status: ended(run, world, closed), next: Next::LetGo },
        },
    }
}

pub(super) fn look_again() -> Next<Do> {
    Next::Wait(LOOK_WHILE_SENDING)
}
