//! What the operator reads for its metrics, under its own role.

use jiff::Timestamp;
use store::job_log::{self, JobKind};
use store::testing::TestDatabase;
use store::{billing, load, server};

async fn start_job(database: &TestDatabase, kind: &str, minutes_ago: i64) {
    database
        .execute(&format!(
            "insert into job_log (kind, started_at) values ('{kind}', now() - interval '{minutes_ago} minutes')"
        ))
        .await;
}

/// A job that ended so many seconds after 1970.
async fn end_job(database: &TestDatabase, kind: &str, status: &str, at: i64) {
    database
        .execute(&format!(
            "insert into job_log (kind, started_at, ended_at, status)
             values ('{kind}', to_timestamp(0), to_timestamp({at}), '{status}')"
        ))
        .await;
}

#[tokio::test]
async fn the_oldest_running_job_of_each_kind_has_an_age() {
    let database = TestDatabase::new().await;
    let operator = database.pool_as("monthend_operator", 1).await;
    let mut connection = operator.acquire().await.unwrap();
    assert_eq!(job_log::read_open_ages(&mut connection).await.unwrap(), []);
    for (kind, minutes_ago) in [("LOAD", 5), ("LOAD", 90), ("BILLING", -10)] {
        start_job(&database, kind, minutes_ago).await;
    }
    // A kind of the schema that this version never writes.
    start_job(&database, "REBILLING", 1).await;
    end_job(&database, "LOAD", "FAILED", 1000).await;
    let mut ages = job_log::read_open_ages(&mut connection).await.unwrap();
    ages.sort_by_key(|(kind, _)| kind.as_str());
    let [(JobKind::Billing, 0), (JobKind::Load, age)] = ages[..] else { panic!("{ages:?}") };
    assert!((5400..5460).contains(&age), "{age}");
}

#[tokio::test]
async fn the_last_success_of_each_kind_is_found() {
    let database = TestDatabase::new().await;
    let operator = database.pool_as("monthend_operator", 1).await;
    let mut connection = operator.acquire().await.unwrap();
    assert_eq!(job_log::read_last_successes(&mut connection).await.unwrap(), []);
    for (kind, status, at) in [
        ("LOAD", "SUCCEEDED", 2000),
        ("LOAD", "SUCCEEDED", 1000),
        ("LOAD", "COMPLETED_WITH_FAILURES", 3000),
        ("SEND", "FAILED", 4000),
        ("REBILLING", "SUCCEEDED", 5000),
    ] {
        end_job(&database, kind, status, at).await;
    }
    start_job(&database, "BILLING", 5).await;
    let expected = [(JobKind::Load, Timestamp::from_second(2000).unwrap())];
    assert_eq!(job_log::read_last_successes(&mut connection).await.unwrap(), expected);
}

#[tokio::test]
async fn the_newest_load_is_one_whose_rows_count() {
    let database = TestDatabase::new().await;
    let operator = database.pool_as("monthend_operator", 1).await;
    let newest = async || {
        let mut connection = operator.acquire().await.unwrap();
        load::read_newest(&mut connection).await.unwrap().map(Timestamp::as_second)
    };
    assert_eq!(newest().await, None);
    database
        .execute(
            "with job as (insert into job_log (kind) values ('LOAD') returning id)
             insert into load (number, kind, source, state, job, finished_at)
             select number, kind, 'test', state, id, case state when 'FINISHED' then to_timestamp(1000 * number) end from job,
                    (values (1, 'SEED', 'FINISHED'), (2, 'LOAD', 'FINISHED'), (3, 'LOAD', 'FINISHED'),
                            (4, 'TAKE_BACK', 'FINISHED'), (5, 'LOAD', 'DEAD')) of (number, kind, state)",
        )
        .await;
    assert_eq!(newest().await, Some(3000));
    database.execute("update load set taken_back_by = 4 where number = 3").await;
    assert_eq!(newest().await, Some(2000));
}

#[tokio::test]
async fn a_database_that_takes_no_writes_says_so() {
    let database = TestDatabase::new().await;
    let operator = database.pool_as("monthend_operator", 1).await;
    let mut connection = operator.acquire().await.unwrap();
    assert!(server::read_state(&mut connection).await.unwrap().writable);
    assert!(server::read_size(&mut connection).await.unwrap() > 1_000_000);
    sqlx::query("set default_transaction_read_only = on").execute(&mut *connection).await.unwrap();
    assert!(!server::read_state(&mut connection).await.unwrap().writable);
}

#[tokio::test]
async fn a_month_is_live_whatever_its_other_revisions_are() {
    let database = TestDatabase::new().await;
    let operator = database.pool_as("monthend_operator", 1).await;
    database
        .execute(
            "insert into price_book (sha256, version, content) values (repeat('b', 64), 'test', '');
             with job as (insert into job_log (kind) values ('BILLING') returning id)
             insert into revision (month, revision, run, run_uid, state, fence, data_cutoff, price_book, chunk_size, shards,
                                   members, job, issued_at, of_revision, rebill_reason, verified_at)
             select month, number, 'test/run', gen_random_uuid(), state, number, 1, repeat('b', 64), 1000, 1, 0, id,
                    case when state in ('LIVE', 'ROLLED_BACK') then now() end,
                    case when number > 1 then number - 1 end, case when number > 1 then 'a correction' end,
                    to_timestamp(1000 * number)
             from job, (values ('2026-08', 1, 'ROLLED_BACK'), ('2026-09', 1, 'LIVE'), ('2026-09', 2, 'DRAFT'),
                               ('2026-10', 1, 'REJECTED')) of (month, number, state)",
        )
        .await;
    let standings = async || {
        let found = billing::read_standings(&operator).await.unwrap();
        let line = |of: &billing::MonthStanding| {
            format!("{} {} {:?}", of.month, of.live, of.draft_since.map(Timestamp::as_second))
        };
        found.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(standings().await, ["2026-08 false None", "2026-09 true Some(2000)", "2026-10 false None"]);
    database.execute("update revision set verified_at = null where state = 'DRAFT'").await;
    assert_eq!(standings().await[1], "2026-09 true None");
}
