//! To which later month a re-billing posts its differences, and when a rollback takes them away.

use domain::ids::Revision;
use domain::month::BillingMonth;
use sqlx::{Connection as _, PgConnection};
use store::billing::{self, AfterSent, EndStatus, RevisionKey, RollbackResult};
use store::testing::BillingFixture;
use store::verify::{self, VerificationRequest};

use super::{bill_shards, corrected_month, rebill};

/// A corrected month in which member 3 was sent a bill. The correction is 500 less.
async fn sent_month() -> BillingFixture {
    let mut fixture = corrected_month().await;
    fixture.after_sent = AfterSent::Adjust;
    fixture.deliver(1, "SENT", "3").await;
    fixture
}

/// Bills and issues a revision over another.
async fn adjust(fixture: &BillingFixture, uid: u128, of_revision: i32) -> RevisionKey {
    let key = rebill(fixture, uid, of_revision).await;
    fixture.issue(&key).await;
    key
}

/// Begins the first billing of another month.
async fn begin(fixture: &mut BillingFixture, month: &'static str, uid: u128) -> RevisionKey {
    let own = std::mem::replace(&mut fixture.month, month);
    let key = fixture.begin(uid).await.key;
    fixture.month = own;
    key
}

async fn posted(fixture: &BillingFixture) -> String {
    let all = "select string_agg(concat_ws(' ', month, member_id, code, amount, reason), ', ' order by month, from_revision)
               from posted_adjustment";
    fixture.database.read_text(all).await
}

fn rejection(result: RollbackResult) -> String {
    match result {
        RollbackResult::RolledBack(rollback) => panic!("{rollback:?}"),
        RollbackResult::Rejected(rejection) => rejection.to_string(),
    }
}

fn is_rolled_back(result: &RollbackResult) -> bool {
    matches!(result, RollbackResult::RolledBack(_))
}

/// The invariants that are violated. The fixture encrypts no members, leaves its loads running, and
/// delivers without a run.
async fn violated(connection: &mut PgConnection, month: BillingMonth) -> Vec<&'static str> {
    let request = VerificationRequest { month, active: None, keys: None, sink: None };
    let of_the_fixture = ["envelopes-are-valid", "ended-runs-are-closed", "deliveries-match-targets"];
    let report = verify::verify_month(connection, &request).await.unwrap();
    let violated = report.iter().filter(|checked| !checked.violations.is_empty());
    violated.map(|checked| checked.name).filter(|name| !of_the_fixture.contains(name)).collect()
}

#[tokio::test]
async fn a_difference_goes_to_the_first_later_month_that_is_not_billed() {
    let mut fixture = sent_month().await;
    let key = rebill(&fixture, 2, 1).await;
    // A draft posts nothing yet.
    assert_eq!(posted(&fixture).await, "");
    let november = begin(&mut fixture, "2026-11", 11).await;
    fixture.issue(&key).await;
    assert_eq!(posted(&fixture).await, "2026-12 3 CORRECTION -500 2026-10 revision 2");
    assert_eq!(fixture.database.read_text("select revision from live_bill where member_id = 3").await, "1");

    // Once, whatever is repeated.
    billing::reject_revision(&fixture.operator, &november, "deleted", EndStatus::Cancelled).await.unwrap();
    billing::issue_revision(&fixture.operator, &key, None).await.unwrap();
    adjust(&fixture, 3, 2).await;
    assert_eq!(posted(&fixture).await, "2026-12 3 CORRECTION -500 2026-10 revision 2");

    // Another difference, while November is free.
    fixture.load(3, "insert into adjustment values (4, 3, '2026-10', 'GOODWILL', 200, 'not sorry', 3)").await;
    adjust(&fixture, 4, 3).await;
    assert_eq!(
        posted(&fixture).await,
        "2026-11 3 CORRECTION 200 2026-10 revision 4, 2026-12 3 CORRECTION -500 2026-10 revision 2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_begins_at_the_same_time_either_reads_the_difference_or_gets_none() {
    let fixture = sent_month().await;
    let key = rebill(&fixture, 2, 1).await;
    assert!(fixture.verify(&key).await.passed());
    // Another transaction begins November, and has not committed.
    let mut other = fixture.database.pool.begin().await.unwrap();
    sqlx::raw_sql("insert into month_lock values ('2026-11', 1, 'test/other', gen_random_uuid())")
        .execute(&mut *other)
        .await
        .unwrap();
    let pool = fixture.operator.clone();
    let issuing = tokio::spawn(async move { billing::issue_revision(&pool, &key, None).await });
    let blocked = "select count(*) from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0";
    while fixture.database.read_text(blocked).await != "1" {
        assert!(!issuing.is_finished(), "it does not wait");
    }
    other.commit().await.unwrap();
    issuing.await.unwrap().unwrap();
    assert_eq!(posted(&fixture).await, "2026-12 3 CORRECTION -500 2026-10 revision 2");
}

#[tokio::test]
async fn a_rollback_takes_the_difference_away_until_it_is_billed() {
    let mut fixture = sent_month().await;
    adjust(&fixture, 2, 1).await;
    assert!(is_rolled_back(&fixture.roll_back(7, 2).await));
    assert_eq!(posted(&fixture).await, "");
    let third = adjust(&fixture, 3, 1).await;
    assert_eq!(posted(&fixture).await, "2026-11 3 CORRECTION -500 2026-10 revision 3");

    let november = begin(&mut fixture, "2026-11", 11).await;
    assert_eq!(
        rejection(fixture.roll_back(8, 3).await),
        "month 2026-11 is locked by the unfinished run test/run; this run starts when that run has ended or is deleted"
    );
    bill_shards(&fixture, &november).await;
    fixture.issue(&november).await;
    assert_eq!(
        rejection(fixture.roll_back(8, 3).await),
        "revision 3 of month 2026-10 cannot be rolled back: it posted differences to month 2026-11, of which revision 1 of run \
         test/run is live; bill month 2026-10 again instead, with spec.rebill and ofRevision: 3"
    );
    assert_eq!(
        fixture
            .database
            .read_text("select format('%s %s', adjustment_amount, total_amount) from live_bill where month = '2026-11' and member_id = 3")
            .await,
        "-500 88500"
    );
    let mut owner = fixture.database.connect().await;
    for month in [third.month, november.month] {
        assert_eq!(violated(&mut owner, month).await, [""; 0]);
    }
    // Once the later month is not live any more, the difference can go.
    fixture.month = "2026-11";
    assert!(is_rolled_back(&fixture.roll_back(9, 1).await));
    fixture.month = "2026-10";
    let RollbackResult::RolledBack(rollback) = fixture.roll_back(8, 3).await else { panic!("rejected") };
    assert_eq!((rollback.outcomes, rollback.live_again), (2, Some(Revision::FIRST)));
    assert_eq!(posted(&fixture).await, "");
}

#[tokio::test]
async fn each_violation_of_the_invariants_is_found() {
    const MATCH: &str = "posted-differences-match-outcomes";
    const BILLED: &str = "posted-differences-are-billed";
    let mut fixture = sent_month().await;
    adjust(&fixture, 2, 1).await;
    let november = begin(&mut fixture, "2026-11", 11).await;
    bill_shards(&fixture, &november).await;
    fixture.issue(&november).await;
    let cases = [
        ("2026-10", MATCH, "insert into posted_difference values ('2026-10', 1, 8, 5)"),
        ("2026-10", MATCH, "delete from posted_difference"),
        ("2026-10", MATCH, "update chunk set posted_amount = posted_amount + 1 where month = '2026-10' and revision = 2"),
        ("2026-10", MATCH, "update revision set posts_to = null"),
        ("2026-10", MATCH, "update revision set posts_to = '2026-11' where month = '2026-10' and revision = 1"),
        ("2026-10", MATCH, "update revision set issued_at = '2020-01-01' where month = '2026-11'"),
        // Of a member whose outcome the revision has written.
        (
            "2026-10",
            MATCH,
            "update posted_difference set member_id = 4;
             update chunk c set (posted, posted_amount) = (
                 select count(*), coalesce(sum(amount), 0) from posted_difference d
                 where (d.month, d.revision) = (c.month, c.revision) and d.member_id between c.from_member and c.to_member)",
        ),
        ("2026-11", BILLED, "update posted_difference set amount = -400"),
        ("2026-11", BILLED, "insert into posted_difference values ('2026-10', 2, 8, 5)"),
    ];
    let mut owner = fixture.database.connect().await;
    for (month, invariant, plant) in cases {
        let mut tx = owner.begin().await.unwrap();
        sqlx::raw_sql(plant).execute(&mut *tx).await.unwrap();
        assert_eq!(violated(&mut tx, month.parse().unwrap()).await, [invariant], "{plant}");
        tx.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn verification_compares_what_is_posted_with_the_chunks() {
    let fixture = sent_month().await;
    let key = rebill(&fixture, 2, 1).await;
    for planted in [
        "update posted_difference set amount = amount - 1",
        "insert into posted_difference values ('2026-10', 2, 8, 1)",
        "delete from posted_difference",
    ] {
        fixture.database.execute(planted).await;
        let verification = fixture.verify(&key).await;
        let failed: Vec<_> = verification
            .checks
            .iter()
            .filter(|check| !check.passed)
            .map(|check| check.check.as_str())
            .collect();
        assert_eq!(failed, ["posted"], "{planted}");
    }
}

#[tokio::test]
async fn what_is_posted_is_of_one_revision_and_insert_only() {
    let fixture = sent_month().await;
    adjust(&fixture, 2, 1).await;
    let worker = fixture.database.pool_as("monthend_worker", 1).await;
    for statement in ["update posted_difference set amount = 1", "delete from posted_difference"] {
        for pool in [&worker, &fixture.operator] {
            let refused = sqlx::query(statement).execute(pool).await.unwrap_err().to_string();
            assert!(refused.contains("permission denied"), "{statement}: {refused}");
        }
    }
}
