//! Totals at the limits: amounts beyond 64 bits, a month without eligible members, and one that was
//! rolled back.

use store::billing::{self, RevisionState};
use store::testing::BillingFixture;
use store::testing::sample_month::EVERYTHING;

use super::{bill_month, bill_shards};

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

#[tokio::test]
async fn the_totals_follow_the_live_revision_after_a_rollback() {
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    bill_month(&fixture).await;
    let totals = async || {
        let totals = billing::read_totals(&fixture.operator).await.unwrap();
        assert_eq!(totals.len(), 1);
        let of_month = &totals[0];
        (
            of_month.state,
            of_month.members,
            of_month.counts.billed,
            of_month.counts.rated_usage,
            of_month.total,
        )
    };
    let live = totals().await;
    assert_eq!((live.0, live.1, live.2), (RevisionState::Live, 16, 12));

    // A revision over the first one.
    fixture.database.issue_bills(2, "values (3)").await;
    let one_chunk =
        "insert into chunk (month, revision, chunk_no, shard, from_member, to_member, members, state, billed,
                                        total_amount)
                     values ('2026-10', 2, 1, 0, 1, 9223372036854775807, 1, 'DONE', 1, 178000)";
    fixture.database.execute(one_chunk).await;
    let over = totals().await;
    assert_eq!((over.0, over.2, over.4), (RevisionState::Live, 1, 178_000));
    fixture.roll_back(7, 2).await;
    assert_eq!(totals().await, live);
    fixture.roll_back(8, 1).await;
    assert_eq!(totals().await, (RevisionState::RolledBack, 0, 0, 0, 0));

    let again = fixture.begin(2).await.key;
    let draft = totals().await;
    assert_eq!((draft.0, draft.1, draft.2), (RevisionState::Draft, 16, 0));
    billing::reject_revision(&fixture.operator, &again, "deleted", billing::EndStatus::Cancelled)
        .await
        .unwrap();
    assert_eq!(totals().await.0, RevisionState::Rejected);
}
