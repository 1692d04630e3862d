//! Publishing targets in rounds.

use store::notification::{self, NotificationError, NotificationState, Outcome};

use super::fixture::{Fixture, keys, member};

#[tokio::test]
async fn a_round_continues_at_its_last_checkpoint() {
    let fixture = Fixture::with_bills(7).await;
    let run = fixture.ready(1).await;
    let round = notification::open_round(&fixture.operator, run.id, 0).await.unwrap();
    assert_eq!(notification::open_round(&fixture.operator, run.id, 0).await.unwrap(), round);
    let mut publisher = fixture.worker().await;
    let page = notification::read_open_targets(&mut publisher, &run, None, 3).await.unwrap();
    assert_eq!(page, keys(&[1, 2, 3], 1));
    let state = notification::save_checkpoint(&mut publisher, run.id, round, 0, member(3), 3).await.unwrap();
    assert_eq!(state, NotificationState::Open);
    // Another publisher of the same round, which does not know the checkpoint.
    let overtaken = notification::save_checkpoint(&mut publisher, run.id, round, 0, member(3), 3).await;
    assert!(matches!(overtaken, Err(NotificationError::Overtaken { .. })), "{overtaken:?}");
    notification::record_waiting(&mut publisher, run.id, round, Some("Kafka cannot be reached"))
        .await
        .unwrap();
    let snapshot = fixture.observe(1).await;
    let publication = snapshot.publication.unwrap();
    assert_eq!((publication.published_to, publication.messages, snapshot.published), (3, 3, 3));
    assert_eq!(publication.waiting.as_deref(), Some("Kafka cannot be reached"));
    let page = notification::read_open_targets(&mut publisher, &run, Some(member(3)), 10).await.unwrap();
    assert_eq!(page, keys(&[4, 5, 6, 7], 1));
    notification::save_checkpoint(&mut publisher, run.id, round, 3, member(7), 4).await.unwrap();
    assert_eq!(fixture.observe(1).await.publication.unwrap().waiting, None);

    let early = notification::open_round(&fixture.operator, run.id, round).await;
    assert!(matches!(early, Err(NotificationError::Overtaken { .. })), "{early:?}");
    for _ in 0..2 {
        notification::close_round(&mut publisher, run.id, round).await.unwrap();
    }
    let logged = fixture
        .database
        .read_text("select format('%s %s %s', status, total, succeeded) from job_log where kind = 'PUBLISH'")
        .await;
    assert_eq!(logged, "SUCCEEDED 7 7");
    let late = notification::save_checkpoint(&mut publisher, run.id, round, 7, member(8), 1).await;
    assert!(matches!(late, Err(NotificationError::Overtaken { .. })), "{late:?}");

    // The next round publishes the targets that are still open.
    fixture.end(&run, &[1, 2, 4, 5, 6], Outcome::Sent).await;
    let next = notification::open_round(&fixture.operator, run.id, round).await.unwrap();
    assert_eq!(next, 2);
    assert_eq!(
        notification::read_open_targets(&mut publisher, &run, None, 10).await.unwrap(),
        keys(&[3, 7], 1)
    );
    assert_eq!(fixture.observe(1).await.published, 7);
    let stale = notification::open_round(&fixture.operator, run.id, 0).await;
    assert!(matches!(stale, Err(NotificationError::Overtaken { .. })), "{stale:?}");
}

#[tokio::test]
async fn a_publisher_learns_that_its_run_is_not_open() {
    let fixture = Fixture::with_bills(2).await;
    let run = fixture.ready(1).await;
    let round = notification::open_round(&fixture.operator, run.id, 0).await.unwrap();
    let mut publisher = fixture.worker().await;
    notification::update_settings(&fixture.operator, run.id, true, None).await.unwrap();
    let state = notification::save_checkpoint(&mut publisher, run.id, round, 0, member(1), 1).await.unwrap();
    assert_eq!(state, NotificationState::Suspended);
    let refused = notification::open_round(&fixture.operator, run.id, round).await;
    assert!(matches!(refused, Err(NotificationError::WrongState { .. })), "{refused:?}");
    notification::cancel_run(&fixture.operator, run.id, "deleted").await.unwrap();
    let gone = notification::record_waiting(&mut publisher, run.id, round, None).await;
    assert!(matches!(gone, Err(NotificationError::Overtaken { .. })), "{gone:?}");
    notification::close_round(&mut publisher, run.id, round).await.unwrap();
    assert_eq!(
        fixture.database.read_text("select status from job_log where kind = 'PUBLISH'").await,
        "CANCELLED"
    );
}

#[tokio::test]
async fn one_session_at_a_time_publishes_for_a_run() {
    let fixture = Fixture::with_bills(1).await;
    let run = fixture.ready(1).await;
    let mut first = fixture.database.connect().await;
    let mut second = fixture.database.connect().await;
    assert!(notification::try_lock_publisher(&mut first, run.id).await.unwrap());
    assert!(notification::try_lock_publisher(&mut first, run.id).await.unwrap());
    assert!(!notification::try_lock_publisher(&mut second, run.id).await.unwrap());
    drop(first);
    let mut tries = 0;
    while !notification::try_lock_publisher(&mut second, run.id).await.unwrap() {
        tries += 1;
        assert!(tries < 1000, "a session that ended keeps the lock");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
