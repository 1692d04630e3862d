//! The status in figures.

use super::*;
use crate::{
    notification::{NotificationRuns, status},
    run_loop::RunKind as _,
};

fn status_of(snapshot: Snapshot) -> NotificationRunStatus {
    decide::decide(&run(), &world(Some(snapshot))).status
}

#[test]
fn it_says_what_the_database_says() {
    let status = status_of(sending());
    let counts = status.counts.unwrap();
    assert_eq!((counts.targets, counts.published), (10, 10));
    assert_eq!((counts.sent, counts.failed, counts.skipped, counts.unknown, counts.open), (4, 1, 1, 0, 4));
    assert_eq!(counts.rendered, None);
    assert_eq!((status.round, status.observed_generation), (Some(1), Some(1)));
    assert_eq!(status.start_time.unwrap().0, time("2026-11-02T00:00:00Z"));
    assert_eq!(status.completion_time, None);

    // To the second, as Kubernetes keeps it.
    assert_eq!(status_of(finished()).completion_time.unwrap().0, time("2026-11-02T00:00:50Z"));
}

#[test]
fn it_says_who_sends() {
    let consumers = status_of(sending()).consumers.unwrap();
    assert_eq!(
        (consumers.lag, consumers.replicas, consumers.ready, consumers.desired),
        (Some(0), 3, Some(2), Some(4))
    );
    let others =
        World { lag: Some(LagView { consumers: None, lag: None, ..lag(0, NOW) }), ..world(Some(sending())) };
    let consumers = decide::decide(&run(), &others).status.consumers.unwrap();
    assert_eq!(
        (consumers.lag, consumers.replicas, consumers.ready, consumers.desired),
        (None, 1, None, None)
    );
    let rehearsing = rehearsing(left_over());
    let status = decide::decide(&rehearsal(), &world(Some(rehearsing))).status;
    assert_eq!((status.consumers, status.counts.unwrap().rendered), (None, Some(0)));
    assert_eq!(status_of(finished()).consumers, None, "what was on the topic at the end is no lag");
}

#[test]
fn the_rate_follows_the_last_seconds_and_then_tells_the_whole() {
    // 300 bills in the last 10 seconds; 400 are left.
    let going = Snapshot {
        facts: RunFacts { targets: 1000, ..sending().facts },
        counts: NotificationCounts { sent: 600, ..NotificationCounts::default() },
        open: 400,
        ended_recently: 300,
        ..sending()
    };
    let progress = status::progress(&going);
    assert_eq!((progress.done, progress.targets, progress.percent), (600, 1000, 60));
    assert_eq!(progress.per_second, Some(30));
    assert_eq!(progress.estimated_completion.unwrap().0, time("2026-11-02T00:01:14Z"));

    // 10 bills in 50.5 seconds.
    let progress = status::progress(&finished());
    assert_eq!((progress.percent, progress.per_second, progress.estimated_completion), (100, Some(0), None));
}

#[test]
fn nothing_is_promised_before_the_bills_are_chosen() {
    let progress = status::progress(&begun());
    assert_eq!((progress.percent, progress.per_second, progress.estimated_completion), (0, None, None));
    let still = Snapshot { ended_recently: 0, ..sending() };
    assert_eq!(status::progress(&still).estimated_completion, None);
}

#[test]
fn figures_that_move_by_themselves_are_no_change() {
    let one = status_of(Snapshot { ended_recently: 30, ..sending() });
    let later = status_of(Snapshot { ended_recently: 20, ..sending() });
    assert_ne!(one, later);
    assert_eq!(NotificationRuns::without_time(&one), NotificationRuns::without_time(&later));
    let further = status_of(Snapshot { open: 3, ..sending() });
    assert_ne!(NotificationRuns::without_time(&one), NotificationRuns::without_time(&further));
}

#[test]
fn what_is_written_reads_back_the_same() {
    for snapshot in [begun(), publishing(), sending(), left_over(), finished()] {
        let status = status_of(snapshot);
        let read: NotificationRunStatus =
            serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        assert_eq!(read, status);
    }
}
