//! Hand-overs and the transactions that change which bills are live exclude each other, so that no
//! member is handed two bills of a month as the first one.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use store::billing;
use store::error::During as _;
use store::notification::{self, BeginRequest, BeginResult, BillKey, RunFacts, Scope, Selection, Uuid};
use store::pool;
use store::testing::{BillingFixture, MONTH};

use super::fixture::{LEASE, keys, members, templates};
use crate::billing::{corrected_month, rebill};

/// The member whose bill revision 2 corrects.
const MEMBER: i64 = 3;

/// A run of the bills of [`MEMBER`], with its targets.
async fn run(fixture: &BillingFixture, uid: u128, selection: Selection) -> (RunFacts, Vec<BillKey>) {
    let request = BeginRequest {
        run: &format!("test/{uid}"),
        run_uid: Uuid::from_u128(uid),
        month: MONTH.parse().unwrap(),
        selection,
        scope: &Scope::Members(vec![super::fixture::member(MEMBER)]),
        rehearsal: false,
        skip_zero: false,
        templates: &templates(),
        max_per_second: None,
    };
    let BeginResult::Started(_) = notification::begin_run(&fixture.operator, &request).await.unwrap() else {
        panic!("refused")
    };
    let mut worker = fixture.database.connect_as("monthend_worker").await;
    let run = notification::read_run(&mut worker, request.run_uid).await.unwrap();
    notification::select_targets(&mut worker, &run, 100, |_| true).await.unwrap();
    let targets = notification::read_open_targets(&mut worker, &run, None, 100).await.unwrap();
    (run, targets)
}

/// Waits until somebody waits for an advisory lock; false once `done` returns true.
async fn waits_for_the_lock(fixture: &BillingFixture, done: impl Fn() -> bool) -> bool {
    let waiting = "select count(*) from pg_locks
                   where locktype = 'advisory' and not granted
                     and database = (select oid from pg_database where datname = current_database())";
    for _ in 0..1200 {
        if done() {
            return false;
        }
        if fixture.database.read_text(waiting).await == "1" {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it neither waits nor ends");
}

/// Hands the targets over in a transaction that stays open, lets `change` run against it, and
/// commits.
async fn change_during_a_hand_over<F>(
    fixture: &BillingFixture,
    run: &RunFacts,
    targets: &[BillKey],
    change: F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut worker = fixture.database.connect_as("monthend_worker").await;
    let consumer = notification::register_consumer(&mut worker, "test", "mock://").await.unwrap();
    let claims = notification::claim_deliveries(&mut worker, run, consumer, LEASE, targets).await.unwrap();
    let claimed: Vec<_> = claims.claimed.iter().map(|claimed| claimed.delivery).collect();
    let mut open = worker.begin().await.unwrap();
    let result = notification::hand_over_and_record(&mut open, consumer, LEASE, &claimed, &[]).await.unwrap();
    assert_eq!(members(&result.granted), [MEMBER]);
    let changing = tokio::spawn(change);
    assert!(
        waits_for_the_lock(fixture, || changing.is_finished()).await,
        "the live bills changed while a hand-over had begun and was not committed"
    );
    open.commit().await.unwrap();
    changing.await.unwrap();
}

#[tokio::test]
async fn a_revision_is_issued_after_the_hand_overs_that_have_begun() {
    let fixture = corrected_month().await;
    let (first, targets) = run(&fixture, 11, Selection::Ready).await;
    let second = rebill(&fixture, 2, 1).await;
    assert!(fixture.verify(&second).await.passed());
    let operator = fixture.operator.clone();
    let issue = async move { billing::issue_revision(&operator, &second, None).await.unwrap() };
    change_during_a_hand_over(&fixture, &first, &targets, issue).await;
    // The member was handed the old bill: the new one is a correction.
    assert_eq!(run(&fixture, 12, Selection::Ready).await.1, []);
    assert_eq!(run(&fixture, 13, Selection::Corrected).await.1, keys(&[MEMBER], 2));
}

#[tokio::test]
async fn a_revision_is_rolled_back_after_the_hand_overs_that_have_begun() {
    let fixture = corrected_month().await;
    let second = rebill(&fixture, 2, 1).await;
    fixture.issue(&second).await;
    let (first, targets) = run(&fixture, 11, Selection::Ready).await;
    assert_eq!(targets, keys(&[MEMBER], 2));
    let operator = fixture.operator.clone();
    let roll_back = async move {
        let request = billing::RollbackRequest {
            run: "test/rollback",
            run_uid: Uuid::from_u128(3),
            month: MONTH.parse().unwrap(),
            revision: 2.try_into().unwrap(),
            reason: "wrong",
        };
        let result = billing::roll_back_revision(&operator, &request).await.unwrap();
        assert!(matches!(result, billing::RollbackResult::RolledBack(_)), "{result:?}");
    };
    change_during_a_hand_over(&fixture, &first, &targets, roll_back).await;
    assert_eq!(run(&fixture, 12, Selection::Ready).await.1, []);
    assert_eq!(run(&fixture, 13, Selection::Corrected).await.1, keys(&[MEMBER], 1));
}

#[tokio::test]
async fn a_hand_over_waits_for_a_revision_that_is_being_issued_and_then_sees_it() {
    let fixture = corrected_month().await;
    let (first, targets) = run(&fixture, 11, Selection::Ready).await;
    let mut worker = fixture.database.connect_as("monthend_worker").await;
    let consumer = notification::register_consumer(&mut worker, "test", "mock://").await.unwrap();
    let claims =
        notification::claim_deliveries(&mut worker, &first, consumer, LEASE, &targets).await.unwrap();
    let claimed: Vec<_> = claims.claimed.iter().map(|claimed| claimed.delivery).collect();
    let second = rebill(&fixture, 2, 1).await;
    assert!(fixture.verify(&second).await.passed());
    // Issuing is held up between the lock and its commit, as its row of job_log is locked.
    let mut blocker = fixture.database.connect().await;
    let mut held = blocker.begin().await.unwrap();
    sqlx::query("select from job_log where kind = 'REBILLING' for update").execute(&mut *held).await.unwrap();
    let operator = fixture.operator.clone();
    let issuing =
        tokio::spawn(async move { billing::issue_revision(&operator, &second, None).await.unwrap() });
    let holds = "select count(*) from pg_locks where locktype = 'advisory' and granted and mode = 'ExclusiveLock'
                 and objsubid = 1 and database = (select oid from pg_database where datname = current_database())";
    for _ in 0..1200 {
        if fixture.database.read_text(holds).await != "0" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let handing_over = tokio::spawn(async move {
        notification::hand_over_and_record(&mut worker, consumer, LEASE, &claimed, &[]).await.unwrap()
    });
    assert!(waits_for_the_lock(&fixture, || handing_over.is_finished()).await, "it did not wait");
    held.rollback().await.unwrap();
    issuing.await.unwrap();
    let result = handing_over.await.unwrap();
    assert_eq!((members(&result.granted), members(&result.refused)), (vec![], vec![MEMBER]));
}

#[tokio::test]
async fn a_consumer_that_stops_within_a_hand_over_is_ended_and_issuing_goes_on() {
    let fixture = corrected_month().await;
    let (first, targets) = run(&fixture, 11, Selection::Ready).await;
    let second = rebill(&fixture, 2, 1).await;
    assert!(fixture.verify(&second).await.passed());
    let mut worker = fixture.database.connect_as("monthend_worker").await;
    let consumer = notification::register_consumer(&mut worker, "test", "mock://").await.unwrap();
    let claims =
        notification::claim_deliveries(&mut worker, &first, consumer, LEASE, &targets).await.unwrap();
    let claimed: Vec<_> = claims.claimed.iter().map(|claimed| claimed.delivery).collect();
    let mut open = worker.begin().await.unwrap();
    let result = notification::hand_over_and_record(&mut open, consumer, LEASE, &claimed, &[]).await.unwrap();
    assert_eq!(members(&result.granted), [MEMBER]);
    // Its session has a limit; this one is soon over.
    assert_eq!(idle_limit(&mut open).await, "1min");
    sqlx::query("set local idle_in_transaction_session_timeout = '100ms'").execute(&mut *open).await.unwrap();

    let issuing = billing::issue_revision(&fixture.operator, &second, None);
    tokio::time::timeout(Duration::from_secs(30), issuing).await.expect("it waits for the consumer").unwrap();
    // For the consumer it is as if the connection were lost: it tries again.
    let ended = sqlx::query("select 1").execute(&mut *open).await.during("it goes on").unwrap_err();
    assert!(ended.is_transient(), "{ended:?}");
    // Nothing was handed over.
    drop(open);
    let state = "select string_agg(state::text, ' ') from delivery";
    assert_eq!(fixture.database.read_text(state).await, "CLAIMED");
}

async fn idle_limit(connection: &mut PgConnection) -> String {
    sqlx::query_scalar("show idle_in_transaction_session_timeout").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn no_session_can_hold_a_transaction_open_without_end() {
    let database = store::testing::TestDatabase::empty().await;
    let url = &database.url;
    assert_eq!(idle_limit(&mut pool::connect_one(url, "test").await.unwrap()).await, "1min");
    assert_eq!(idle_limit(&mut pool::connect_for_load(url, "test").await.unwrap()).await, "10min");
    let lazy = pool::connect_lazily(url, "test", 1, Duration::from_secs(30)).unwrap();
    for pool in [
        pool::connect(url, "test", 1).await.unwrap(),
        lazy,
        notification::connect_for_lookups(url, "test", 1).await.unwrap(),
    ] {
        assert_eq!(idle_limit(&mut pool.acquire().await.unwrap()).await, "1min");
    }
}
