//! What `watch` and `--wait` show of a run, and how the program exits when the run has ended.

use api::billing_run::Phase;
use api::notification_run;
use api::reconciled::Reconciled as _;
use api::run::{Run as _, RunPhase as _};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

use super::{grouped, reason, span};
use crate::exit::Exit;
use crate::plan::find::AnyRun;

/// The most shards that have a mark of their own.
const MARKS: usize = 64;

/// A run at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) phase: &'static str,
    pub(crate) done: u64,
    pub(crate) whole: u64,
    /// What a line says behind the bar: counts, rate, remaining time.
    pub(crate) detail: String,
    /// Why the run stands still or failed.
    pub(crate) reason: Option<String>,
    /// How it ended, or that it waits for a person.
    pub(crate) end: Option<Exit>,
}

impl View {
    /// The line without a terminal, also to see whether something has changed.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{}: {}", self.name, self.phase);
        if self.whole > 0 {
            line.push_str(&format!(", {} of {}", grouped(self.done), grouped(self.whole)));
        }
        if !self.detail.is_empty() {
            line.push_str(&format!(", {}", self.detail));
        }
        if let Some(reason) = &self.reason {
            line.push_str(&format!(" ({reason})"));
        }
        line
    }
}

pub(crate) fn view(run: &AnyRun, now: Timestamp) -> View {
    match run {
        AnyRun::Billing(run) => {
            let phase = run.phase().unwrap_or(Phase::Pending);
            let progress = run.status.as_ref().and_then(|status| status.progress.clone()).unwrap_or_default();
            let quarantined =
                run.status.as_ref().and_then(|status| status.counts.as_ref()).map_or(0, |c| c.quarantined);
            let mut parts = Vec::new();
            if quarantined > 0 {
                parts.push(format!("{} quarantined", grouped(quarantined)));
            }
            parts.extend(pace(
                progress.members_per_second,
                progress.estimated_completion.as_ref(),
                phase,
                now,
            ));
            let end = match phase {
                Phase::Succeeded => Some(Exit::Done),
                Phase::Failed | Phase::Rejected => Some(Exit::Failed),
                Phase::AwaitingApproval => Some(Exit::Waits),
                _ => None,
            };
            View {
                name: run.name_any(),
                phase: phase.as_str(),
                done: progress.members_done.unsigned_abs(),
                whole: progress.members.unsigned_abs(),
                detail: parts.join(", "),
                reason: reason(run.conditions()),
                end,
            }
        }
        AnyRun::Notification(run) => {
            use notification_run::Phase;
            let phase = run.phase().unwrap_or(Phase::Pending);
            let status = run.status.clone().unwrap_or_default();
            let progress = status.progress.unwrap_or_default();
            let counts = status.counts.unwrap_or_default();
            let mut parts: Vec<String> =
                [("failed", counts.failed), ("unknown", counts.unknown), ("skipped", counts.skipped)]
                    .into_iter()
                    .filter(|(_, number)| *number > 0)
                    .map(|(name, number)| format!("{} {name}", grouped(number)))
                    .collect();
            if let Some(lag) = status.consumers.and_then(|consumers| consumers.lag).filter(|lag| *lag > 0) {
                parts.push(format!("lag {}", grouped(lag)));
            }
            parts.extend(pace(progress.per_second, progress.estimated_completion.as_ref(), phase, now));
            let end = match phase {
                Phase::Succeeded => Some(Exit::Done),
                Phase::CompletedWithFailures => Some(Exit::Waits),
                Phase::Failed => Some(Exit::Failed),
                _ => None,
            };
            View {
                name: run.name_any(),
                phase: phase.as_str(),
                done: progress.done.unsigned_abs(),
                whole: progress.targets.unsigned_abs(),
                detail: parts.join(", "),
                reason: reason(run.conditions()),
                end,
            }
        }
    }
}

/// The rate, and the time that is left at that rate.
fn pace(
    per_second: Option<i64>,
    completion: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    phase: impl api::run::RunPhase,
    now: Timestamp,
) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(rate) = per_second {
        parts.push(format!("{}/s", grouped(rate)));
    }
    if let Some(at) = completion.filter(|_| !phase.is_final()) {
        let left = at.0.as_second() - now.as_second();
        if left > 0 {
            parts.push(format!("{} left", span(left)));
        }
    }
    parts
}

/// The shards of a worker Job: how many are done and active, and a mark for each.
pub(crate) fn shards(job: &Job) -> Option<String> {
    let whole = usize::try_from(job.spec.as_ref()?.completions?).ok()?;
    let status = job.status.clone().unwrap_or_default();
    let done = indexes(status.completed_indexes.as_deref().unwrap_or_default(), whole);
    let failed = indexes(status.failed_indexes.as_deref().unwrap_or_default(), whole);
    let number = done.iter().filter(|done| **done).count();
    let active = status.active.unwrap_or(0);
    let mut text = format!("shards: {number} of {whole} done, {active} active");
    if whole <= MARKS {
        let mark = |at: usize| match (done[at], failed[at]) {
            (true, _) => '■',
            (false, true) => '✗',
            (false, false) => '·',
        };
        text.push_str("  ");
        text.extend((0..whole).map(mark));
    }
    Some(text)
}

/// Which of the indexes are in a list such as `0,2-4`, as the API server writes it.
fn indexes(list: &str, whole: usize) -> Vec<bool> {
    let mut found = vec![false; whole];
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (Ok(from), Ok(to)) = (from.parse::<usize>(), to.parse::<usize>()) else { continue };
        found.iter_mut().take(to.saturating_add(1)).skip(from).for_each(|found| *found = true);
    }
    found
}

#[cfg(test)]
mod tests {
    use api::billing_run::{Counts, Progress};
    use api::conditions::STARTED;
    use api::notification_run::{Consumers, NotificationCounts, NotificationProgress};
    use serde_json::json;

    use super::*;
    use crate::plan::testing::{billing_run, notification_run, time, with_condition};

    fn now() -> Timestamp {
        "2026-11-02T00:10:00Z".parse().unwrap()
    }

    fn of_phase(phase: Phase) -> View {
        view(&AnyRun::Billing(Box::new(billing_run("october", "2026-10", phase, None))), now())
    }

    #[test]
    fn a_billing_run_has_its_rate_and_remaining_time() {
        let mut run = billing_run("october", "2026-10", Phase::Running, Some(1));
        let status = run.status.as_mut().unwrap();
        status.progress = Some(Progress {
            members: 1_000_000,
            members_done: 420_000,
            members_per_second: Some(70_000),
            estimated_completion: Some(time("2026-11-02T00:10:09Z")),
            ..Progress::default()
        });
        status.counts = Some(Counts { quarantined: 3, ..Counts::default() });
        let view = view(&AnyRun::Billing(Box::new(run)), now());
        assert_eq!(view.line(), "october: Running, 420,000 of 1,000,000, 3 quarantined, 70,000/s, 9s left");
        assert_eq!(view.end, None);
    }

    #[test]
    fn a_notification_run_has_its_outcomes_and_lag() {
        let mut run = notification_run("notices", "2026-10", notification_run::Phase::Sending);
        let status = run.status.as_mut().unwrap();
        status.progress = Some(NotificationProgress {
            done: 10,
            targets: 100,
            per_second: Some(5),
            estimated_completion: Some(time("2026-11-02T01:40:00Z")),
            ..NotificationProgress::default()
        });
        status.counts = Some(NotificationCounts { failed: 2, unknown: 1, ..NotificationCounts::default() });
        status.consumers = Some(Consumers { lag: Some(90), ..Consumers::default() });
        let view = view(&AnyRun::Notification(Box::new(run)), now());
        assert_eq!(view.line(), "notices: Sending, 10 of 100, 2 failed, 1 unknown, lag 90, 5/s, 90m left");
    }

    #[test]
    fn a_run_that_waits_says_for_what() {
        let run = billing_run("december", "2026-12", Phase::Pending, None);
        let run = with_condition(run, STARTED, false, "MonthNotOver", "2026-12 is over on 2027-01-01");
        let view = view(&AnyRun::Billing(Box::new(run)), now());
        assert_eq!(view.line(), "december: Pending (MonthNotOver: 2026-12 is over on 2027-01-01)");
        assert_eq!(view.end, None);
    }

    #[test]
    fn each_end_has_its_exit_status() {
        for (phase, end) in [
            (Phase::Pending, None),
            (Phase::Planning, None),
            (Phase::Running, None),
            (Phase::Verifying, None),
            (Phase::Issuing, None),
            (Phase::AwaitingApproval, Some(Exit::Waits)),
            (Phase::Succeeded, Some(Exit::Done)),
            (Phase::Failed, Some(Exit::Failed)),
            (Phase::Rejected, Some(Exit::Failed)),
        ] {
            assert_eq!(of_phase(phase).end, end, "{phase:?}");
        }
        for (phase, end) in [
            (notification_run::Phase::Pending, None),
            (notification_run::Phase::Publishing, None),
            (notification_run::Phase::Sending, None),
            (notification_run::Phase::Succeeded, Some(Exit::Done)),
            (notification_run::Phase::CompletedWithFailures, Some(Exit::Waits)),
            (notification_run::Phase::Failed, Some(Exit::Failed)),
        ] {
            let run = notification_run("notices", "2026-10", phase);
            assert_eq!(view(&AnyRun::Notification(Box::new(run)), now()).end, end, "{phase:?}");
        }
    }

    #[test]
    fn shards_have_a_mark_each() {
        let job = |completions: i32, status: serde_json::Value| -> Job {
            serde_json::from_value(
                json!({"spec": {"completions": completions, "template": {}}, "status": status}),
            )
            .unwrap()
        };
        let some = job(8, json!({"completedIndexes": "0,2-4", "failedIndexes": "7", "active": 2}));
        assert_eq!(shards(&some).unwrap(), "shards: 4 of 8 done, 2 active  ■·■■■··✗");
        let many = job(200, json!({"completedIndexes": "0-99,300"}));
        assert_eq!(shards(&many).unwrap(), "shards: 100 of 200 done, 0 active");
        assert_eq!(shards(&job(2, json!({}))).unwrap(), "shards: 0 of 2 done, 0 active  ··");
    }
}
