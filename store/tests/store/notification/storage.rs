//! How PostgreSQL stores and plans the deliveries of a month.

use store::notification::{self, Outcome};

use super::fixture::{Fixture, keys, outcomes_of};

#[tokio::test]
async fn updates_of_deliveries_stay_on_their_page() {
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
    // The sessions report their statistics shortly after they end.
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
    // No index contains a column that changes, so the new version of a row fits on its page, unless old
    // versions that other sessions may still see fill it. With an index on such a column every
    // update would leave its page.
    assert!(moved * 2 < updates, "{moved} of {updates} updates left their page");
    assert!(notification::finish_run(&fixture.operator, run.id).await.unwrap());
    assert_eq!(fixture.observe(1).await.counts.sent, 3000);
}

#[tokio::test]
async fn the_planner_has_statistics_of_a_month_before_its_first_delivery() {
    let fixture = Fixture::with_bills(1).await;
    fixture.ready(1).await;
    assert_eq!(fixture.database.read_text("select count(*) from delivery").await, "0");
    // Without statistics the planner would expect one row instead of a million, and compare each bill
    // with each delivery.
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
    assert_eq!(expected, "-1", "its size is unknown, not zero");
}
