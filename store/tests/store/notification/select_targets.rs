//! Which bills a run selects as its targets.

use store::notification::{self, BeginResult, Outcome, Rejection, Scope, Selection, SelectionResult, Uuid};
use store::testing::TestDatabase;

use super::fixture::{Fixture, id, keys, member, month, templates};

async fn targets(fixture: &Fixture, uid: u128) -> String {
    fixture.database.read_text(&format!(
            "select coalesce(string_agg(format('%s/%s+%s', member_id, revision, after_attempt), ' ' order by member_id), '')
             from notice_target t join notification n on n.id = t.notification where n.run_uid = '{}'",
            Uuid::from_u128(uid)
        ))
        .await
}

#[tokio::test]
async fn a_month_without_live_bills_rejects_runs() {
    let database = TestDatabase::new().await;
    let request = notification::BeginRequest {
        run: "test/run",
        run_uid: Uuid::from_u128(1),
        month: month(),
        selection: Selection::Ready,
        scope: &Scope::Everyone,
        rehearsal: false,
        skip_zero: false,
        templates: &templates(),
        max_per_second: None,
    };
    let rejected = BeginResult::Rejected(Rejection::MonthNotBilled { month: month() });
    assert_eq!(notification::begin_run(&database.pool, &request).await.unwrap(), rejected);
    let written: i64 =
        sqlx::query_scalar("select count(*) from job_log").fetch_one(&database.pool).await.unwrap();
    assert_eq!(written, 0);
}

#[tokio::test]
async fn a_run_begins_once() {
    let fixture = Fixture::with_bills(3).await;
    let everyone = Scope::Everyone;
    let (first, second) = tokio::join!(
        fixture.try_begin(1, Selection::Ready, &everyone),
        fixture.try_begin(1, Selection::Ready, &everyone)
    );
    assert_eq!(id(first), id(second));
    assert_eq!(fixture.database.read_text("select count(*) from notification").await, "1");
    assert_eq!(
        fixture
            .database
            .read_text("select string_agg(kind, ' ') from job_log where run = 'test/run-1'")
            .await,
        "SEND"
    );
    let other = id(fixture.try_begin(2, Selection::Failed, &everyone).await);
    assert_eq!(
        fixture
            .database
            .read_text(&format!(
                "select kind from job_log j join notification n on n.job = j.id where n.id = {}",
                other.0
            ))
            .await,
        "RECOVERY"
    );
}

#[tokio::test]
async fn each_selection_selects_by_delivery_state() {
    let fixture = Fixture::with_bills(8).await;
    // Of eight bills 1 has failed, 2 is unknown, 3 sent, 4 skipped, 5 claimed, 6 handed over; 7 and 8
    // were never claimed.
    let first = fixture.run(1, Selection::Ready, &Scope::Range { from: member(1), to: member(6) }).await;
    fixture.end(&first, &[1], Outcome::Failed).await;
    fixture.end(&first, &[2], Outcome::Unknown).await;
    fixture.end(&first, &[3], Outcome::Sent).await;
    fixture.end(&first, &[4], Outcome::Skipped).await;
    let mut consumer = fixture.consumer("busy").await;
    let deliveries = consumer.claim(&first, &keys(&[5, 6], 1)).await;
    consumer.hand_over(&deliveries[1..]).await;

    fixture.ready(2).await;
    assert_eq!(targets(&fixture, 2).await, "7/1+0 8/1+0");
    fixture.run(3, Selection::Failed, &Scope::Everyone).await;
    assert_eq!(targets(&fixture, 3).await, "1/1+1");
    fixture.run(4, Selection::Unknown, &Scope::Everyone).await;
    assert_eq!(targets(&fixture, 4).await, "2/1+1");

    // After the lease has expired, a claim counts as released, and a hand-over as unknown.
    fixture.expire_leases().await;
    fixture.ready(5).await;
    assert_eq!(targets(&fixture, 5).await, "5/1+0 7/1+0 8/1+0");
    fixture.run(6, Selection::Unknown, &Scope::Everyone).await;
    assert_eq!(targets(&fixture, 6).await, "2/1+1 6/1+1");
}

#[tokio::test]
async fn a_scope_is_a_range_or_a_list() {
    let fixture = Fixture::with_bills(10).await;
    fixture.run(1, Selection::Ready, &Scope::Range { from: member(4), to: member(6) }).await;
    assert_eq!(targets(&fixture, 1).await, "4/1+0 5/1+0 6/1+0");
    let listed = Scope::Members([9, 2, 77, 5].map(member).to_vec());
    fixture.run(2, Selection::Ready, &listed).await;
    assert_eq!(targets(&fixture, 2).await, "2/1+0 5/1+0 9/1+0");
    fixture.run(3, Selection::Ready, &Scope::Members(vec![member(77)])).await;
    assert_eq!(targets(&fixture, 3).await, "");
    assert_eq!(fixture.observe(3).await.facts.targets, 0);
}

#[tokio::test]
async fn only_live_bills_of_members_without_an_earlier_email_are_selected() {
    let fixture = Fixture::with_bills(6).await;
    let first = fixture.run(1, Selection::Ready, &Scope::Range { from: member(1), to: member(4) }).await;
    fixture.end(&first, &[1], Outcome::Sent).await;
    fixture.end(&first, &[2], Outcome::Unknown).await;
    fixture.end(&first, &[3], Outcome::Failed).await;
    fixture.database.issue_bills(2, "values (1), (2), (3), (4)").await;
    fixture.database.execute("insert into quarantined_member values ('2026-10', 5, 2, 'NO_PLAN', 'x')").await;
    // Member 1 was sent revision 1, and member 2 may have been: neither gets another email. Member 5
    // has no live bill any more.
    fixture.ready(2).await;
    assert_eq!(targets(&fixture, 2).await, "3/2+0 4/2+0 6/1+0");
    // The failed and unknown bills are of a superseded revision.
    fixture.run(3, Selection::Failed, &Scope::Everyone).await;
    fixture.run(4, Selection::Unknown, &Scope::Everyone).await;
    assert_eq!(targets(&fixture, 3).await + &targets(&fixture, 4).await, "");
}

#[tokio::test]
async fn a_selection_continues_where_it_stopped_and_is_complete_once() {
    let fixture = Fixture::with_bills(10).await;
    id(fixture.try_begin(1, Selection::Ready, &Scope::Everyone).await);
    let mut connection = fixture.worker().await;
    let run = notification::read_run(&mut connection, Uuid::from_u128(1)).await.unwrap();
    let stopped = notification::select_targets(&mut connection, &run, 4, |_| false).await.unwrap();
    assert_eq!(stopped, SelectionResult::Stopped);
    assert_eq!(targets(&fixture, 1).await, "1/1+0 2/1+0 3/1+0 4/1+0");
    assert!(!fixture.observe(1).await.facts.selected);

    let mut other = fixture.worker().await;
    let (one, two) = tokio::join!(
        notification::select_targets(&mut connection, &run, 4, |_| true),
        notification::select_targets(&mut other, &run, 3, |_| true)
    );
    assert_eq!(one.unwrap(), SelectionResult::Complete { targets: 10 });
    assert_eq!(two.unwrap(), SelectionResult::Complete { targets: 10 });
    assert_eq!(fixture.observe(1).await.facts.targets, 10);

    // A bill that is issued later belongs to another run.
    fixture.database.execute("insert into member (member_id, load, name) values (11, 1, '\\x01')").await;
    fixture.database.execute("insert into bill select 11, 1, 0, 0, 0, 0, 0, 1, 1, '2026-10'").await;
    let again = notification::select_targets(&mut connection, &run, 4, |_| true).await.unwrap();
    assert_eq!(again, SelectionResult::Complete { targets: 10 });
}

#[tokio::test]
async fn nothing_is_selected_for_a_run_that_has_ended() {
    let fixture = Fixture::with_bills(5).await;
    let run = id(fixture.try_begin(1, Selection::Ready, &Scope::Everyone).await);
    let mut connection = fixture.worker().await;
    let facts = notification::read_run(&mut connection, Uuid::from_u128(1)).await.unwrap();
    assert_eq!(notification::cancel_run(&fixture.operator, run, "deleted").await.unwrap(), 0);
    let over = notification::select_targets(&mut connection, &facts, 4, |_| true).await.unwrap();
    assert_eq!(over, SelectionResult::RunOver);
    assert_eq!(targets(&fixture, 1).await, "");
}
