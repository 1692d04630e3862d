//! Registration and heartbeats of consumers.

use store::notification;

use super::fixture::Fixture;

#[tokio::test]
async fn a_heartbeat_says_what_keeps_a_consumer_from_sending() {
    let fixture = Fixture::with_bills(1).await;
    fixture.ready(1).await;
    let mut one = fixture.consumer("one").await;
    let two = fixture.consumer("two").await;
    notification::record_heartbeat(&mut one.connection, one.id, Some("cannot connect")).await.unwrap();
    let since = fixture.observe(1).await.consumers[0].trouble_since;
    assert!(since.is_some());
    notification::record_heartbeat(&mut one.connection, one.id, Some("login refused")).await.unwrap();
    let seen = fixture.observe(1).await.consumers;
    assert_eq!(
        (seen.len(), seen[0].trouble.as_deref(), seen[0].trouble_since),
        (2, Some("login refused"), since)
    );
    notification::record_heartbeat(&mut one.connection, one.id, None).await.unwrap();
    let seen = fixture.observe(1).await.consumers;
    assert_eq!((seen[0].trouble.clone(), seen[0].trouble_since), (None, None));

    fixture
        .database
        .execute(&format!(
            "update consumer set seen_at = now() - interval '31 seconds' where id = {}",
            two.id.0
        ))
        .await;
    assert_eq!(fixture.observe(1).await.consumers.len(), 1);
    notification::deregister_consumer(&mut one.connection, one.id).await.unwrap();
    assert!(fixture.observe(1).await.consumers.is_empty());
    assert!(notification::record_heartbeat(&mut one.connection, one.id, None).await.is_err());
    fixture.database.execute("update consumer set seen_at = now() - interval '2 days'").await;
    assert_eq!(notification::delete_stale_consumers(&fixture.operator).await.unwrap(), 1);
}
