//! The figures of the status.

use super::*;
use crate::controller::kind::Kind as _;
use crate::notification::{NotificationRuns, status};

fn status_of(snapshot: Snapshot) -> NotificationRunStatus {
    decide::decide(&run(), &observed(Some(snapshot))).status
}

#[test]
fn the_status_has_the_databases_figures() {
    let status = status_of(sending());
    let counts = status.counts.unwrap();
    assert_eq!((counts.targets, counts.published), (10, 10));
    assert_eq!((counts.sent, counts.failed, counts.skipped, counts.unknown, counts.open), (4, 1, 1, 0, 4));
    assert_eq!(counts.rendered, None);
    assert_eq!((status.round, status.observed_generation), (Some(1), Some(1)));
    assert_eq!(status.start_time.unwrap().0, time("2026-11-02T00:00:00Z"));
    assert_eq!(status.completion_time, None);

    // Kubernetes keeps times to the second.
    assert_eq!(status_of(finished()).completion_time.unwrap().0, time("2026-11-02T00:00:50Z"));
}

#[test]
fn the_status_has_the_consumers() {
    let consumers = status_of(sending()).consumers.unwrap();
    assert_eq!(
        (consumers.lag, consumers.replicas, consumers.ready, consumers.desired),
        (Some(0), 3, Some(2), Some(4))
    );
    let others = Observed {
        lag: Some(LagView { consumers: None, lag: None, ..lag(0, NOW) }),
        ..observed(Some(sending()))
    };
    let consumers = decide::decide(&run(), &others).status.consumers.unwrap();
    assert_eq!(
        (consumers.lag, consumers.replicas, consumers.ready, consumers.desired),
        (None, 1, None, None)
    );
    let rehearsing = rehearsing(left_over());
    let status = decide::decide(&rehearsal(), &observed(Some(rehearsing))).status;
    assert_eq!((status.consumers, status.counts.unwrap().rendered), (None, Some(0)));
    assert_eq!(status_of(finished()).consumers, None, "a run that is over has no lag");
}

#[test]
fn the_rate_covers_the_last_seconds_and_then_the_whole_run() {
    // 300 bills in the last 10 seconds; 400 are left.
    let halfway = Snapshot {
        facts: RunFacts { targets: 1000, ..sending().facts },
        counts: NotificationCounts { sent: 600, ..NotificationCounts::default() },
        open: 400,
        ended_recently: 300,
        ..sending()
    };
    let progress = status::progress(&halfway);
    assert_eq!((progress.done, progress.targets, progress.percent), (600, 1000, 60));
    assert_eq!(progress.per_second, Some(30));
    assert_eq!(progress.estimated_completion.unwrap().0, time("2026-11-02T00:01:14Z"));

    // 10 bills in 50.5 seconds.
    let progress = status::progress(&finished());
    assert_eq!((progress.percent, progress.per_second, progress.estimated_completion), (100, Some(0), None));
}

#[test]
fn there_is_no_estimate_before_the_bills_are_selected() {
    let progress = status::progress(&begun());
    assert_eq!((progress.percent, progress.per_second, progress.estimated_completion), (0, None, None));
    let stalled = Snapshot { ended_recently: 0, ..sending() };
    assert_eq!(status::progress(&stalled).estimated_completion, None);
}

#[test]
fn rates_and_estimates_do_not_count_as_changes() {
    let one = status_of(Snapshot { ended_recently: 30, ..sending() });
    let later = status_of(Snapshot { ended_recently: 20, ..sending() });
    assert_ne!(one, later);
    assert_eq!(NotificationRuns::without_estimates(&one), NotificationRuns::without_estimates(&later));
    let further = status_of(Snapshot { open: 3, ..sending() });
    assert_ne!(NotificationRuns::without_estimates(&one), NotificationRuns::without_estimates(&further));
}

#[test]
fn a_status_round_trips_through_json() {
    for snapshot in [begun(), publishing(), sending(), left_over(), finished()] {
        let status = status_of(snapshot);
        let read: NotificationRunStatus =
            serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        assert_eq!(read, status);
    }
}
