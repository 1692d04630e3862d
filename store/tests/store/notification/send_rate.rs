//! The rate of a run, over all consumers together.

use std::time::Duration;

use store::notification::{self, SendSlots};

use super::fixture::Fixture;

#[tokio::test]
async fn each_slot_is_reserved_once() {
    let fixture = Fixture::with_bills(1).await;
    let run = fixture.ready(1).await;
    let mut free = fixture.worker().await;
    let unlimited = SendSlots { first_in: Duration::ZERO, interval: Duration::ZERO };
    assert_eq!(notification::reserve_send_slots(&mut free, run.id, 5).await.unwrap(), unlimited);

    notification::update_settings(&fixture.operator, run.id, false, Some(20)).await.unwrap();
    let start: i64 = now(&fixture).await;
    let mut tasks = Vec::new();
    for slots in [1_u32, 3, 2, 4] {
        let mut connection = fixture.worker().await;
        let pool = fixture.database.pool.clone();
        tasks.push(tokio::spawn(async move {
            let mut due = Vec::new();
            for _ in 0..25 {
                let taken = notification::reserve_send_slots(&mut connection, run.id, slots).await.unwrap();
                assert_eq!(taken.interval, Duration::from_millis(50));
                let now = clock(&pool).await;
                due.extend((0..slots).map(|slot| {
                    now + i64::try_from((taken.first_in + taken.interval * slot).as_millis()).unwrap()
                }));
            }
            due
        }));
    }
    let mut due = Vec::new();
    for task in tasks {
        due.extend(task.await.unwrap());
    }
    due.sort_unstable();
    assert_eq!(due.len(), 250);
    // The n-th slot is n intervals after the first, within the time that reading the clock takes.
    for (index, due) in due.iter().enumerate() {
        let exact = start + i64::try_from(index).unwrap() * 50;
        assert!((exact - 5..exact + 400).contains(due), "slot {index}: {} ms off", due - exact);
    }
    let paced = fixture
        .database
        .read_text("select round(extract(epoch from paced_until - clock_timestamp()) * 20) from notification")
        .await
        .parse::<f64>()
        .unwrap();
    assert!((225.0..=250.0).contains(&paced), "250 slots are reserved, and {paced} are in the future");
}

async fn now(fixture: &Fixture) -> i64 {
    clock(&fixture.database.pool).await
}

async fn clock(pool: &sqlx::PgPool) -> i64 {
    sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
        .fetch_one(pool)
        .await
        .unwrap()
}
