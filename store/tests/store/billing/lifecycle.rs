//! Revisions begin, and are verified, issued or rejected; each step is also repeated.

use store::billing::{self, BeginResult, BillingError, EndStatus, Rejection, RevisionState};
use store::testing::BillingFixture;
use store::testing::sample_month::EVERYTHING;

use super::{bill_shard, bill_shards};

#[tokio::test]
async fn a_repeated_begin_changes_nothing() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let started = fixture.begin(1).await;
    assert_eq!(fixture.begin(1).await, started);
    assert_eq!(fixture.database.read_text("select count(*) from chunk").await, started.chunks.to_string());
    assert_eq!(fixture.database.read_text("select count(*) from job_log where kind = 'BILLING'").await, "1");
    assert_eq!(
        fixture.database.read_text("select fence from month_lock").await,
        started.key.fence.to_string()
    );
}

#[tokio::test]
async fn chunks_cover_all_ids_and_shards_are_even() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.begin(1).await;
    let plan = fixture.database.read_text("select string_agg(format('%s:%s %s-%s %s', shard, chunk_no, from_member, to_member, members), e'\\n' order by chunk_no) from chunk")
        .await;
    assert_eq!(
        plan,
        "0:1 1-3 3\n0:2 4-6 3\n0:3 7-9 3\n1:4 10-32 3\n1:5 33-9223372036854775806 3\n1:6 9223372036854775807-9223372036854775807 1"
    );
}

#[tokio::test]
async fn a_month_is_held_by_one_run_at_a_time() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let first = fixture.begin(1).await;
    let month = first.key.month;
    let rejected = |result: &BeginResult| match result {
        BeginResult::Rejected(rejection) => rejection.clone(),
        BeginResult::Started(started) => panic!("started: {started:?}"),
    };
    let second = rejected(&fixture.try_begin("test/other", 2, None).await);
    assert_eq!(second, Rejection::MonthLocked { month, by: "test/run".to_owned() });

    // A run that is deleted and created again under the same name is another run, with another
    // revision.
    billing::reject_revision(&fixture.operator, &first.key, "deleted", EndStatus::Cancelled).await.unwrap();
    let again = fixture.begin(3).await;
    assert_eq!((again.key.revision.get(), again.key.fence), (2, first.key.fence + 1));
    bill_shards(&fixture, &again.key).await;
    fixture.issue(&again.key).await;
    let late = rejected(&fixture.try_begin("test/other", 2, None).await);
    assert_eq!(
        late,
        Rejection::MonthAlreadyBilled { month, revision: again.key.revision, by: "test/run".to_owned() }
    );
}

#[tokio::test]
async fn of_two_runs_that_begin_at_once_one_gets_the_month() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let (one, other) =
        tokio::join!(fixture.try_begin("test/a", 1, None), fixture.try_begin("test/b", 2, None));
    let started =
        [&one, &other].iter().filter(|beginning| matches!(beginning, BeginResult::Started(_))).count();
    assert_eq!(started, 1, "{one:?} {other:?}");
}

#[tokio::test]
async fn a_run_needs_a_finished_load() {
    let fixture = BillingFixture::new().await;
    assert_eq!(fixture.try_begin("test/run", 1, None).await, BeginResult::Rejected(Rejection::NoDataLoaded));
    fixture.load(3, "select 1").await;
    let BeginResult::Rejected(rejection) = fixture.try_begin("test/run", 1, Some(2)).await else {
        panic!("it started")
    };
    assert_eq!(rejection.to_string(), "dataCutoff 2 is no finished load; the last finished load is 3");
    assert_eq!(fixture.database.read_text("select count(*) from revision").await, "0");
    assert_eq!(
        fixture.database.read_text("select count(*) from month_lock where run is not null").await,
        "0"
    );
}

#[tokio::test]
async fn a_revision_is_issued_only_after_verification() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let key = fixture.begin(1).await.key;
    bill_shard(&fixture, &key, 0).await;
    let early = billing::verify_revision(&fixture.operator, &key).await.unwrap_err();
    assert_eq!(
        early.to_string(),
        "revision 1 of month 2026-10 cannot be verified: 3 of its chunks are not done"
    );
    bill_shard(&fixture, &key, 1).await;
    let unverified = billing::issue_revision(&fixture.operator, &key, None).await.unwrap_err();
    assert_eq!(unverified.to_string(), "revision 1 of month 2026-10 cannot be issued: it was not verified");
    assert_eq!(fixture.database.read_text("select count(*) from live_bill").await, "0");

    fixture.verify(&key).await;
    billing::issue_revision(&fixture.operator, &key, Some("kim")).await.unwrap();
    let first = fixture.observe(&key).await;
    assert_eq!(
        (first.state, first.holds_lock, first.decided_by.as_deref()),
        (RevisionState::Live, false, Some("kim"))
    );
    billing::issue_revision(&fixture.operator, &key, Some("lee")).await.unwrap();
    let again = fixture.observe(&key).await;
    assert_eq!((again.issued_at, again.decided_by), (first.issued_at, first.decided_by));
    let rejected =
        billing::reject_revision(&fixture.operator, &key, "no", EndStatus::Cancelled).await.unwrap_err();
    assert!(matches!(rejected, BillingError::WrongState { state: RevisionState::Live, .. }), "{rejected}");
}

#[tokio::test]
async fn a_rejected_draft_frees_the_month_and_the_next_revision_has_the_same_digest() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let first = fixture.begin(1).await.key;
    bill_shards(&fixture, &first).await;
    let digest = fixture.verify(&first).await.digest;
    for _ in 0..2 {
        billing::reject_revision(&fixture.operator, &first, "rejected by hand", EndStatus::Cancelled)
            .await
            .unwrap();
    }
    let snapshot = fixture.observe(&first).await;
    assert_eq!((snapshot.state, snapshot.holds_lock), (RevisionState::Rejected, false));
    assert_eq!(snapshot.reason.as_deref(), Some("rejected by hand"));
    assert_eq!(fixture.database.read_text("select count(*) from live_bill").await, "0");
    assert_eq!(
        fixture.database.read_text("select count(*) from bill_history where state = 'REJECTED'").await,
        "12"
    );
    let issue = billing::issue_revision(&fixture.operator, &first, None).await.unwrap_err();
    assert_eq!(issue.to_string(), "revision 1 of month 2026-10 is REJECTED, so it cannot be issued");

    let second = fixture.begin(2).await.key;
    bill_shards(&fixture, &second).await;
    assert_eq!(fixture.verify(&second).await.digest, digest);
    let chunks =
        "select string_agg(encode(digest, 'hex'), ' ' order by chunk_no) from chunk where revision =";
    assert_eq!(
        fixture.database.read_text(&format!("{chunks} 1")).await,
        fixture.database.read_text(&format!("{chunks} 2")).await
    );
}

#[tokio::test]
async fn job_log_is_complete_for_a_run_that_fails_half_way() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let key = fixture.begin(1).await.key;
    bill_shard(&fixture, &key, 0).await;
    billing::reject_revision(&fixture.operator, &key, "the worker Job failed", EndStatus::Failed)
        .await
        .unwrap();
    let row = "select format('%s %s %s %s %s %s', status, total, succeeded, failed, skipped, detail->>'reason') from job_log where kind = 'BILLING'";
    assert_eq!(fixture.database.read_text(row).await, "FAILED 16 9 0 7 the worker Job failed");
}
