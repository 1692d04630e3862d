//! Totals at the limits: amounts beyond 64 bits, and a month without eligible members.

use store::testing::BillingFixture;

use super::bill_shards;

#[tokio::test]
async fn the_totals_of_a_month_can_exceed_64_bits() {
    let fixture = BillingFixture::new().await;
    fixture
        .load(
            1,
            r"insert into member (member_id, load, name) select id, 1, '\x00' from generate_series(1, 8) id;
              insert into subscription (member_id, plan_code, from_date, load)
                  select id, 'UNLIMITED-89', '2026-01-01', 1 from generate_series(1, 8) id;
              insert into adjustment select id, id, '2026-10', 'HUGE', 9000000000000000000, 'huge', 1 from generate_series(1, 8) id",
        )
        .await;
    let started = fixture.begin(1).await;
    bill_shards(&fixture, &started.key).await;
    fixture.issue(&started.key).await;
    let snapshot = fixture.observe(&started.key).await;
    assert_eq!(snapshot.amounts.adjustment, 72_000_000_000_000_000_000);
    assert_eq!(snapshot.amounts.total, 72_000_000_000_000_712_000);
    let totals = store::billing::read_totals(&fixture.operator).await.unwrap();
    assert_eq!(totals.len(), 1);
    assert_eq!((totals[0].total, totals[0].counts.billed), (72_000_000_000_000_712_000, 8));
}

#[tokio::test]
async fn a_month_without_eligible_members_has_one_empty_chunk() {
    let fixture = BillingFixture::new().await;
    fixture
        .load(
            1,
            "insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id) values
                     (5, '2026-10-12T00:00:00+09:00', 1, 1, 'sms', '2026-10', 'default', 'a')",
        )
        .await;
    let started = fixture.begin(1).await;
    assert_eq!((started.members, started.chunks), (0, 1));
    bill_shards(&fixture, &started.key).await;
    let verification = fixture.verify(&started.key).await;
    assert!(verification.passed(), "{:?}", verification.checks);
    assert_eq!(fixture.observe(&started.key).await.counts.unbillable_usage, 1);
}
