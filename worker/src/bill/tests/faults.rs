//! Workers that are killed, stopped, doubled, fenced out or cut off end in the bills of an undisturbed run, to the row.

use std::sync::atomic::Ordering;
use std::time::Duration;

use store::billing::{BillingError, RevisionKey};
use tokio_util::sync::CancellationToken;

use super::data::EVERYTHING;
use super::{Fixture, as_role};
use crate::bill::chunk_processor::ChunkError;
use crate::bill::{BillError, BillOutcome, bill_shard};
use crate::proxy::DatabaseProxy;

async fn undisturbed() -> String {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.bill().await
}

async fn begun() -> (Fixture, RevisionKey) {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let key = fixture.begin(1).await.key;
    (fixture, key)
}

/// Waits until a worker's backend waits for a lock that the test holds.
async fn someone_waits(fixture: &Fixture) {
    let waiting = "select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
    for _ in 0..200 {
        if fixture.one(waiting).await != "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no worker came to wait for the lock");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_on_two_shards() {
    let (fixture, key) = begun().await;
    let all = futures::future::join_all([0, 1, 0, 1].map(|shard| fixture.work(&key, shard))).await;
    assert!(all.iter().all(|ended| matches!(ended, Ok(BillOutcome::Done(_)))), "{all:?}");
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_a_chunk_leaves_nothing_of_it() {
    let (fixture, key) = begun().await;
    // Holds up the COPY of items: the bills of the chunk are written by then.
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table bill_item in exclusive mode").execute(&mut *blocker).await.unwrap();
    let (order, url) = (fixture.order(&key, 0, "killed"), fixture.worker.clone());
    let worker = tokio::spawn(async move { bill_shard(&order, &url, &CancellationToken::new()).await });
    someone_waits(&fixture).await;
    worker.abort();
    assert!(worker.await.unwrap_err().is_cancelled());
    blocker.rollback().await.unwrap();
    fixture.work_all(&key).await;
    assert_eq!(fixture.one("select count(*) from chunk where worker = 'killed'").await, "0");
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_killed_in_a_chunk_costs_the_worker_nothing() {
    let (fixture, key) = begun().await;
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table bill_item in exclusive mode").execute(&mut *blocker).await.unwrap();
    let (order, url) = (fixture.order(&key, 0, "patient"), fixture.worker.clone());
    let worker = tokio::spawn(async move { bill_shard(&order, &url, &CancellationToken::new()).await });
    someone_waits(&fixture).await;
    fixture.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'monthend bill' and datname = current_database()").await;
    blocker.rollback().await.unwrap();
    assert!(matches!(worker.await.unwrap(), Ok(BillOutcome::Done(_))));
    fixture.work_all(&key).await;
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_finishes_the_chunk_in_hand() {
    let (fixture, key) = begun().await;
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table bill_item in exclusive mode").execute(&mut *blocker).await.unwrap();
    let (order, url, stop) =
        (fixture.order(&key, 0, "stopped"), fixture.worker.clone(), CancellationToken::new());
    let worker = tokio::spawn({
        let stop = stop.clone();
        async move { bill_shard(&order, &url, &stop).await }
    });
    someone_waits(&fixture).await;
    stop.cancel();
    blocker.rollback().await.unwrap();
    assert_eq!(worker.await.unwrap().unwrap(), BillOutcome::Stopped);
    assert_eq!(fixture.one("select count(*) from chunk where worker = 'stopped'").await, "1");
    fixture.work_all(&key).await;
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_what_another_has_in_hand() {
    let (fixture, key) = begun().await;
    // Another worker has the shard's last chunk in hand, and dies.
    let mut other = fixture.database.pool.begin().await.unwrap();
    sqlx::query("select from chunk where chunk_no = 3 for update").execute(&mut *other).await.unwrap();
    let (order, url) = (fixture.order(&key, 0, "waiting"), fixture.worker.clone());
    let worker = tokio::spawn(async move { bill_shard(&order, &url, &CancellationToken::new()).await });
    for _ in 0..200 {
        if fixture.one("select count(*) from chunk where worker = 'waiting'").await == "2" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(!worker.is_finished());
    other.rollback().await.unwrap();
    assert!(matches!(worker.await.unwrap(), Ok(BillOutcome::Done(totals)) if totals.chunks_done == 3));
}

#[tokio::test]
async fn a_fenced_worker_writes_nothing() {
    let (fixture, key) = begun().await;
    fixture.sql("update month_lock set fence = fence + 1").await;
    let failure = fixture.work(&key, 0).await.unwrap_err();
    let BillError::Fatal(ChunkError::Billing(error)) = failure else { panic!("{failure:?}") };
    assert!(matches!(error, BillingError::Fenced { .. }), "{error}");
    assert!(error.to_string().starts_with("fenced: month 2026-10 is no longer held by run"), "{error}");
    assert_eq!(fixture.one("select count(*) from bill").await, "0");
}

#[tokio::test]
async fn a_shard_that_is_not_there_is_refused() {
    let (fixture, key) = begun().await;
    let failure = fixture.work(&key, 2).await.unwrap_err();
    assert_eq!(
        logging::chain(&failure),
        "the shard cannot be billed: --shard must be from 0 to 1 for revision 1, not 2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_looked_at_before_anything_else() {
    let (fixture, key) = begun().await;
    let proxy = DatabaseProxy::start(&fixture.database.url, 2).await;
    let worker = as_role(&proxy.url, "monthend_worker");
    for shard in 0..2 {
        let ended = bill_shard(&fixture.order(&key, shard, "w"), &worker, &CancellationToken::new()).await;
        assert!(matches!(ended, Ok(BillOutcome::Done(_))), "{ended:?}");
    }
    assert_eq!(proxy.lost.load(Ordering::SeqCst), 2);
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}
