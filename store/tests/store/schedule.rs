//! What a schedule reads of its months, under the operator's role.

use store::billing::{self, BeginResult, EndStatus};
use store::schedule::{MonthRecord, read_last_month, read_months};
use store::testing::sample_month::EVERYTHING;
use store::testing::{BillingFixture, TestDatabase};

use crate::billing::{bill_month, bill_shards};

/// The schedule `test/close`.
const PREFIX: &str = "test/close-";

/// A record as text: the month, and what is true of it.
fn line(record: &MonthRecord) -> String {
    let MonthRecord { month, live, rolled_back, draft, by_schedule, issued_at, notified } = record;
    let marks = [
        (*live, "live"),
        (*rolled_back, "rolled back"),
        (*draft, "draft"),
        (*by_schedule, "by the schedule"),
        (issued_at.is_some(), "issued"),
        (*notified, "notified"),
    ];
    let marks: Vec<&str> = marks.iter().filter_map(|(holds, mark)| holds.then_some(*mark)).collect();
    format!("{month}: {}", marks.join(", "))
}

async fn months(operator: &sqlx::PgPool, first: &str) -> Vec<String> {
    let found = read_months(operator, PREFIX, first.parse().unwrap()).await.unwrap();
    found.iter().map(line).collect()
}

async fn last_month(operator: &sqlx::PgPool, prefix: &str) -> Option<String> {
    read_last_month(operator, prefix).await.unwrap().map(|month| month.to_string())
}

/// Writes a revision: its month, number, run and state.
async fn revision(database: &TestDatabase, month: &str, number: i32, run: &str, state: &str) {
    let below = if number > 1 { (number - 1).to_string() } else { "null".to_owned() };
    database
        .execute(&format!(
            "with job as (insert into job_log (kind, month) values ('BILLING', '{month}') returning id)
             insert into revision (month, revision, run, run_uid, state, fence, data_cutoff, price_book, chunk_size, shards,
                                   members, job, issued_at, of_revision, rebill_reason)
             select '{month}', {number}, '{run}', gen_random_uuid(), '{state}', {number}, 1, repeat('b', 64), 1000, 1, 0, id,
                    case when '{state}' in ('LIVE', 'ROLLED_BACK') then '2026-12-01 00:00Z'::timestamptz + interval '1 hour' * {number} end,
                    {below}, case when {number} > 1 then 'a correction' end
             from job"
        ))
        .await;
}

/// Writes a notification run of this name, which has begun.
async fn notification(database: &TestDatabase, month: &str, run: &str) {
    database
        .execute(&format!(
            "with job as (insert into job_log (kind, month) values ('SEND', '{month}') returning id),
                  texts as (insert into template_set (sha256, content) values (repeat('e', 64), '{{}}') on conflict do nothing)
             insert into notification (run, run_uid, month, selection, rehearsal, templates, job)
             select '{run}', gen_random_uuid(), '{month}', 'READY', false, repeat('e', 64), id from job"
        ))
        .await;
}

struct Fixture {
    database: TestDatabase,
    operator: sqlx::PgPool,
}

impl Fixture {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let operator = database.pool_as("monthend_operator", 2).await;
        database
            .execute("insert into price_book (sha256, version, content) values (repeat('b', 64), 'test', '')")
            .await;
        Self { database, operator }
    }

    async fn revisions(&self, rows: &[(&str, i32, &str, &str)]) {
        for (month, number, run, state) in rows {
            revision(&self.database, month, *number, run, state).await;
        }
    }
}

#[tokio::test]
async fn each_month_says_how_it_stands_and_what_the_schedules_runs_did() {
    let fixture = Fixture::new().await;
    fixture
        .revisions(&[
            ("2026-01", 1, "test/close-2026-01", "LIVE"),
            // By a person.
            ("2026-02", 1, "test/by-hand", "LIVE"),
            ("2026-03", 1, "test/close-2026-03", "DRAFT"),
            ("2026-04", 1, "test/close-2026-04", "REJECTED"),
            ("2026-05", 1, "test/close-2026-05", "ROLLED_BACK"),
            // By a person, after the schedule's was taken back or rejected.
            ("2026-06", 1, "test/close-2026-06", "ROLLED_BACK"),
            ("2026-06", 2, "test/by-hand", "LIVE"),
            // Billed again by a person, who has a draft of it.
            ("2026-07", 1, "test/close-2026-07", "LIVE"),
            ("2026-07", 2, "test/by-hand", "DRAFT"),
            // The schedule's run of another month, of a longer name, and of another namespace.
            ("2026-08", 1, "test/close-2026-07", "LIVE"),
            ("2026-09", 1, "test/close-2026-09-2", "LIVE"),
            ("2026-10", 1, "other/close-2026-10", "LIVE"),
        ])
        .await;
    let expected = [
        "2026-01: live, by the schedule, issued",
        "2026-02: live",
        "2026-03: draft, by the schedule",
        "2026-04: by the schedule",
        "2026-05: rolled back, by the schedule",
        "2026-06: live, rolled back, by the schedule",
        "2026-07: live, draft, by the schedule, issued",
        "2026-08: live",
        "2026-09: live",
        "2026-10: live",
    ];
    assert_eq!(months(&fixture.operator, "2026-01").await, expected);
    // From a month on, which itself belongs to it.
    assert_eq!(months(&fixture.operator, "2026-09").await, &expected[8..]);
    assert_eq!(months(&fixture.operator, "2026-11").await, Vec::<String>::new());
}

#[tokio::test]
async fn the_issue_is_that_of_the_schedules_own_live_revision() {
    let fixture = Fixture::new().await;
    fixture
        .revisions(&[("2026-10", 1, "test/close-2026-10", "LIVE"), ("2026-10", 2, "test/by-hand", "LIVE")])
        .await;
    let found = read_months(&fixture.operator, PREFIX, "2026-10".parse().unwrap()).await.unwrap();
    assert_eq!(found[0].issued_at, Some("2026-12-01T01:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn a_month_is_notified_by_the_schedules_own_notification() {
    let fixture = Fixture::new().await;
    let own = |month: &str| format!("test/close-{month}");
    for month in ["2026-07", "2026-08", "2026-09", "2026-10"] {
        revision(&fixture.database, month, 1, &own(month), "LIVE").await;
    }
    notification(&fixture.database, "2026-07", &own("2026-07")).await;
    // By a person, of another month, and of another namespace.
    notification(&fixture.database, "2026-08", "test/by-hand").await;
    notification(&fixture.database, "2026-09", &own("2026-07")).await;
    notification(&fixture.database, "2026-10", "other/close-2026-10").await;
    assert_eq!(
        months(&fixture.operator, "2026-07").await,
        [
            "2026-07: live, by the schedule, issued, notified",
            "2026-08: live, by the schedule, issued",
            "2026-09: live, by the schedule, issued",
            "2026-10: live, by the schedule, issued",
        ]
    );
}

#[tokio::test]
async fn the_last_month_is_the_highest_that_a_run_of_the_schedule_has_begun() {
    let fixture = Fixture::new().await;
    assert_eq!(last_month(&fixture.operator, PREFIX).await, None);
    fixture
        .revisions(&[
            ("2025-12", 1, "test/close-2025-12", "LIVE"),
            // In whatever state.
            ("2026-01", 1, "test/close-2026-01", "REJECTED"),
            ("2026-02", 1, "test/by-hand", "LIVE"),
            ("2026-03", 1, "test/close-2026-01", "LIVE"),
            ("2026-04", 1, "other/close-2026-04", "LIVE"),
        ])
        .await;
    assert_eq!(last_month(&fixture.operator, PREFIX).await.as_deref(), Some("2026-01"));
    assert_eq!(last_month(&fixture.operator, "other/close-").await.as_deref(), Some("2026-04"));
    assert_eq!(last_month(&fixture.operator, "test/clo").await, None);
}

#[tokio::test]
async fn a_run_is_seen_from_its_beginning_to_its_rollback() {
    let fixture = BillingFixture::new().await;
    let prefix_of_run = "test/close-";
    let read = async || {
        let found = read_months(&fixture.operator, prefix_of_run, "2026-10".parse().unwrap()).await.unwrap();
        found.iter().map(line).collect::<Vec<_>>().join("; ")
    };
    fixture.load(1, EVERYTHING).await;
    assert_eq!(read().await, "");
    let BeginResult::Started(started) = fixture.try_begin("test/close-2026-10", 4, None).await else {
        panic!("the run can begin");
    };
    assert_eq!(read().await, "2026-10: draft, by the schedule");
    bill_shards(&fixture, &started.key).await;
    fixture.issue(&started.key).await;
    assert_eq!(read().await, "2026-10: live, by the schedule, issued");
    let issued_at =
        fixture.database.read_text("select issued_at::text from revision where state = 'LIVE'").await;
    let found = read_months(&fixture.operator, prefix_of_run, "2026-10".parse().unwrap()).await.unwrap();
    assert_eq!(found[0].issued_at, Some(issued_at.parse().unwrap()));
    fixture.roll_back(7, 1).await;
    assert_eq!(read().await, "2026-10: rolled back, by the schedule");
    // A person bills it.
    bill_month(&fixture).await;
    assert_eq!(read().await, "2026-10: live, rolled back, by the schedule");
    let draft = fixture.rebill(8, 2, &fixture.price_book).await;
    assert_eq!(read().await, "2026-10: live, rolled back, draft, by the schedule");
    billing::reject_revision(&fixture.operator, &draft.key, "Deleted: x", EndStatus::Cancelled)
        .await
        .unwrap();
    assert_eq!(read().await, "2026-10: live, rolled back, by the schedule");
}
