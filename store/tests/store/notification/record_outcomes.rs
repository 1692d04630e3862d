//! From the claim to the outcome: hand-overs, outcomes, expired leases.

use store::notification::{self, DeliveryOutcome, Outcome, Scope, Selection};

use super::fixture::{Fixture, keys, members, outcomes_of};

#[tokio::test]
async fn hand_overs_and_outcomes_are_recorded_in_one_call() {
    let fixture = Fixture::with_bills(4).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&run, &keys(&[1, 2, 3, 4], 1)).await;
    // One cannot be rendered, one has no address, and two are handed over, all in one call.
    let ends = [
        DeliveryOutcome {
            delivery: deliveries[0],
            outcome: Outcome::Failed,
            reason: Some("cannot be rendered".to_owned()),
        },
        DeliveryOutcome {
            delivery: deliveries[1],
            outcome: Outcome::Skipped,
            reason: Some("NO_ADDRESS".to_owned()),
        },
    ];
    let advanced = consumer.hand_over_and_record(&deliveries[2..], &ends).await;
    assert_eq!(
        (advanced.granted.as_slice(), advanced.recorded.as_slice()),
        (&deliveries[2..], &deliveries[..2])
    );
    assert!(advanced.refused.is_empty() && advanced.lost.is_empty());
    let ends =
        [outcomes_of(&deliveries[2..3], Outcome::Sent), outcomes_of(&deliveries[3..], Outcome::Unknown)]
            .concat();
    assert_eq!(consumer.hand_over_and_record(&[], &ends).await.recorded, deliveries[2..]);
    assert_eq!(
        fixture.outcomes(&run).await,
        "1 FAILED cannot be rendered, 2 SKIPPED NO_ADDRESS, 3 SENT, 4 UNKNOWN 550 no such user"
    );
    assert_eq!(fixture.deliveries().await, "1 FAILED 1, 2 SKIPPED 1, 3 SENT 1, 4 UNKNOWN 1");
    assert_eq!(
        fixture.database.read_text("select string_agg(status, ' ' order by member_id) from live_bill").await,
        "FAILED SKIPPED SENT UNKNOWN"
    );
}

#[tokio::test]
async fn a_call_that_is_repeated_after_a_lost_answer_returns_the_same() {
    let fixture = Fixture::with_bills(3).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&run, &keys(&[1, 2, 3], 1)).await;
    consumer.hand_over(&deliveries).await;
    consumer.hand_over(&deliveries).await;
    let sent = outcomes_of(&deliveries[..2], Outcome::Sent);
    let once = consumer.hand_over_and_record(&deliveries[2..], &sent).await;
    let twice = consumer.hand_over_and_record(&deliveries[2..], &sent).await;
    assert_eq!(once, twice);
    assert_eq!((once.recorded.len(), once.granted.len()), (2, 1));
    // Another outcome than the recorded one is rejected.
    let other = consumer.hand_over_and_record(&[], &outcomes_of(&deliveries[..1], Outcome::Failed)).await;
    assert_eq!(other.lost, deliveries[..1]);
    assert_eq!(fixture.outcomes(&run).await, "1 SENT, 2 SENT, 3");
}

#[tokio::test]
async fn nothing_is_handed_over_for_a_run_that_is_not_open() {
    let fixture = Fixture::with_bills(4).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&run, &keys(&[1, 2, 3], 1)).await;
    consumer.hand_over(&deliveries[..1]).await;
    notification::update_settings(&fixture.operator, run.id, true, None).await.unwrap();
    assert_eq!(consumer.hand_over_and_record(&deliveries[1..], &[]).await.refused, deliveries[1..]);
    assert_eq!(consumer.claims(&run, &keys(&[4], 1)).await.unavailable, keys(&[4], 1));
    // The outcome of an earlier hand-over is still recorded.
    assert_eq!(
        consumer.hand_over_and_record(&[], &outcomes_of(&deliveries[..1], Outcome::Sent)).await.recorded,
        deliveries[..1]
    );
    notification::update_settings(&fixture.operator, run.id, false, Some(7)).await.unwrap();
    assert_eq!(fixture.observe(1).await.facts.max_per_second, Some(7));
    consumer.hand_over(&deliveries[1..2]).await;

    // Cancelling releases claims at once and waits for hand-overs.
    assert_eq!(notification::cancel_run(&fixture.operator, run.id, "deleted").await.unwrap(), 1);
    assert_eq!(fixture.deliveries().await, "1 SENT 1, 2 HANDED_OVER 1, 3 PENDING 0");
    assert_eq!(consumer.hand_over_and_record(&deliveries[2..], &[]).await.refused, deliveries[2..]);
    assert!(!fixture.observe(1).await.logged);
    assert_eq!(
        consumer.hand_over_and_record(&[], &outcomes_of(&deliveries[1..2], Outcome::Sent)).await.recorded,
        deliveries[1..2]
    );
    assert_eq!(notification::cancel_run(&fixture.operator, run.id, "another reason").await.unwrap(), 0);
    let snapshot = fixture.observe(1).await;
    assert_eq!((snapshot.logged, snapshot.reason.as_deref(), snapshot.open), (true, Some("deleted"), 2));
}

#[tokio::test]
async fn a_delivery_whose_lease_has_expired_is_not_handed_over() {
    let fixture = Fixture::with_bills(2).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&run, &keys(&[1, 2], 1)).await;
    fixture.expire_leases().await;
    assert_eq!(consumer.hand_over_and_record(&deliveries, &[]).await.refused, deliveries);
    let mut other = fixture.consumer("b").await;
    let taken = other.claim(&run, &keys(&[1, 2], 1)).await;
    other.hand_over(&taken).await;
    // The former holder can record nothing any more.
    assert_eq!(
        consumer.hand_over_and_record(&[], &outcomes_of(&deliveries, Outcome::Failed)).await.lost,
        deliveries
    );
    assert!(
        notification::release_claims(&mut consumer.connection, consumer.id, &deliveries)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(other.hand_over_and_record(&[], &outcomes_of(&taken, Outcome::Sent)).await.recorded, taken);
}

#[tokio::test]
async fn a_hand_over_without_an_outcome_becomes_unknown_and_stays_unknown() {
    let fixture = Fixture::with_bills(4).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("dies").await;
    let deliveries = consumer.claim(&run, &keys(&[1, 2, 3], 1)).await;
    consumer.hand_over(&deliveries[..2]).await;
    assert_eq!(fixture.end_expired_leases().await, (0, 0));
    fixture.expire_leases().await;
    assert_eq!(fixture.end_expired_leases().await, (2, 1));
    assert_eq!(fixture.end_expired_leases().await, (0, 0));
    assert_eq!(fixture.deliveries().await, "1 UNKNOWN 1, 2 UNKNOWN 1, 3 PENDING 0");
    assert_eq!(fixture.outcomes(&run).await, "1 UNKNOWN OUTCOME_UNKNOWN, 2 UNKNOWN OUTCOME_UNKNOWN, 3, 4");
    // The outcome comes too late: only a recovery run sends again.
    assert_eq!(
        consumer.hand_over_and_record(&[], &outcomes_of(&deliveries, Outcome::Sent)).await.lost,
        deliveries
    );
    assert_eq!(fixture.deliveries().await, "1 UNKNOWN 1, 2 UNKNOWN 1, 3 PENDING 0");
    let recovery = fixture.run(2, Selection::Unknown, &Scope::Everyone).await;
    let again = consumer.claim(&recovery, &keys(&[1, 2, 3, 4], 1)).await;
    assert_eq!(members(&again), [1, 2]);
    consumer.deliver(&again, Outcome::Sent).await;
    assert_eq!(fixture.deliveries().await, "1 SENT 2, 2 SENT 2, 3 PENDING 0");
}

#[tokio::test]
async fn a_delivery_that_is_not_handed_over_cannot_be_sent_or_unknown() {
    let fixture = Fixture::with_bills(2).await;
    let run = fixture.ready(1).await;
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&run, &keys(&[1, 2], 1)).await;
    for outcome in [Outcome::Sent, Outcome::Unknown] {
        assert_eq!(
            consumer.hand_over_and_record(&[], &outcomes_of(&deliveries, outcome)).await.lost,
            deliveries
        );
    }
    assert_eq!(fixture.deliveries().await, "1 CLAIMED 1, 2 CLAIMED 1");
}

#[tokio::test]
async fn nothing_is_handed_over_after_a_run_is_cancelled() {
    let fixture = Fixture::with_bills(300).await;
    let run = fixture.ready(1).await;
    let everyone: Vec<i64> = (1..=300).collect();
    let mut consumer = fixture.consumer("a").await;
    let deliveries = consumer.claim(&run, &keys(&everyone, 1)).await;
    let sending = tokio::spawn(async move {
        let mut granted = 0;
        for deliveries in deliveries.chunks(5) {
            granted += consumer.hand_over_and_record(deliveries, &[]).await.granted.len();
        }
        i64::try_from(granted).unwrap()
    });
    tokio::task::yield_now().await;
    let handed_over = notification::cancel_run(&fixture.operator, run.id, "deleted").await.unwrap();
    assert_eq!(sending.await.unwrap(), handed_over, "cancelling counts every hand-over");
}
