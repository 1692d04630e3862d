//! What an earlier run of the same name has done, as the operator looks for it; and who holds the
//! locks that sessions wait for.

use domain::month::BillingMonth;
use store::billing::{self, EarlierRun, Effect, EndStatus, Uuid, find_earlier_run};
use store::lock_waits::read_lock_waits;
use store::testing::BillingFixture;
use store::testing::sample_month::EVERYTHING;

use super::bill_month;

async fn earlier(fixture: &BillingFixture, run: &str, uid: u128, month: &str) -> Option<EarlierRun> {
    let month: BillingMonth = month.parse().unwrap();
    find_earlier_run(&fixture.operator, run, Uuid::from_u128(uid), month).await.unwrap()
}

#[tokio::test]
async fn only_a_run_that_had_its_effect_uses_its_name_up() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    // A draft that is rejected has no effect.
    let draft = fixture.begin(4).await;
    assert_eq!(earlier(&fixture, "test/run", 5, "2026-10").await, None);
    billing::reject_revision(&fixture.operator, &draft.key, "Deleted: x", EndStatus::Cancelled)
        .await
        .unwrap();
    assert_eq!(earlier(&fixture, "test/run", 5, "2026-10").await, None);

    bill_month(&fixture).await;
    let issued = earlier(&fixture, "test/run", 99, "2026-10").await.unwrap();
    assert_eq!((issued.revision.get(), issued.effect), (2, Effect::Issued));
    let issued_at =
        fixture.database.read_text("select issued_at::text from revision where state = 'LIVE'").await;
    assert_eq!(issued.at, issued_at.parse().unwrap());
    // Another name, another month, and the run itself.
    assert_eq!(earlier(&fixture, "test/other", 99, "2026-10").await, None);
    assert_eq!(earlier(&fixture, "test/run", 99, "2026-11").await, None);
    let own = fixture.database.read_text("select run_uid::text from revision where state = 'LIVE'").await;
    let own = Uuid::parse_str(&own).unwrap().as_u128();
    assert_eq!(earlier(&fixture, "test/run", own, "2026-10").await, None);

    fixture.roll_back(7, 2).await;
    let rolled_back = earlier(&fixture, "test/run", 99, "2026-10").await.unwrap();
    assert_eq!((rolled_back.revision.get(), rolled_back.effect), (2, Effect::IssuedAndRolledBack));
    let rollback = earlier(&fixture, "test/rollback", 99, "2026-10").await.unwrap();
    assert_eq!((rollback.revision.get(), rollback.effect), (2, Effect::RolledBack));
    assert_eq!(earlier(&fixture, "test/rollback", 7, "2026-10").await, None);
}

#[tokio::test]
async fn the_session_that_others_wait_for_is_named() {
    let fixture = BillingFixture::new().await;
    let mut holder = fixture.database.pool.acquire().await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *holder).await.unwrap();
    sqlx::query("begin").execute(&mut *holder).await.unwrap();
    sqlx::query("lock table bill in share mode").execute(&mut *holder).await.unwrap();
    let waiter = tokio::spawn({
        let pool = fixture.database.pool.clone();
        async move {
            let mut tx = pool.begin().await.unwrap();
            sqlx::query("lock table bill in row exclusive mode").execute(&mut *tx).await.unwrap();
        }
    });
    // Other tests use the same server, so that other sessions may wait too.
    let named = |waits: &Option<String>| waits.as_ref().is_some_and(|waits| waits.contains(&pid.to_string()));
    let limit = tokio::time::Duration::from_secs(20);
    let found = tokio::time::timeout(limit, async {
        loop {
            let waits = read_lock_waits(&fixture.operator).await.unwrap();
            if named(&waits) {
                break waits.unwrap();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the wait is seen");
    assert!(found.contains("wait for locks of session"), "{found}");
    sqlx::query("rollback").execute(&mut *holder).await.unwrap();
    waiter.await.unwrap();
    assert!(!named(&read_lock_waits(&fixture.operator).await.unwrap()));
}
