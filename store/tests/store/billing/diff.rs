//! What a re-billing changes, as readers see it before it is issued: the views, and the summary.

use domain::change_cause::ChangeCause;
use store::billing::{self, CauseShare, Diff, EndStatus};
use store::testing::BillingFixture;

use super::{corrected_month, rebill};

/// The columns of a view for revision 2.
async fn rows(fixture: &BillingFixture, columns: &str, view: &str, order: &str) -> String {
    fixture
        .database
        .read_text(&format!(
            "select string_agg(concat_ws(' ', {columns}), ', ' order by {order}) from {view} where month = '2026-10' and revision = 2"
        ))
        .await
}

#[tokio::test]
async fn a_draft_shows_each_change_and_its_verification_sums_them() {
    let fixture = corrected_month().await;
    let key = rebill(&fixture, 2, 1).await;
    let columns = "state, of_revision, member_id, change, before_outcome, before_total, after_outcome, after_total, delta, cause";
    assert_eq!(
        rows(&fixture, columns, "bill_diff", "member_id").await,
        "DRAFT 1 3 CHANGED BILLED 88000 BILLED 87500 -500 PLAN, DRAFT 1 4 CHANGED BILLED 89000 QUARANTINED -89000 QUARANTINE, \
         DRAFT 1 5 REMOVED BILLED 89000 NONE -89000 PLAN"
    );
    for role in ["monthend_operator", "monthend_worker"] {
        let mut reader = fixture.database.connect_as(role).await;
        for view in ["bill_diff", "bill_diff_histogram", "bill_diff_movers"] {
            let read = sqlx::query(sqlx::AssertSqlSafe(format!("select from {view}"))).fetch_all(&mut reader);
            assert!(!read.await.unwrap().is_empty(), "{role}: {view}");
        }
    }
    assert_eq!(fixture.observe(&key).await.diff, None);

    let verification = fixture.verify(&key).await;
    assert!(verification.passed(), "{:?}", verification.checks);
    let check = verification.checks.iter().find(|check| check.check == "diff").unwrap();
    assert_eq!(
        check.detail,
        "3 changes of -178500 for 3 outcomes; the total is 910840, and 732340 once the revision is issued"
    );
    let expected = Diff {
        changed: 2,
        // 16 members were billed or in quarantine, and 3 have another outcome.
        unchanged: 13,
        added: 0,
        removed: 1,
        increase: 0,
        decrease: -178_500,
        causes: vec![
            CauseShare { cause: ChangeCause::Plan, members: 2, delta: -89_500 },
            CauseShare { cause: ChangeCause::Quarantine, members: 1, delta: -89_000 },
        ],
    };
    assert_eq!(fixture.observe(&key).await.diff.as_ref(), Some(&expected));
    fixture.issue(&key).await;
    assert_eq!(fixture.observe(&key).await.diff, Some(expected));
    assert_eq!(rows(&fixture, "state", "bill_diff", "member_id").await, "LIVE, LIVE, LIVE");
}

#[tokio::test]
async fn a_first_billing_has_no_diff_and_a_rejected_one_keeps_it() {
    let fixture = corrected_month().await;
    assert_eq!(fixture.database.read_text("select count(*) from bill_diff").await, "0");
    assert_eq!(fixture.database.read_text("select diff is null from revision").await, "true");
    let key = rebill(&fixture, 2, 1).await;
    fixture.verify(&key).await;
    billing::reject_revision(&fixture.operator, &key, "deleted", EndStatus::Cancelled).await.unwrap();
    assert!(fixture.observe(&key).await.diff.is_some());
    assert_eq!(
        fixture.database.read_text("select string_agg(distinct state, ' ') from bill_diff").await,
        "REJECTED"
    );
}

#[tokio::test]
async fn the_histogram_has_a_class_for_each_power_of_ten() {
    let fixture = corrected_month().await;
    rebill(&fixture, 2, 1).await;
    fixture
        .database
        .execute(
            "delete from bill_change;
             insert into bill_change
             select 100 + row_number() over (), 0, total, 2, 'BILLED', 'BILLED', 'PLAN', '2026-10'
             from unnest(array[0, 0, 1, 9, 10, 99, 100, -1, -9, -10, -99, 12345]::bigint[]) total;
             insert into bill_change values
                 (1, null, 5, 2, 'NONE', 'BILLED', 'PLAN', '2026-10'),
                 (2, 5, null, 2, 'BILLED', 'NONE', 'PLAN', '2026-10'),
                 (3, 9223372036854775807, -9223372036854775808, 2, 'BILLED', 'BILLED', 'PLAN', '2026-10')",
        )
        .await;
    assert_eq!(
        rows(&fixture, "from_delta, to_delta, members, delta", "bill_diff_histogram", "from_delta").await,
        "-99999999999999999999 -10000000000000000000 1 -18446744073709551615, -99 -10 2 -109, -9 -1 3 -15, 0 0 2 0, 1 9 3 15, \
         10 99 2 109, 100 999 1 100, 10000 99999 1 12345"
    );
}

#[tokio::test]
async fn the_movers_are_the_ten_members_whose_totals_change_most() {
    let fixture = corrected_month().await;
    rebill(&fixture, 2, 1).await;
    fixture
        .database
        .execute(
            "delete from bill_change;
             -- 20 members with 0, -1, 2, -3 and so on, and one of another revision.
             insert into bill_change
             select 100 + id, 1000, 1000 + case when id % 2 = 0 then id else -id end, 2, 'BILLED', 'BILLED', 'PLAN', '2026-10'
             from generate_series(0, 19) id;
             insert into bill_change values (1, 1, 1000, 1, 'BILLED', 'BILLED', 'PLAN', '2026-10'),
                 (2, 19, null, 2, 'BILLED', 'NONE', 'PLAN', '2026-10')",
        )
        .await;
    assert_eq!(
        rows(&fixture, "place, member_id, delta", "bill_diff_movers", "place").await,
        "1 2 -19, 2 119 -19, 3 118 18, 4 117 -17, 5 116 16, 6 115 -15, 7 114 14, 8 113 -13, 9 112 12, 10 111 -11"
    );
    fixture.database.execute("delete from bill_change where member_id <> 100").await;
    assert_eq!(fixture.database.read_text("select count(*) from bill_diff_movers").await, "0");
}
