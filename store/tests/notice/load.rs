//! Many bills.

use store::notice::{self, Outcome};

use crate::fixture::{Fixture, ended, keys};

#[tokio::test]
async fn deliveries_stay_on_their_page() {
    let fixture = Fixture::with_bills(3000).await;
    let run = fixture.ready(1).await;
    let everyone: Vec<i64> = (1..=3000).collect();
    let mut consumer = fixture.consumer("a").await;
    for batch in everyone.chunks(500) {
        let hands = consumer.claim(&run, &keys(batch, 1)).await;
        assert_eq!(hands.len(), batch.len());
        for group in hands.chunks(50) {
            consumer.hand_over(group).await;
            consumer.advance(&[], &ended(group, Outcome::Sent)).await;
        }
    }
    drop(consumer);
    fixture.worker.close().await;
    // What the sessions counted is known a moment after they are gone.
    let mut looks = 0;
    let (updates, moved) = loop {
        let counted = fixture
            .one(
                "select format('%s %s', n_tup_upd, n_tup_upd - n_tup_hot_upd) from pg_stat_user_tables
                 where relname = 'delivery_2026_10'",
            )
            .await;
        let (updates, moved) = counted.split_once(' ').expect("two numbers");
        let (updates, moved): (i64, i64) = (updates.parse().unwrap(), moved.parse().unwrap());
        if updates == 6000 {
            break (updates, moved);
        }
        looks += 1;
        assert!(looks < 1000, "{updates} updates were counted");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    // All of them when nobody else looks; whoever does keeps former versions alive, and some pages become full.
    assert!(moved * 4 < updates, "{moved} of {updates} updates left their page");
    assert!(notice::finish(&fixture.operator, run.id).await.unwrap());
    assert_eq!(fixture.look(1).await.counts.sent, 3000);
}
