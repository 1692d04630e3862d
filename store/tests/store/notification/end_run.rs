//! Runs end: finished, cancelled or failed, and status and job_log agree.

use store::job_log::{self, JobKind};
use store::notification::{self, NotificationError, NotificationState, Outcome, Scope, Selection, Uuid};

use super::fixture::{Fixture, id, keys, member, month, templates};

#[tokio::test]
async fn a_run_is_finished_when_every_target_has_an_outcome() {
    let fixture = Fixture::with_bills(5).await;
    let run = id(fixture.try_begin(1, Selection::Ready, &Scope::Everyone).await);
    assert!(!notification::finish_run(&fixture.operator, run).await.unwrap(), "nothing is selected yet");
    let facts = fixture.select_targets(1).await;
    fixture.end(&facts, &[1, 2], Outcome::Sent).await;
    fixture.end(&facts, &[3], Outcome::Failed).await;
    fixture.end(&facts, &[4], Outcome::Skipped).await;
    assert!(!notification::finish_run(&fixture.operator, run).await.unwrap(), "one target is open");
    assert_eq!(fixture.observe(1).await.open, 1);
    assert!(notification::any_run_sends(&fixture.operator).await.unwrap());
    fixture.end(&facts, &[5], Outcome::Unknown).await;
    assert!(notification::finish_run(&fixture.operator, run).await.unwrap());
    assert!(
        notification::finish_run(&fixture.operator, run).await.unwrap(),
        "a repeated call changes nothing"
    );

    let snapshot = fixture.observe(1).await;
    let counts = snapshot.counts;
    assert_eq!(
        (snapshot.facts.state, snapshot.logged, snapshot.held()),
        (NotificationState::Finished, true, 0)
    );
    assert_eq!((counts.sent, counts.failed, counts.skipped, counts.unknown, snapshot.open), (2, 1, 1, 1, 0));
    assert_eq!((snapshot.facts.targets, counts.ended()), (5, 5));
    let logged = fixture.database.read_text("select format('%s %s %s %s %s %s', status, total, succeeded, failed, skipped, detail->>'unknown') from job_log where kind = 'SEND'")
        .await;
    assert_eq!(logged, "COMPLETED_WITH_FAILURES 5 2 2 1 1");
    assert!(!notification::any_run_sends(&fixture.operator).await.unwrap());
    assert!(notification::read_unfinished_runs(&fixture.operator).await.unwrap().is_empty());
    assert_eq!(notification::cancel_run(&fixture.operator, run, "deleted").await.unwrap(), 0);
    assert_eq!(fixture.observe(1).await.facts.state, NotificationState::Finished);
    assert!(matches!(
        notification::open_round(&fixture.operator, run, 0).await,
        Err(NotificationError::WrongState { state: NotificationState::Finished, .. })
    ));
}

#[tokio::test]
async fn only_a_run_that_ended_with_every_outcome_uses_its_name_up() {
    let fixture = Fixture::with_bills(3).await;
    let earlier = async |uid: u128, run: &str| {
        let uid = Uuid::from_u128(uid);
        notification::find_earlier_run(&fixture.operator, run, uid, month()).await.unwrap()
    };
    let facts = fixture.ready(1).await;
    assert_eq!(fixture.observe(1).await.last_ended_at, None);
    assert_eq!(earlier(9, "test/run-1").await, None, "it is unfinished");
    fixture.end(&facts, &[1, 2], Outcome::Sent).await;
    fixture.end(&facts, &[3], Outcome::Failed).await;
    assert!(fixture.observe(1).await.last_ended_at.is_some());
    assert!(notification::finish_run(&fixture.operator, facts.id).await.unwrap());
    let found = earlier(9, "test/run-1").await.unwrap();
    assert_eq!((found.targets, found.succeeded, found.month), (3, 2, month()));
    assert_eq!(Some(found.at), fixture.observe(1).await.closed_at);
    assert_eq!(earlier(1, "test/run-1").await, None, "it is the run itself");
    assert_eq!(earlier(9, "test/other").await, None);

    let cancelled = fixture.run(2, Selection::Failed, &Scope::Everyone).await;
    notification::cancel_run(&fixture.operator, cancelled.id, "Deleted: x").await.unwrap();
    assert_eq!(earlier(9, "test/run-2").await, None, "it was cancelled");
}

#[tokio::test]
async fn a_run_without_targets_is_finished_at_once() {
    let fixture = Fixture::with_bills(1).await;
    let run = fixture.run(1, Selection::Failed, &Scope::Everyone).await;
    assert!(notification::finish_run(&fixture.operator, run.id).await.unwrap());
    assert_eq!(
        fixture.database.read_text("select status from job_log where kind = 'RECOVERY'").await,
        "SUCCEEDED"
    );
}

#[tokio::test]
async fn a_cancelled_or_failed_run_is_logged_when_nothing_is_handed_over_any_more() {
    for (fails, status) in [(false, "CANCELLED"), (true, "FAILED")] {
        let fixture = Fixture::with_bills(4).await;
        let run = fixture.ready(1).await;
        let round = notification::open_round(&fixture.operator, run.id, 0).await.unwrap();
        let mut consumer = fixture.consumer("dies").await;
        notification::save_checkpoint(&mut consumer.connection, run.id, round, 0, member(3), 3)
            .await
            .unwrap();
        fixture.end(&run, &[1], Outcome::Sent).await;
        let deliveries = consumer.claim(&run, &keys(&[2, 3], 1)).await;
        consumer.hand_over(&deliveries[..1]).await;
        let end = async || match fails {
            true => notification::fail_run(&fixture.operator, run.id, "the reason").await.unwrap(),
            false => notification::cancel_run(&fixture.operator, run.id, "the reason").await.unwrap(),
        };
        assert_eq!(end().await, 1);
        assert_eq!(notification::read_unfinished_runs(&fixture.operator).await.unwrap().len(), 1);
        assert!(!notification::any_run_sends(&fixture.operator).await.unwrap());
        fixture.expire_leases().await;
        assert_eq!(fixture.end_expired_leases().await, (1, 0));
        assert_eq!(end().await, 0);
        let logged = fixture.database.read_text(
                "select string_agg(format('%s %s %s %s %s %s', kind, status, total, succeeded, failed, skipped), ', ' order by id)
                 from job_log where run = 'test/run-1'",
            )
            .await;
        assert_eq!(logged, format!("SEND {status} 4 1 1 2, PUBLISH {status} 3 3 0 0"));
        assert_eq!(
            fixture.database.read_text("select count(*) from publication where done_at is null").await,
            "0"
        );
        assert_eq!(fixture.deliveries().await, "1 SENT 1, 2 UNKNOWN 1, 3 PENDING 0");
    }
}

#[tokio::test]
async fn a_rehearsal_changes_no_delivery() {
    let fixture = Fixture::with_bills(3).await;
    let request = notification::BeginRequest {
        run: "test/rehearsal",
        run_uid: Uuid::from_u128(1),
        month: month(),
        selection: Selection::Ready,
        scope: &Scope::Everyone,
        rehearsal: true,
        skip_zero: false,
        templates: &templates(),
        max_per_second: None,
    };
    notification::begin_run(&fixture.operator, &request).await.unwrap();
    let run = fixture.select_targets(1).await;
    assert!(!notification::any_run_sends(&fixture.operator).await.unwrap());
    let mut consumer = fixture.consumer("a").await;
    assert!(consumer.claim(&run, &keys(&[1, 2, 3], 1)).await.is_empty(), "a rehearsal is never sent");
    let keys = keys(&[1, 2, 3], 1);
    let ended = [
        (keys[0], Outcome::Rendered, None),
        (keys[1], Outcome::Failed, Some("cannot be decrypted".to_owned())),
        (keys[2], Outcome::Skipped, Some("NO_ADDRESS".to_owned())),
    ];
    notification::update_settings(&fixture.operator, run.id, true, None).await.unwrap();
    let state =
        notification::record_rehearsal_outcomes(&mut consumer.connection, &run, &ended).await.unwrap();
    assert_eq!((state, fixture.observe(1).await.open), (NotificationState::Suspended, 3));
    notification::update_settings(&fixture.operator, run.id, false, None).await.unwrap();
    for _ in 0..2 {
        let state =
            notification::record_rehearsal_outcomes(&mut consumer.connection, &run, &ended).await.unwrap();
        assert_eq!(state, NotificationState::Open);
    }
    assert!(notification::finish_run(&fixture.operator, run.id).await.unwrap());
    let snapshot = fixture.observe(1).await;
    assert_eq!(
        (snapshot.counts.rendered, snapshot.counts.failed, snapshot.counts.skipped, snapshot.published),
        (1, 1, 1, 0)
    );
    let logged = fixture.database.read_text("select format('%s %s %s %s', status, succeeded, failed, skipped) from job_log where kind = 'REHEARSAL'").await;
    assert_eq!(logged, "COMPLETED_WITH_FAILURES 1 1 1");
    assert_eq!(fixture.database.read_text("select count(*) from delivery").await, "0");
    assert_eq!(
        fixture.database.read_text("select string_agg(distinct status, ' ') from live_bill").await,
        "READY"
    );
}

#[tokio::test]
async fn a_running_run_is_not_taken_for_a_dead_process() {
    let fixture = Fixture::with_bills(1).await;
    let run = fixture.ready(1).await;
    notification::open_round(&fixture.operator, run.id, 0).await.unwrap();
    let mut connection = fixture.database.connect().await;
    let kinds = [JobKind::Send, JobKind::Publish, JobKind::Recovery, JobKind::Rehearsal, JobKind::Billing];
    assert!(job_log::fail_dead_jobs(&mut connection, &kinds).await.unwrap().is_empty());
    assert_eq!(
        fixture
            .database
            .read_text("select count(*) from job_log where run = 'test/run-1' and status = 'RUNNING'")
            .await,
        "2"
    );
}
