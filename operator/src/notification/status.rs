//! The status of a notification run, from what the database says of it.

use api::{
    NotificationRun, NotificationRunStatus,
    conditions::{STARTED, Said},
    notification_run::{Consumers, NotificationCounts, NotificationProgress, Phase},
};
use store::notification::Snapshot;

use super::World;
use crate::runs::{
    progress::{self, RECENTLY},
    report::{Report, whole_second},
};

/// What the database says now.
pub(super) fn report<'a>(
    run: &'a NotificationRun,
    world: &World,
    phase: Phase,
    snapshot: &Snapshot,
) -> Report<'a, NotificationRun> {
    let facts = &snapshot.facts;
    // Nobody looks at the topic for a run that is over, and a last lag that stays would be taken for a present one.
    let consumed = !facts.rehearsal && !facts.state.is_over();
    let status = NotificationRunStatus {
        phase: Some(phase),
        round: (facts.round > 0).then_some(facts.round),
        progress: Some(progress(snapshot)),
        counts: Some(counts(snapshot)),
        consumers: consumed.then(|| consumers(world, snapshot)),
        start_time: Some(whole_second(snapshot.opened_at)),
        ..NotificationRunStatus::default()
    };
    Report::of(run, world.now, status).saying(started(snapshot))
}

fn started(snapshot: &Snapshot) -> Said {
    let facts = &snapshot.facts;
    let message = format!(
        "{} bills of {}, with the templates {}",
        facts.selection.as_str(),
        facts.month,
        facts.templates.get(..12).unwrap_or(&facts.templates)
    );
    Said::new(STARTED, true, "Started", message)
}

/// The run in one line.
pub(super) fn summary(snapshot: &Snapshot) -> String {
    let counts = &snapshot.counts;
    let done = if snapshot.facts.rehearsal {
        format!("{} rendered", counts.rendered)
    } else {
        format!("{} sent, {} of unknown outcome", counts.sent, counts.unknown)
    };
    let open = if snapshot.open > 0 { format!(", {} open", snapshot.open) } else { String::new() };
    format!(
        "{} bills: {done}, {} failed, {} skipped{open}",
        snapshot.facts.targets, counts.failed, counts.skipped
    )
}

fn counts(snapshot: &Snapshot) -> NotificationCounts {
    let counts = &snapshot.counts;
    NotificationCounts {
        targets: snapshot.facts.targets,
        published: snapshot.published,
        sent: counts.sent,
        failed: counts.failed,
        skipped: counts.skipped,
        unknown: counts.unknown,
        open: snapshot.open,
        rendered: snapshot.facts.rehearsal.then_some(counts.rendered),
    }
}

fn consumers(world: &World, snapshot: &Snapshot) -> Consumers {
    let number = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
    let lag = world.lag.as_ref().and_then(|lag| lag.lag).and_then(|lag| i64::try_from(lag).ok());
    match world.lag.as_ref().and_then(|lag| lag.consumers) {
        Some(scaled) => Consumers {
            lag,
            replicas: number(scaled.replicas),
            ready: Some(number(scaled.ready)),
            desired: Some(number(scaled.desired)),
        },
        // Something else scales them; those that were seen are known all the same.
        None => Consumers {
            lag,
            replicas: i32::try_from(snapshot.consumers.len()).unwrap_or(i32::MAX),
            ready: None,
            desired: None,
        },
    }
}

pub(super) fn progress(snapshot: &Snapshot) -> NotificationProgress {
    let (done, targets) = (snapshot.counts.ended(), snapshot.facts.targets);
    let complete = snapshot.facts.selected && snapshot.open == 0;
    let (count, until) = match snapshot.closed_at {
        Some(closed_at) => (done, closed_at.duration_since(snapshot.opened_at)),
        None => (snapshot.ended_recently, snapshot.now.duration_since(snapshot.opened_at).min(RECENTLY)),
    };
    let rate = snapshot.facts.selected.then(|| progress::per_second(count, until)).flatten();
    NotificationProgress {
        done,
        targets,
        percent: progress::percent(done, targets, complete),
        per_second: rate,
        estimated_completion: rate
            .filter(|_| snapshot.closed_at.is_none())
            .and_then(|rate| progress::estimate(snapshot.now, snapshot.open, rate)),
    }
}

/// The status without what moves while nothing happens.
pub(super) fn without_time(status: &NotificationRunStatus) -> NotificationRunStatus {
    let mut status = status.clone();
    if let Some(progress) = &mut status.progress {
        progress.per_second = None;
        progress.estimated_completion = None;
    }
    status
}
