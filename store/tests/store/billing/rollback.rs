//! Live revisions are rolled back: once for each run, the highest one only, and all or nothing.

use domain::ids::Revision;
use store::billing::{
    self, BeginResult, EndStatus, Rejection, RevisionState, Rollback, RollbackRequest, RollbackResult, Uuid,
};
use store::testing::BillingFixture;
use store::testing::sample_month::EVERYTHING;

use super::{bill_month, bill_shards};

fn rolled_back(result: RollbackResult) -> Rollback {
    match result {
        RollbackResult::RolledBack(rollback) => rollback,
        RollbackResult::Rejected(rejection) => panic!("{rejection}"),
    }
}

fn rejection(result: RollbackResult) -> String {
    match result {
        RollbackResult::RolledBack(rollback) => panic!("{rollback:?}"),
        RollbackResult::Rejected(rejection) => rejection.to_string(),
    }
}

/// Everything that a rollback writes, and what readers see.
async fn everything(fixture: &BillingFixture) -> String {
    fixture
        .database
        .read_text(
            "select concat_ws(e'\\n', (select string_agg(r::text, e'\\n' order by revision) from revision r),
                              (select string_agg(k::text, e'\\n' order by revision) from rollback k),
                              (select string_agg(j::text, e'\\n' order by id) from job_log j),
                              (select string_agg(l::text, e'\\n') from month_lock l),
                              (select count(*) from live_bill), (select count(*) from bill_history))",
        )
        .await
}

#[tokio::test]
async fn a_revision_is_rolled_back_once() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    assert_ne!(bill_month(&fixture).await, "");
    let first = rolled_back(fixture.roll_back(7, 1).await);
    assert_eq!((first.revision.get(), first.outcomes, first.live_again), (1, 16, None));
    assert_eq!(fixture.live_bills().await, "");
    assert_eq!(
        fixture
            .database
            .read_text(
                "select distinct format('%s %s %s %s %s', state, run, rolled_back_by, reason, closed_at > issued_at)
                 from bill_history"
            )
            .await,
        "ROLLED_BACK test/run test/rollback wrong price book t"
    );
    assert_eq!(
        fixture
            .database
            .read_text(
                "select format('%s %s %s %s %s %s %s %s %s', run, month, status, total, succeeded, failed, skipped,
                               ended_at >= started_at, detail)
                 from job_log where kind = 'ROLLBACK'"
            )
            .await,
        "test/rollback 2026-10 SUCCEEDED 16 16 0 0 t {\"reason\": \"wrong price book\", \"runUid\": \
         \"00000000-0000-0000-0000-000000000007\", \"revision\": 1}"
    );

    let before = everything(&fixture).await;
    let again = rolled_back(fixture.roll_back(7, 1).await);
    assert_eq!(Rollback { now: first.now, ..again }, first);
    assert_eq!(everything(&fixture).await, before);
    let observed = billing::observe_rollback(&fixture.operator, Uuid::from_u128(7)).await.unwrap().unwrap();
    assert_eq!(Rollback { now: first.now, ..observed }, first);
    assert_eq!(billing::observe_rollback(&fixture.operator, Uuid::from_u128(8)).await.unwrap(), None);
    // The run that billed the month keeps its record.
    let key = billing::RevisionKey {
        month: first.month,
        revision: first.revision,
        run_uid: Uuid::from_u128(1),
        fence: 1,
    };
    assert_eq!(fixture.observe(&key).await.state, RevisionState::RolledBack);
}

#[tokio::test]
async fn only_the_highest_live_revision_is_rolled_back() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    assert_eq!(
        rejection(fixture.roll_back(7, 1).await),
        "revision 1 of month 2026-10 is not the month's highest live revision: no revision is live; to bill the month, create \
         a run without rebill and rollback"
    );
    bill_month(&fixture).await;
    let before = everything(&fixture).await;
    assert_eq!(
        rejection(fixture.roll_back(7, 2).await),
        "revision 2 of month 2026-10 is not the month's highest live revision: revision 1 of run test/run is; to change \
         that one, create a run with ofRevision: 1"
    );
    // A later revision over the first one.
    assert_eq!(everything(&fixture).await, before);
    fixture.database.issue_bills(2, "values (3), (4)").await;
    fixture
        .database
        .execute(
            "update job_log j set status = 'SUCCEEDED', ended_at = now(), total = 2, succeeded = 2
             from revision r where r.job = j.id and r.revision = 2",
        )
        .await;
    assert!(rejection(fixture.roll_back(7, 1).await).contains(": revision 2 of run test/billing is; "));
    let second = rolled_back(fixture.roll_back(8, 2).await);
    assert_eq!((second.outcomes, second.live_again.map(|revision| revision.get())), (2, Some(1)));
    assert_eq!(
        fixture.database.read_text("select format('%s %s', min(revision), count(*)) from live_bill").await,
        "1 12"
    );
    assert_eq!(rolled_back(fixture.roll_back(9, 1).await).live_again, None);
    assert_eq!(fixture.live_bills().await, "");
    assert!(rejection(fixture.roll_back(10, 1).await).contains(": no revision is live; "));
}

#[tokio::test]
async fn of_two_runs_that_roll_back_at_once_one_does() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    let (one, other, same) =
        tokio::join!(fixture.roll_back(7, 1), fixture.roll_back(8, 1), fixture.roll_back(7, 1));
    let did = |result: &RollbackResult| matches!(result, RollbackResult::RolledBack(_));
    assert_eq!(did(&one), did(&same), "{one:?} {same:?}");
    assert_ne!(did(&one), did(&other), "{one:?} {other:?}");
    assert_eq!(fixture.database.read_text("select count(*) from rollback").await, "1");
    assert_eq!(fixture.database.read_text("select count(*) from job_log where kind = 'ROLLBACK'").await, "1");
}

#[tokio::test]
async fn a_month_that_was_rolled_back_is_billed_again() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let bills = bill_month(&fixture).await;
    rolled_back(fixture.roll_back(7, 1).await);
    let again = fixture.begin(2).await.key;
    assert_eq!(again.revision.get(), 2);

    // A draft holds the month, whatever is asked for.
    let locked =
        RollbackResult::Rejected(Rejection::MonthLocked { month: again.month, by: "test/run".to_owned() });
    // The answer does not wait for the workers, whose transactions share the month's row.
    let mut chunk = fixture.database.connect().await;
    sqlx::raw_sql("begin; select from month_lock for share").execute(&mut chunk).await.unwrap();
    for revision in [1, 2] {
        assert_eq!(fixture.roll_back(8, revision).await, locked);
    }
    sqlx::raw_sql("commit").execute(&mut chunk).await.unwrap();
    bill_shards(&fixture, &again).await;
    assert_eq!(fixture.issue(&again).await, bills);

    // The first rollback is over, and never takes back what came after it.
    assert_eq!(rolled_back(fixture.roll_back(7, 1).await).revision.get(), 1);
    assert!(rejection(fixture.roll_back(8, 1).await).contains(": revision 2 of run test/run is; "));
    assert_eq!(fixture.live_bills().await, bills);
    assert_eq!(rolled_back(fixture.roll_back(8, 2).await).outcomes, 16);
    assert_eq!(fixture.begin(3).await.key.revision.get(), 3);
}

#[tokio::test]
async fn a_draft_is_neither_rolled_back_nor_in_the_way_once_it_is_rejected() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let draft = fixture.begin(1).await.key;
    billing::reject_revision(&fixture.operator, &draft, "deleted", EndStatus::Cancelled).await.unwrap();
    assert!(rejection(fixture.roll_back(7, 1).await).contains(": no revision is live; "));
    let BeginResult::Started(next) = fixture.try_begin("test/run", 2, None).await else { panic!("rejected") };
    bill_shards(&fixture, &next.key).await;
    fixture.issue(&next.key).await;
    assert_eq!(rolled_back(fixture.roll_back(7, 2).await).outcomes, 16);
}

/// Fails the transaction at each of its statements in turn: nothing of it stays, and the next call
/// does all of it.
#[tokio::test]
async fn a_rollback_that_breaks_off_leaves_nothing() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let bills = bill_month(&fixture).await;
    let before = everything(&fixture).await;
    fixture
        .database
        .execute(
            "create function break_off() returns trigger language plpgsql
             security definer as $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$",
        )
        .await;
    for (table, event) in
        [("job_log", "insert"), ("revision", "update"), ("rollback", "insert"), ("job_log", "update")]
    {
        fixture
            .database
            .execute(&format!(
                "create trigger break_off after {event} on {table} for each row execute function break_off()"
            ))
            .await;
        let request = RollbackRequest {
            run: "test/rollback",
            run_uid: Uuid::from_u128(7),
            month: fixture.month.parse().unwrap(),
            revision: Revision::FIRST,
            reason: "wrong price book",
        };
        let error = billing::roll_back_revision(&fixture.operator, &request).await.unwrap_err();
        assert!(error.is_transient(), "{table} {event}: {error:?}");
        fixture.database.execute(&format!("drop trigger break_off on {table}")).await;
        assert_eq!(everything(&fixture).await, before, "{table} {event}");
        assert_eq!(billing::observe_rollback(&fixture.operator, Uuid::from_u128(7)).await.unwrap(), None);
    }
    assert_eq!(fixture.live_bills().await, bills);
    assert_eq!(rolled_back(fixture.roll_back(7, 1).await).outcomes, 16);
}

#[tokio::test]
async fn the_cost_of_a_rollback_does_not_depend_on_the_bills() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    // Nothing can be read that grows with the month.
    let mut blocker = fixture.database.connect().await;
    sqlx::raw_sql("begin; lock table bill, bill_item, quarantined_member, chunk in access exclusive mode")
        .execute(&mut blocker)
        .await
        .unwrap();
    assert_eq!(rolled_back(fixture.roll_back(7, 1).await).outcomes, 16);
}

#[tokio::test]
async fn the_worker_cannot_roll_back() {
    let fixture = BillingFixture::new().await;
    let worker = fixture.database.pool_as("monthend_worker", 1).await;
    for statement in ["insert into rollback default values", "update rollback set reason = ''"] {
        let refused = sqlx::query(statement).execute(&worker).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
    for statement in ["update rollback set reason = ''", "delete from rollback"] {
        let refused = sqlx::query(statement).execute(&fixture.operator).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
}
