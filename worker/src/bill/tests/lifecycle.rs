//! Beginning, issuing and rejecting, once and again.

use store::billing::{self, BeginResult, BillingError, EndStatus, Rejection, RevisionState};

use super::Fixture;
use super::data::EVERYTHING;

#[tokio::test]
async fn beginning_again_changes_nothing() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let begun = fixture.begin(1).await;
    assert_eq!(fixture.begin(1).await, begun);
    assert_eq!(fixture.one("select count(*) from chunk").await, begun.chunks.to_string());
    assert_eq!(fixture.one("select count(*) from job_log where kind = 'BILLING'").await, "1");
    assert_eq!(fixture.one("select fence from month_lock").await, begun.key.fence.to_string());
}

#[tokio::test]
async fn chunks_tile_all_ids_and_shards_are_even() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.begin(1).await;
    let plan = fixture
        .one("select string_agg(format('%s:%s %s-%s %s', shard, chunk_no, from_member, to_member, members), e'\\n' order by chunk_no) from chunk")
        .await;
    assert_eq!(
        plan,
        "0:1 1-3 3\n0:2 4-6 3\n0:3 7-9 3\n1:4 10-32 3\n1:5 33-9223372036854775806 3\n1:6 9223372036854775807-9223372036854775807 1"
    );
}

#[tokio::test]
async fn one_run_at_a_time_has_a_month() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let first = fixture.begin(1).await;
    let month = first.key.month;
    let refused = |refusal: &BeginResult| match refusal {
        BeginResult::Rejected(refusal) => refusal.clone(),
        BeginResult::Started(begun) => panic!("begun: {begun:?}"),
    };
    let second = refused(&fixture.attempt("test/other", 2, None).await);
    assert_eq!(second, Rejection::MonthLocked { month, by: "test/run".to_owned() });

    // Deleted and created again under the same name: another run, another revision.
    billing::reject_revision(&fixture.operator, &first.key, "deleted", EndStatus::Cancelled).await.unwrap();
    let again = fixture.begin(3).await;
    assert_eq!((again.key.revision.get(), again.key.fence), (2, first.key.fence + 1));
    fixture.work_all(&again.key).await;
    fixture.issue(&again.key).await;
    let late = refused(&fixture.attempt("test/other", 2, None).await);
    assert_eq!(
        late,
        Rejection::MonthAlreadyBilled { month, revision: again.key.revision, by: "test/run".to_owned() }
    );
}

#[tokio::test]
async fn two_that_begin_at_once_get_one_month() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let (one, other) = tokio::join!(fixture.attempt("test/a", 1, None), fixture.attempt("test/b", 2, None));
    let begun =
        [&one, &other].iter().filter(|beginning| matches!(beginning, BeginResult::Started(_))).count();
    assert_eq!(begun, 1, "{one:?} {other:?}");
}

#[tokio::test]
async fn a_run_needs_a_finished_load() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.attempt("test/run", 1, None).await, BeginResult::Rejected(Rejection::NoDataLoaded));
    fixture.load(3, "select 1").await;
    let BeginResult::Rejected(refusal) = fixture.attempt("test/run", 1, Some(2)).await else {
        panic!("begun")
    };
    assert_eq!(refusal.to_string(), "dataCutoff 2 is no finished load; the last finished one is 3");
    assert_eq!(fixture.one("select count(*) from revision").await, "0");
    assert_eq!(fixture.one("select count(*) from month_lock where run is not null").await, "0");
}

#[tokio::test]
async fn nothing_is_issued_that_was_not_verified() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let key = fixture.begin(1).await.key;
    fixture.work(&key, 0).await.unwrap();
    let early = billing::verify_revision(&fixture.operator, &key).await.unwrap_err();
    assert_eq!(
        early.to_string(),
        "revision 1 of month 2026-10 cannot be verified: 3 of its chunks are still to be done"
    );
    fixture.work(&key, 1).await.unwrap();
    let unverified = billing::issue_revision(&fixture.operator, &key, None).await.unwrap_err();
    assert_eq!(unverified.to_string(), "revision 1 of month 2026-10 cannot be issued: it was not verified");
    assert_eq!(fixture.one("select count(*) from live_bill").await, "0");

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
async fn a_rejected_draft_frees_the_month_and_the_next_one_has_the_same_digest() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let first = fixture.begin(1).await.key;
    fixture.work_all(&first).await;
    let digest = fixture.verify(&first).await.digest;
    for _ in 0..2 {
        billing::reject_revision(&fixture.operator, &first, "turned down", EndStatus::Cancelled)
            .await
            .unwrap();
    }
    let snapshot = fixture.observe(&first).await;
    assert_eq!((snapshot.state, snapshot.holds_lock), (RevisionState::Rejected, false));
    assert_eq!(snapshot.reason.as_deref(), Some("turned down"));
    assert_eq!(fixture.one("select count(*) from live_bill").await, "0");
    assert_eq!(fixture.one("select count(*) from bill_history where state = 'REJECTED'").await, "12");
    let issue = billing::issue_revision(&fixture.operator, &first, None).await.unwrap_err();
    assert_eq!(issue.to_string(), "revision 1 of month 2026-10 is REJECTED, so it cannot be issued");

    let second = fixture.begin(2).await.key;
    fixture.work_all(&second).await;
    assert_eq!(fixture.verify(&second).await.digest, digest);
    let chunks =
        "select string_agg(encode(digest, 'hex'), ' ' order by chunk_no) from chunk where revision =";
    assert_eq!(fixture.one(&format!("{chunks} 1")).await, fixture.one(&format!("{chunks} 2")).await);
}

#[tokio::test]
async fn a_run_that_ends_half_way_is_complete_in_the_job_log() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let key = fixture.begin(1).await.key;
    fixture.work(&key, 0).await.unwrap();
    billing::reject_revision(&fixture.operator, &key, "the worker Job failed", EndStatus::Failed)
        .await
        .unwrap();
    let row = "select format('%s %s %s %s %s %s', status, total, succeeded, failed, skipped, detail->>'reason') from job_log where kind = 'BILLING'";
    assert_eq!(fixture.one(row).await, "FAILED 16 9 0 7 the worker Job failed");
}
