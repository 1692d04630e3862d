//! Some members of a month are billed again: the worker reads and writes those only.

use domain::ids::MemberId;
use store::billing::Scope;
use store::testing::sample_month::EVERYTHING;

use super::Fixture;

/// Another fee for the plan of members 1, 10, 34, 1000000 and the last one.
fn cheaper(fixture: &Fixture) -> String {
    fixture.price_book.replace("baseFee: 33000", "baseFee: 30000")
}

async fn written(fixture: &Fixture, revision: i32) -> String {
    let written = format!(
        "select string_agg(member_id::text, ' ' order by member_id) from outcome where revision = {revision}"
    );
    fixture.database.read_text(&written).await
}

#[tokio::test]
async fn the_worker_bills_the_members_of_the_scope_only() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.bill().await;
    let members =
        |ids: &[i64]| Scope::Members(ids.iter().map(|id| MemberId::try_from(*id).unwrap()).collect());
    let range = |from: i64, to: i64| Scope::Range {
        from: MemberId::try_from(from).unwrap(),
        to: MemberId::try_from(to).unwrap(),
    };
    // The scope, the members with an outcome in it, the usage rows that are counted, and what is written.
    let table = [
        (members(&[1, 2, i64::MAX]), 3, 6, "1 9223372036854775807"),
        // 34 is in quarantine as before, 77 is not known.
        (members(&[10, 34, 77, 1_000_000]), 3, 5, "10 1000000"),
        (range(1, 9), 9, 6, "1"),
        (range(1_000_000, i64::MAX), 2, 1, "1000000 9223372036854775807"),
        (range(41, 76), 0, 0, ""),
        (Scope::Quarantined, 4, 3, ""),
        (Scope::Late, 0, 0, ""),
    ];
    let book = cheaper(&fixture);
    for (n, (scope, members, usage, outcomes)) in (0..).zip(table) {
        let key = fixture.rebill_scope(10 + n, 1, &book, &scope, None).await.key;
        fixture.work_all(&key).await;
        assert_eq!(written(&fixture, key.revision.get()).await, outcomes, "{scope:?}");
        let verification = fixture.verify(&key).await;
        assert!(verification.passed(), "{scope:?}: {:?}", verification.checks);
        let snapshot = fixture.observe(&key).await;
        let counts = snapshot.counts;
        assert_eq!((snapshot.members, snapshot.members_done()), (members, members), "{scope:?}");
        assert_eq!(
            counts.rated_usage + counts.unbillable_usage + counts.quarantined_usage,
            usage,
            "{scope:?}: {counts:?}"
        );
        store::billing::reject_revision(
            &fixture.operator,
            &key,
            "deleted",
            store::billing::EndStatus::Cancelled,
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn what_is_not_charged_is_counted_for_the_members_of_the_scope_only() {
    let fixture = Fixture::new().await;
    fixture.load(1, EVERYTHING).await;
    fixture.bill().await;
    // 77 has usage and is not known; nor is the one below the last.
    for (uid, ids, usage_rows) in [(10, &[1_i64, 77][..], 1), (11, &[1, 2], 0), (12, &[77, i64::MAX - 1], 2)]
    {
        let scope = Scope::Members(ids.iter().map(|id| MemberId::try_from(*id).unwrap()).collect());
        let key = fixture.rebill_scope(uid, 1, &fixture.price_book, &scope, None).await.key;
        fixture.work_all(&key).await;
        let snapshot = fixture.observe(&key).await;
        assert_eq!(snapshot.not_charged.usage_rows, usage_rows, "{ids:?}");
        store::billing::reject_revision(
            &fixture.operator,
            &key,
            "deleted",
            store::billing::EndStatus::Cancelled,
        )
        .await
        .unwrap();
    }
}
