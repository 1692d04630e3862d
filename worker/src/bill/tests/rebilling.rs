//! A month that is billed again: who gets a new outcome, what readers see before and after it is
//! issued, and that kills change nothing of it.

use store::billing::RevisionKey;
use store::testing::sample_month::EVERYTHING;
use tokio_util::sync::CancellationToken;

use super::faults::wait_until_blocked;
use super::{BillOutcome, Fixture, bill_shard};

/// Loaded after the month was billed, and billed with [`corrected_price_book`]: of the members of
/// the sample month, each changes in one way. Members 2, 6 to 9, 34, 1000000 and the last one stay
/// as they are.
const CORRECTIONS: &str = r"
insert into member (member_id, load, name) values (50, 2, '\x00');
insert into subscription (member_id, plan_code, from_date, to_date, load) values
    -- Billed, and now in quarantine.
    (4, 'LTE-33', '2026-10-31', null, 2),
    -- Billed, and no longer eligible.
    (5, 'UNLIMITED-89', '2025-01-01', '2025-01-01', 2),
    -- In quarantine, and no longer eligible.
    (32, 'LTE-33', '2026-01-01', '2026-01-01', 2),
    (32, 'UNLIMITED-89', '2026-10-31', '2026-10-31', 2),
    -- In quarantine for a discount, and now for a plan.
    (33, 'NO-SUCH-PLAN-EITHER', '2026-01-01', null, 2),
    -- New.
    (50, 'LTE-33', '2026-01-01', null, 2);
-- Another amount.
insert into adjustment (adjustment_id, member_id, month, code, amount, reason, load)
    values (3, 3, '2026-10', 'GOODWILL', -500, 'sorry again', 2);
insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
    -- The same amounts, of one byte more.
    (1, '2026-10-13T00:00:00+09:00', 1, 2, 'data', '2026-10', 'default', 'one byte more'),
    -- A member of no outcome stays one.
    (40, '2026-10-13T00:00:00+09:00', 1, 2, 'sms', '2026-10', 'default', 'still not eligible')";

/// Knows the plan of member 31, who is in quarantine without it.
pub(super) fn corrected_price_book(fixture: &Fixture) -> String {
    let plans = "plans:\n  - { code: NO-SUCH-PLAN, name: A plan at last, baseFee: 10000, usage: {} }\n";
    let corrected = fixture.price_book.replacen("plans:\n", plans, 1);
    assert_ne!(corrected, fixture.price_book);
    corrected
}

/// The outcomes that a revision wrote, by member.
pub(super) async fn written(fixture: &Fixture, revision: i32) -> String {
    fixture
        .database
        .read_text(&format!(
            "select coalesce(string_agg(line, ', ' order by member_id), 'nothing') from (
                 select member_id, format('%s billed', member_id) as line from bill where revision = {revision}
                 union all
                 select member_id, format('%s %s', member_id, code) from quarantined_member where revision = {revision}
                 union all
                 select member_id, format('%s ended', member_id) from ineligible_member where revision = {revision}) w"
        ))
        .await
}

/// A billed month with corrections, and the draft that bills it again.
pub(super) async fn begun() -> (Fixture, RevisionKey) {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.bill().await;
    fixture.load(2, CORRECTIONS).await;
    let key = fixture.rebill(2, 1, &corrected_price_book(&fixture)).await.key;
    (fixture, key)
}

/// The live bills, and the digest, of a month that was billed once, with all corrections.
async fn billed_at_once() -> (String, String) {
    let mut fixture = Fixture::new().await;
    fixture.billing.price_book = corrected_price_book(&fixture);
    fixture.load(1, EVERYTHING).await;
    fixture.load(2, CORRECTIONS).await;
    let key = fixture.begin(1).await.key;
    fixture.work_all(&key).await;
    let live = fixture.issue(&key).await;
    let verification = fixture.observe(&key).await.verification.expect("a verified revision");
    (live, verification.digest)
}

#[tokio::test]
async fn only_members_whose_outcome_changes_get_a_new_one() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let before = fixture.bill().await;
    fixture.load(2, CORRECTIONS).await;
    let started = fixture.rebill(2, 1, &corrected_price_book(&fixture)).await;
    fixture.work_all(&started.key).await;
    assert_eq!(
        written(&fixture, 2).await,
        "1 billed, 3 billed, 4 OVERLAPPING_SUBSCRIPTIONS, 5 ended, 31 billed, 32 ended, 33 UNKNOWN_PLAN, 50 billed"
    );
    // The counts are of the whole month.
    let snapshot = fixture.observe(&started.key).await;
    assert_eq!((started.members, snapshot.counts.billed, snapshot.counts.quarantined), (15, 12, 3));
    let rebilling = snapshot.rebilling.unwrap();
    assert_eq!((rebilling.of_revision.get(), rebilling.changed), (1, 8));
    assert_eq!(fixture.live_bills().await, before, "a draft is seen");

    let (live, digest) = billed_at_once().await;
    assert_eq!(fixture.issue(&started.key).await, live);
    assert_eq!(fixture.observe(&started.key).await.verification.unwrap().digest, digest);
    assert_eq!(
        fixture
            .database
            .read_text("select format('%s %s', sum(total_amount), count(distinct revision)) from live_bill")
            .await,
        format!("{} 2", snapshot.amounts.total)
    );
    assert_eq!(
        fixture.database.read_text("select format('%s %s %s %s %s %s', status, total, succeeded, failed, detail->>'ofRevision', detail->>'changed') from job_log where kind = 'REBILLING'").await,
        "COMPLETED_WITH_FAILURES 15 12 3 1 8"
    );
}

#[tokio::test]
async fn a_month_in_which_nothing_changes_gets_no_row() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let before = fixture.bill().await;
    let first = fixture.database.read_text("select digest from revision where revision = 1").await;
    let key = fixture.rebill(2, 1, &fixture.price_book).await.key;
    fixture.work_all(&key).await;
    assert_eq!(written(&fixture, 2).await, "nothing");
    assert_eq!(fixture.database.read_text("select count(*) from bill_item where revision = 2").await, "0");
    assert_eq!(fixture.issue(&key).await, before);
    assert_eq!(fixture.database.read_text("select digest from revision where revision = 2").await, first);
}

#[tokio::test]
async fn each_further_revision_is_compared_with_what_is_live() {
    let (fixture, second) = begun().await;
    fixture.work_all(&second).await;
    let corrected = fixture.issue(&second).await;
    // The same inputs again: everything is as it is live, in both revisions.
    let third = fixture.rebill(3, 2, &corrected_price_book(&fixture)).await.key;
    fixture.work_all(&third).await;
    assert_eq!(written(&fixture, 3).await, "nothing");
    assert_eq!(fixture.issue(&third).await, corrected);
    // As of load 1, nothing is known of member 50. Who had ended is there again.
    let store::billing::BeginResult::Started(fourth) = fixture.try_rebill(4, 3, Some(1)).await else {
        panic!("load 1 has finished and revision 3 is live");
    };
    fixture.work_all(&fourth.key).await;
    assert_eq!(
        written(&fixture, 4).await,
        "1 billed, 3 billed, 4 billed, 5 billed, 31 UNKNOWN_PLAN, 32 OVERLAPPING_SUBSCRIPTIONS, 33 UNKNOWN_DISCOUNT, 50 ended"
    );
    let undisturbed = Fixture::new().await;
    undisturbed.load(1, EVERYTHING).await;
    assert_eq!(fixture.issue(&fourth.key).await, undisturbed.bill().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_during_a_rebilling_leaves_none_of_its_rows() {
    let (fixture, key) = begun().await;
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table bill_item in exclusive mode").execute(&mut *blocker).await.unwrap();
    let (order, url) = (fixture.order(&key, 0, "killed"), fixture.worker.clone());
    let worker = tokio::spawn(async move { bill_shard(&order, &url, &CancellationToken::new()).await });
    wait_until_blocked(&fixture).await;
    worker.abort();
    assert!(worker.await.unwrap_err().is_cancelled());
    blocker.rollback().await.unwrap();
    assert_eq!(written(&fixture, 2).await, "nothing");
    let both = futures::future::join_all([0, 1, 0, 1].map(|shard| fixture.work(&key, shard))).await;
    assert!(both.iter().all(|ended| matches!(ended, Ok(BillOutcome::Done(_)))), "{both:?}");
    assert_eq!(fixture.issue(&key).await, billed_at_once().await.0);
}
