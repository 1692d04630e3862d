//! Many bills.

use store::notification::{self, Outcome};

use super::fixture::{Fixture, keys, outcomes_of};

#[tokio::test]
async fn deliveries_stay_on_their_page() {
    let fixture = Fixture::with_bills(3000).await;
    let run = fixture.ready(1).await;
    let everyone: Vec<i64> = (1..=3000).collect();
    let mut consumer = fixture.consumer("a").await;
    for batch in everyone.chunks(500) {
        let deliveries = consumer.claim(&run, &keys(batch, 1)).await;
        assert_eq!(deliveries.len(), batch.len());
        for group in deliveries.chunks(50) {
            consumer.hand_over(group).await;
            consumer.hand_over_and_record(&[], &outcomes_of(group, Outcome::Sent)).await;
        }
    }
    drop(consumer);
    fixture.worker.close().await;
    // What the sessions counted is known a moment after they are gone.
    let mut looks = 0;
    let (updates, moved) = loop {
        let counted = fixture
            .database
            .read_text(
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
    // None of them does when nobody else is at work on the server, as none of the indexes has a column that changes; with one
    // that had, all would. Former versions that others may still see fill some pages.
    assert!(moved * 2 < updates, "{moved} of {updates} updates left their page");
    assert!(notification::finish_run(&fixture.operator, run.id).await.unwrap());
    assert_eq!(fixture.observe(1).await.counts.sent, 3000);
}

#[tokio::test]
async fn the_planner_knows_a_month_before_its_first_notice() {
    let fixture = Fixture::with_bills(1).await;
    fixture.ready(1).await;
    assert_eq!(fixture.database.read_text("select count(*) from delivery").await, "0");
    // Otherwise it expects one row where there may be a million, and compares each bill with each delivery.
    let known = fixture
        .database
        .read_text(
            "select string_agg(format('%s %s', attname, n_distinct), ', ' order by attname) from pg_stats
             where tablename = 'delivery_2026_10' and attname in ('channel', 'month')",
        )
        .await;
    assert_eq!(known, "channel 1, month 1");
    let expected =
        fixture.database.read_text("select reltuples from pg_class where relname = 'delivery_2026_10'").await;
    assert_eq!(expected, "-1", "its size is unknown, not nothing");
}
