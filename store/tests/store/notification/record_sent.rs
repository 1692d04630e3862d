//! `record_sent`, by which a person records after a restore what the mail server's log has.

use sqlx::AssertSqlSafe;
use store::notification::{self, Outcome, Scope, Selection};
use store::verify::{self, VerificationRequest};

use super::fixture::{Fixture, id, keys, member, members, month};

/// What was recorded, as `recorded, before, in progress, without a bill, other ids`.
async fn record_sent(fixture: &Fixture, ids: &[&str]) -> Result<String, String> {
    sqlx::query_scalar(AssertSqlSafe(
        "select concat_ws(', ', recorded, recorded_before, in_progress, without_bill, other_ids) from record_sent('2026-10', $1)",
    ))
    .bind(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<String>>())
    .fetch_one(&fixture.database.pool)
    .await
    .map_err(|error| error.to_string())
}

/// The violations of what `monthend verify` checks of notifications.
async fn violations(fixture: &Fixture) -> Vec<String> {
    const CHECKS: [&str; 5] = [
        "deliveries-match-targets",
        "recoveries-only-retry",
        "corrections-follow-sent-bills",
        "job-log-matches-notifications",
        "ended-notifications-hold-nothing",
    ];
    let mut connection = fixture.worker().await;
    let request = VerificationRequest { month: month(), active: None, keys: None, sink: None };
    let mut report = verify::verify_month(&mut connection, &request).await.unwrap();
    report.retain(|checked| CHECKS.contains(&checked.name));
    assert_eq!(report.len(), CHECKS.len());
    report.into_iter().flat_map(|checked| checked.violations).collect()
}

#[tokio::test]
async fn what_the_log_has_is_recorded_once_and_never_sent_again() {
    let fixture = Fixture::with_bills(7).await;
    let run = fixture.ready(1).await;
    for (ended, outcome) in [(1, Outcome::Sent), (2, Outcome::Failed), (3, Outcome::Unknown)] {
        fixture.end(&run, &[ended], outcome).await;
    }
    let log = [
        "<2026-10.1.1@example.com>",
        "<2026-10.2.1@example.com>",
        "2026-10.3.1@example.com",
        "<2026-10.4.1@example.com>",
        "<2026-10.4.1@example.com>",
        "<2026-10.5.1@example.com>",
        "<2026-10.7.1@example.com>",
        "<2026-10.99.1@example.com>",
        "<2026-10.1.2@example.com>",
        "<2026-09.6.1@example.com>",
        "",
    ];
    let refused = record_sent(&fixture, &log).await.unwrap_err();
    assert!(refused.contains("the run test/run-1 sends: suspend or delete it first"), "{refused}");
    let mut consumer = fixture.consumer("a").await;
    let in_progress = consumer.claim(&run, &keys(&[7], 1)).await;
    consumer.hand_over(&in_progress).await;
    notification::suspend_month(&fixture.operator, month()).await.unwrap();
    assert_eq!(record_sent(&fixture, &log).await.unwrap(), "4, 1, 1, 2, 2");
    assert_eq!(record_sent(&fixture, &log).await.unwrap(), "0, 5, 1, 2, 2");
    assert_eq!(
        fixture.deliveries().await,
        "1 SENT 1, 2 SENT 2, 3 SENT 2, 4 SENT 1, 5 SENT 1, 7 HANDED_OVER 1"
    );
    assert_eq!(violations(&fixture).await, [""; 0]);

    notification::update_settings(&fixture.operator, run.id, false, None).await.unwrap();
    let claims = consumer.claims(&run, &keys(&[4, 5, 6], 1)).await;
    let claimed: Vec<_> = claims.claimed.iter().map(|claimed| claimed.delivery).collect();
    assert_eq!(members(&claimed), [6]);
    consumer.deliver(&claimed, Outcome::Sent).await;
    assert_eq!(
        fixture.outcomes(&run).await,
        "1 SENT, 2 FAILED 550 no such user, 3 UNKNOWN OUTCOME_UNKNOWN, 4 SKIPPED ALREADY_SENT, 5 SKIPPED ALREADY_SENT, 6 SENT, 7"
    );
    assert_eq!(fixture.ready(2).await.targets, 0);
    assert_eq!(violations(&fixture).await, [""; 0]);
}

#[tokio::test]
async fn the_email_of_a_later_revision_is_recorded_as_a_correction() {
    let fixture = Fixture::with_bills(3).await;
    fixture.database.issue_bills(2, "values (1), (2), (3)").await;
    let log = ["<2026-10.1.2@x>", "<2026-10.1.1@x>", "<2026-10.2.1@x>", "<2026-10.3.2@x>"];
    assert_eq!(record_sent(&fixture, &log).await.unwrap(), "4, 0, 0, 0, 0");
    let corrections = fixture
        .database
        .read_text(
            "select string_agg(concat_ws(' ', member_id, revision, corrects), ', ' order by member_id, revision) from notice_target",
        )
        .await;
    assert_eq!(corrections, "1 1, 1 2 1, 2 1, 3 2");
    assert_eq!(violations(&fixture).await, [""; 0]);
    // Only member 2 was not told the new amount.
    let run = fixture.run(1, Selection::Corrected, &Scope::Everyone).await;
    assert_eq!(run.targets, 1);
    assert_eq!(fixture.outcomes(&run).await, "2");
    let ready =
        fixture.try_begin(2, Selection::Ready, &Scope::Range { from: member(1), to: member(3) }).await;
    assert!(id(ready).0 > run.id.0);
    assert_eq!(fixture.select_targets(2).await.targets, 0);
}

#[tokio::test]
async fn drafts_have_no_email() {
    let fixture = Fixture::with_bills(1).await;
    fixture.database.execute("update revision set state = 'REJECTED'").await;
    assert_eq!(record_sent(&fixture, &["<2026-10.1.1@x>"]).await.unwrap(), "0, 0, 0, 1, 0");
}
