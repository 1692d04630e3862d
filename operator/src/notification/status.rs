//! The status of a notification run, from the database's snapshot of it. Pure.

use api::conditions::{ConditionUpdate, STARTED};
use api::notification_run::{Consumers, NotificationCounts, NotificationProgress, Phase};
use api::{NotificationRun, NotificationRunStatus, reasons};
use store::notification::Snapshot;

use super::observed::Observed;
use crate::controller::progress::{self, RECENTLY};
use crate::controller::status_builder::{StatusBuilder, whole_second};

/// The status with all figures of the run, and the condition Started.
pub(super) fn builder<'a>(
    run: &'a NotificationRun,
    observed: &Observed,
    phase: Phase,
    snapshot: &Snapshot,
) -> StatusBuilder<'a, NotificationRun> {
    let facts = &snapshot.facts;
    // Without the consumers once the run is over: the lag is no longer updated and would look current.
    let consumed = !facts.rehearsal && !facts.state.is_over();
    let status = NotificationRunStatus {
        phase: Some(phase),
        round: (facts.round > 0).then_some(facts.round),
        progress: Some(progress(snapshot)),
        counts: Some(counts(snapshot)),
        consumers: consumed.then(|| consumers(observed, snapshot)),
        start_time: Some(whole_second(snapshot.opened_at)),
        ..NotificationRunStatus::default()
    };
    StatusBuilder::new(run, observed.now, status).condition(started(snapshot))
}

fn started(snapshot: &Snapshot) -> ConditionUpdate {
    let facts = &snapshot.facts;
    let message = format!(
        "{} bills of {}, with templates {}",
        facts.selection.as_str(),
        facts.month,
        facts.templates.get(..12).unwrap_or(&facts.templates)
    );
    ConditionUpdate::new(STARTED, true, reasons::STARTED, message)
}

/// The counts of the run in one line.
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

fn consumers(observed: &Observed, snapshot: &Snapshot) -> Consumers {
    let number = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
    let lag = observed.lag.as_ref().and_then(|lag| lag.lag).and_then(|lag| i64::try_from(lag).ok());
    match observed.lag.as_ref().and_then(|lag| lag.consumers) {
        Some(scaled) => Consumers {
            lag,
            replicas: number(scaled.replicas),
            ready: Some(number(scaled.ready)),
            desired: Some(number(scaled.desired)),
        },
        // Something else scales the consumers: count those that reported to the database.
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

/// The status without the rate and the estimate, which change while nothing happens.
pub(super) fn without_estimates(status: &NotificationRunStatus) -> NotificationRunStatus {
    let mut status = status.clone();
    if let Some(progress) = &mut status.progress {
        progress.per_second = None;
        progress.estimated_completion = None;
    }
    status
}
