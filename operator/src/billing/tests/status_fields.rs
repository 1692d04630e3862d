//! The figures of the status.

use domain::change_cause::ChangeCause;
use serde_json::json;
use store::billing::{CauseShare, Diff};

use super::*;
use crate::billing::{BillingRuns, status};
use crate::controller::kind::Kind as _;

fn status_of(revision: RunSnapshot) -> BillingRunStatus {
    decide::decide(&run(), &with_job(observed(Some(revision)), job())).status
}

#[test]
fn the_status_has_the_databases_figures() {
    let status = status_of(live());
    assert_eq!((status.revision, status.data_cutoff), (Some(1), Some(3)));
    assert_eq!(status.digest.as_deref(), Some(DIGEST));
    assert_eq!(status.price_book.unwrap().version, "2026-07");
    assert_eq!(status.amounts.unwrap().total, "1180591620717411303424");
    let counts = status.counts.unwrap();
    assert_eq!(
        (counts.billed, counts.quarantined, counts.rated_usage, counts.late_usage),
        (9, 1, 50, Some(2))
    );
    let late = status.late.unwrap();
    assert_eq!((late.usage_rows, late.adjustments, late.members), (2, 1, 0));
    let not_charged = status.not_charged.unwrap();
    assert_eq!((not_charged.adjustments, not_charged.add_ons), (1, 0));
    assert_eq!(not_charged.adjustment_amount, "-1180591620717411303424");
    assert_eq!(status.verification[0].check, "members");
    assert_eq!(status.observed_generation, Some(1));
    // Kubernetes keeps times to the second.
    assert_eq!(status.completion_time.unwrap().0, time("2026-11-02T00:00:17Z"));
}

#[test]
fn the_status_of_a_rebilling_says_what_it_changes() {
    let share = |cause, members, delta| CauseShare { cause, members, delta };
    let mut causes: Vec<_> = ChangeCause::ALL.map(|cause| share(cause, 1, 0)).into();
    causes[0] = share(ChangeCause::PriceBook, 5, -(1 << 70));
    let diff =
        Diff { changed: 12, unchanged: 6, added: 2, removed: 1, increase: 3, decrease: -(1 << 70), causes };
    let status = status_of(RunSnapshot { diff: Some(diff), ..verified(true) });
    let mut shown = serde_json::to_value(status.diff).unwrap();
    let causes = shown.as_object_mut().unwrap().remove("causes").unwrap();
    assert_eq!(
        shown,
        json!({
            "changed": 12, "unchanged": 6, "added": 2, "removed": 1, "totalDelta": "-1180591620717411303421",
            "increase": "3", "decrease": "-1180591620717411303424",
        })
    );
    assert_eq!(causes[0], json!({"cause": "PriceBook", "members": 5, "delta": "-1180591620717411303424"}));
    let names: Vec<_> =
        causes.as_array().unwrap().iter().map(|share| share["cause"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "PriceBook",
            "Plan",
            "AddOn",
            "Discount",
            "Adjustment",
            "LateUsage",
            "Usage",
            "Quarantine",
            "MoreThanOne",
            "Calculation",
        ]
    );
    assert_eq!((status_of(live()).diff, status_of(live()).adjusted), (None, None));
}

#[test]
fn the_status_says_what_is_posted_and_to_which_month() {
    let posted = PostedDifferences { members: 7, amount: -(1 << 70) };
    let adjusted = json!({"members": 7, "amount": "-1180591620717411303424"});
    let draft = status_of(RunSnapshot { posted, ..verified(true) });
    assert_eq!(serde_json::to_value(draft.adjusted).unwrap(), adjusted);
    let issued = RunSnapshot { posted, posts_to: Some("2026-12".parse().unwrap()), ..live() };
    let decision = decide::decide(&run(), &observed(Some(issued)));
    let complete = message(&decision, conditions::COMPLETE);
    let expected = "; -1180591620717411303424 for 7 members is posted to 2026-12";
    assert!(complete.ends_with(expected), "{complete}");
    assert_eq!(decision.status.adjusted.unwrap().to_month.as_deref(), Some("2026-12"));
}

#[test]
fn unknown_figures_are_absent() {
    let status = status_of(draft());
    assert_eq!((status.digest, status.completion_time), (None, None));
    assert_eq!((status.counts.unwrap().late_usage, status.late), (None, None));
    assert!(status.verification.is_empty());
}

#[test]
fn the_rate_covers_the_last_seconds_and_then_the_whole_run() {
    // 3 members in the 2 seconds since the first claim; 7 are left.
    let progress = status::progress(&draft());
    assert_eq!((progress.percent, progress.members_per_second), (30, Some(1)));
    assert_eq!(progress.estimated_completion.unwrap().0, time("2026-11-02T00:00:19Z"));

    // 10 members in 5 seconds.
    let progress = status::progress(&all_done());
    assert_eq!((progress.percent, progress.members_per_second), (100, Some(2)));
    assert_eq!(progress.estimated_completion, None);

    let long = RunSnapshot {
        members: 1_000_000,
        counts: Counts { billed: 500_000, ..Counts::default() },
        members_done_recently: 200_000,
        now: time("2026-11-02T00:10:00Z"),
        ..draft()
    };
    let progress = status::progress(&long);
    assert_eq!((progress.percent, progress.members_per_second), (50, Some(20_000)));
    assert_eq!(progress.estimated_completion.unwrap().0, time("2026-11-02T00:10:25Z"));
}

#[test]
fn a_run_without_progress_has_no_estimate() {
    let still = RunSnapshot { members_done_recently: 0, now: time("2026-11-02T01:00:00Z"), ..draft() };
    let progress = status::progress(&still);
    assert_eq!((progress.members_per_second, progress.estimated_completion), (Some(0), None));
    let unclaimed = RunSnapshot { first_claim_at: None, ..still };
    assert_eq!(status::progress(&unclaimed).members_per_second, None);
}

#[test]
fn a_run_is_at_100_percent_only_once_all_chunks_are_done() {
    let nearly = RunSnapshot { counts: Counts { billed: 10, ..Counts::default() }, ..draft() };
    assert_eq!(status::progress(&nearly).percent, 99);
    let nobody = RunSnapshot { members: 0, counts: Counts::default(), ..all_done() };
    assert_eq!(status::progress(&nobody).percent, 100);
    let nobody_yet = RunSnapshot { members: 0, counts: Counts::default(), ..draft() };
    assert_eq!(status::progress(&nobody_yet).percent, 0);
}

#[test]
fn rates_and_estimates_do_not_count_as_changes() {
    let one = status_of(draft());
    let later =
        status_of(RunSnapshot { now: time("2026-11-02T00:00:13Z"), members_done_recently: 2, ..draft() });
    assert_ne!(one, later);
    assert_eq!(BillingRuns::without_estimates(&one), BillingRuns::without_estimates(&later));
    let further = status_of(RunSnapshot { chunks_done: 2, ..draft() });
    assert_ne!(BillingRuns::without_estimates(&one), BillingRuns::without_estimates(&further));
}

#[test]
fn a_status_round_trips_through_json() {
    for revision in [draft(), all_done(), verified(true), live(), rejected("Deleted: x")] {
        let status = status_of(revision);
        let read: BillingRunStatus = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
        assert_eq!(read, status);
    }
}
