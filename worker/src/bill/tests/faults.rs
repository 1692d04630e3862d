//! Workers that are killed, stopped, doubled, fenced out or disconnected produce exactly the bills
//! of an undisturbed run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::Connection as _;
use store::billing::{BillingError, RevisionKey};
use store::testing::sample_month::EVERYTHING;
use store::testing::{DatabaseProxy, with_role};
use tokio_util::sync::CancellationToken;

use super::Fixture;
use crate::bill::chunk_processor::ChunkError;
use crate::bill::{BillError, BillOutcome, bill_shard};
use crate::exit::{CommandError, ExitStatus};

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

/// Waits until the server process of a worker waits for a lock that the test holds.
pub(super) async fn wait_until_blocked(fixture: &Fixture) {
    wait_until_waiting(fixture, "true").await;
}

/// Waits until a server process waits for a lock that meets the condition on `pg_locks`.
async fn wait_until_waiting(fixture: &Fixture, condition: &str) {
    let waiting = format!(
        "select count(*) from pg_locks where not granted and {condition}
         and database = (select oid from pg_database where datname = current_database())"
    );
    for _ in 0..200 {
        if fixture.database.read_text(&waiting).await != "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nobody waits for a lock: {condition}");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_on_two_shards_bill_like_one() {
    let (fixture, key) = begun().await;
    let all = futures::future::join_all([0, 1, 0, 1].map(|shard| fixture.work(&key, shard))).await;
    assert!(all.iter().all(|ended| matches!(ended, Ok(BillOutcome::Done(_)))), "{all:?}");
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_during_a_chunk_leaves_none_of_its_rows() {
    let (fixture, key) = begun().await;
    // Blocks the COPY of items: by then the bills of the chunk are written.
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table bill_item in exclusive mode").execute(&mut *blocker).await.unwrap();
    let (order, url) = (fixture.order(&key, 0, "killed"), fixture.worker.clone());
    let worker = tokio::spawn(async move { bill_shard(&order, &url, &CancellationToken::new()).await });
    wait_until_blocked(&fixture).await;
    worker.abort();
    assert!(worker.await.unwrap_err().is_cancelled());
    blocker.rollback().await.unwrap();
    fixture.work_all(&key).await;
    assert_eq!(fixture.database.read_text("select count(*) from chunk where worker = 'killed'").await, "0");
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_repeats_a_chunk_whose_server_process_was_killed() {
    let (fixture, key) = begun().await;
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table bill_item in exclusive mode").execute(&mut *blocker).await.unwrap();
    let (order, url) = (fixture.order(&key, 0, "patient"), fixture.worker.clone());
    let worker = tokio::spawn(async move { bill_shard(&order, &url, &CancellationToken::new()).await });
    wait_until_blocked(&fixture).await;
    fixture.database.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'monthend bill' and datname = current_database()").await;
    blocker.rollback().await.unwrap();
    assert!(matches!(worker.await.unwrap(), Ok(BillOutcome::Done(_))));
    fixture.work_all(&key).await;
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_receives_sigterm_finishes_its_chunk() {
    let (fixture, key) = begun().await;
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table bill_item in exclusive mode").execute(&mut *blocker).await.unwrap();
    let (order, url, stop) =
        (fixture.order(&key, 0, "stopped"), fixture.worker.clone(), CancellationToken::new());
    let worker = tokio::spawn({
        let stop = stop.clone();
        async move { bill_shard(&order, &url, &stop).await }
    });
    wait_until_blocked(&fixture).await;
    stop.cancel();
    blocker.rollback().await.unwrap();
    assert_eq!(worker.await.unwrap().unwrap(), BillOutcome::Stopped);
    assert_eq!(fixture.database.read_text("select count(*) from chunk where worker = 'stopped'").await, "1");
    fixture.work_all(&key).await;
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_a_chunk_that_another_worker_has_claimed() {
    let (fixture, key) = begun().await;
    // Another worker has claimed the last chunk of the shard, and dies.
    let mut other = fixture.database.pool.begin().await.unwrap();
    sqlx::query("select from chunk where chunk_no = 3 for update").execute(&mut *other).await.unwrap();
    let (order, url) = (fixture.order(&key, 0, "waiting"), fixture.worker.clone());
    let worker = tokio::spawn(async move { bill_shard(&order, &url, &CancellationToken::new()).await });
    for _ in 0..200 {
        if fixture.database.read_text("select count(*) from chunk where worker = 'waiting'").await == "2" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(!worker.is_finished());
    other.rollback().await.unwrap();
    assert!(matches!(worker.await.unwrap(), Ok(BillOutcome::Done(totals)) if totals.chunks_done == 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_waits_for_the_chunk_in_progress_and_no_other_is_billed() {
    let (fixture, key) = begun().await;
    let mut blocker = fixture.database.pool.begin().await.unwrap();
    sqlx::query("lock table bill_item in exclusive mode").execute(&mut *blocker).await.unwrap();
    let (order, url) = (fixture.order(&key, 0, "outdated"), fixture.worker.clone());
    let worker = tokio::spawn(async move { bill_shard(&order, &url, &CancellationToken::new()).await });
    wait_until_blocked(&fixture).await;
    let migration = async {
        let session = fixture.database.begin_migration().await;
        fixture.database.shift_schema_version(1).await;
        session.close().await.unwrap();
    };
    let release = async {
        wait_until_waiting(&fixture, "locktype = 'advisory'").await;
        blocker.rollback().await.unwrap();
    };
    tokio::join!(migration, release);
    let failure = worker.await.unwrap().unwrap_err();
    assert!(matches!(&failure, BillError::Fatal(error) if error.is_other_schema()), "{failure:?}");
    assert_eq!(CommandError::from(failure).status, ExitStatus::OtherSchema);
    let done = "select count(*) from chunk where worker = 'outdated' and state = 'DONE'";
    assert_eq!(fixture.database.read_text(done).await, "1");
    // A worker of the right version continues.
    fixture.database.shift_schema_version(0).await;
    fixture.work_all(&key).await;
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}

#[tokio::test]
async fn a_fenced_worker_writes_nothing() {
    let (fixture, key) = begun().await;
    fixture.database.execute("update month_lock set fence = fence + 1").await;
    let failure = fixture.work(&key, 0).await.unwrap_err();
    let BillError::Fatal(ChunkError::Billing(error)) = failure else { panic!("{failure:?}") };
    assert!(matches!(error, BillingError::Fenced { .. }), "{error}");
    assert!(error.to_string().starts_with("fenced: month 2026-10 is no longer held by run"), "{error}");
    assert_eq!(fixture.database.read_text("select count(*) from bill").await, "0");
}

#[tokio::test]
async fn a_worker_that_starts_after_its_revision_was_issued_has_nothing_to_do() {
    let (fixture, key) = begun().await;
    fixture.work_all(&key).await;
    fixture.issue(&key).await;
    for shard in 0..2 {
        let outcome = fixture.work(&key, shard).await.unwrap();
        assert!(matches!(outcome, BillOutcome::Done(_)), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_shard_that_does_not_exist_is_an_error() {
    let (fixture, key) = begun().await;
    let failure = fixture.work(&key, 2).await.unwrap_err();
    assert_eq!(
        logging::chain(&failure),
        "the shard cannot be billed: --shard must be from 0 to 1 for revision 1, not 2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_commit_without_an_answer_the_worker_checks_the_chunk() {
    let (fixture, key) = begun().await;
    let proxy = DatabaseProxy::start(&fixture.database.url, 2).await;
    let worker = with_role(&proxy.url, "monthend_worker");
    for shard in 0..2 {
        let ended = bill_shard(&fixture.order(&key, shard, "w"), &worker, &CancellationToken::new()).await;
        assert!(matches!(ended, Ok(BillOutcome::Done(_))), "{ended:?}");
    }
    assert_eq!(proxy.lost.load(Ordering::SeqCst), 2);
    assert_eq!(fixture.issue(&key).await, undisturbed().await);
}
