//! Rehearsals on a real PostgreSQL, without a Kafka broker or a mail server.

use std::time::Duration;

use store::notification::{self, Uuid};
use store::testing::DatabaseProxy;

use super::*;
use crate::publish::tests::fixture::{Fixture, RUN};

impl Fixture {
    async fn rehearse(&self, uid: u128) -> Completion {
        self.rehearse_at(&self.worker, DatabaseRetryPolicy::JOB, uid).await
    }

    async fn rehearse_at(
        &self,
        database: &SecretString,
        policy: DatabaseRetryPolicy,
        uid: u128,
    ) -> Completion {
        let from = "Monthend <billing@example.com>";
        let args = RehearseArgs { run: RUN.to_owned(), run_uid: Uuid::from_u128(uid), from: from.to_owned() };
        let stop = CancellationToken::new();
        let from = &from.parse().unwrap();
        let rehearsal = Rehearsal { args: &args, database, keyring: &self.keyring, from, stop: &stop };
        rehearsal.run(policy).await.unwrap()
    }
}

const OUTCOMES: &str = "select string_agg(concat_ws(' ', member_id, outcome, split_part(reason, ':', 1)), ', ' order by member_id) from notice_target";

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_rendered_and_failures_are_stored() {
    let fixture = Fixture::new(4).await;
    fixture.member(1, Some("one@example.com")).await;
    fixture.member(2, None).await;
    fixture.member(3, Some("three@example.com")).await;
    // Member 3 has another member's encrypted address, and member 4 does not exist.
    fixture
        .sql("update member set email = (select email from member where member_id = 1) where member_id = 3")
        .await;
    let id = fixture.begin(1, true).await;
    assert_eq!(fixture.rehearse(1).await, Completion::Done);
    let expected = "1 RENDERED, 2 SKIPPED NO_ADDRESS, 3 FAILED DECRYPT, 4 FAILED NO_BILL";
    assert_eq!(fixture.one(OUTCOMES).await, expected);
    assert_eq!(fixture.one("select count(*) from delivery").await, "0", "deliveries do not change");
    let reasons = fixture.one("select string_agg(reason, ' ') from notice_target").await;
    assert!(!reasons.contains("Canary") && !reasons.contains('@'), "{reasons}");
    // Repeating it changes nothing.
    assert_eq!(fixture.rehearse(1).await, Completion::Done);
    assert_eq!(fixture.one(OUTCOMES).await, expected);
    assert!(notification::finish_run(&fixture.operator, id).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn bills_of_0_are_skipped_if_the_run_asks_for_it() {
    let fixture = Fixture::new(2).await;
    fixture.member(1, Some("one@example.com")).await;
    fixture.member(2, None).await;
    fixture.sql("alter table bill disable trigger all; update bill set total_amount = 0").await;
    for (uid, skip_zero, expected) in [
        (1, true, "1 SKIPPED ZERO_AMOUNT, 2 SKIPPED ZERO_AMOUNT"),
        (2, false, "1 RENDERED, 2 SKIPPED NO_ADDRESS"),
    ] {
        let id = fixture.begin_with(uid, true, skip_zero).await;
        assert_eq!(fixture.rehearse(uid).await, Completion::Done);
        let of_run = format!("{OUTCOMES} where notification = {}", id.0);
        assert_eq!(fixture.one(&of_run).await, expected);
        assert!(notification::finish_run(&fixture.operator, id).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_rehearsal_ends() {
    let fixture = Fixture::new(4).await;
    let id = fixture.begin(1, true).await;
    notification::cancel_run(&fixture.operator, id, "deleted").await.unwrap();
    assert_eq!(fixture.rehearse(1).await, Completion::Done);
    assert_eq!(fixture.one("select count(outcome) from notice_target").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_migration_no_further_page_is_rehearsed() {
    let fixture = Fixture::new(4).await;
    fixture.begin(1, true).await;
    let connection = &mut connect(&fixture.worker, "test").await.unwrap();
    let run = notification::read_run(connection, Uuid::from_u128(1)).await.unwrap();
    notification::select_targets(connection, &run, 10, |_| true).await.unwrap();
    let from = "billing@example.com".parse().unwrap();
    let mut composers = ComposerCache::new(fixture.keyring.clone(), from);
    fixture.database.shift_schema_version(1).await;
    let refused = rehearse_page(connection, &run, None, &mut composers).await;
    assert!(matches!(&refused, Err(error) if error.is_other_schema()));
    assert_eq!(fixture.one("select count(outcome) from notice_target").await, "0");
    fixture.database.shift_schema_version(0).await;
    assert_eq!(fixture.rehearse(1).await, Completion::Done);
    assert_eq!(fixture.one("select count(outcome) from notice_target").await, "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_gets_no_answers_is_replaced() {
    let fixture = Fixture::new(4).await;
    fixture.begin(1, true).await;
    let proxy = DatabaseProxy::start(&fixture.worker, 0).await;
    // The first statement that locks a target waits until the test has made the connection silent.
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table notice_target in exclusive mode").execute(&mut *blocker).await.unwrap();
    let policy = DatabaseRetryPolicy::JOB.with_timeout(Duration::from_secs(2));
    let rehearsal = fixture.rehearse_at(&proxy.url, policy, 1);
    let silence = async {
        let waiting = "select count(*) > 0 from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
        fixture.until(waiting, "true").await;
        proxy.silence_open_connections();
        blocker.rollback().await.unwrap();
    };
    let limit = Duration::from_secs(60);
    let (completion, ()) = tokio::time::timeout(limit, async { tokio::join!(rehearsal, silence) })
        .await
        .expect("it ends in time");
    assert_eq!(completion, Completion::Done);
    assert_eq!(fixture.one("select count(outcome) from notice_target").await, "4");
}
