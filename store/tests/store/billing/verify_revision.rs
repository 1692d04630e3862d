//! Verification finds each planted violation by the check that is responsible for it.

use store::testing::BillingFixture;
use store::testing::sample_month::EVERYTHING;

use super::bill_shards;

#[tokio::test]
async fn each_check_finds_its_violation() {
    let cases = [
        ("members", "update revision set members = members + 1"),
        ("bills", "update bill set total_amount = total_amount + 1 where member_id = 4"),
        ("bills", "delete from bill where member_id = 4"),
        (
            "bills",
            "insert into quarantined_member select month, member_id, revision, 'X', 'x' from bill where member_id = 4",
        ),
        ("items", "update bill_item set amount = amount + 1 where member_id = 4"),
        ("items", "delete from bill_item where member_id = 10 and line_no = 2"),
        // The sums agree; only the bills do not.
        (
            "items",
            "update bill_item set amount = amount + case member_id when 4 then 1 else -1 end where member_id in (4, 5)",
        ),
        ("usage", "update chunk set rated_usage = rated_usage + 1 where chunk_no = 1"),
        (
            "usage",
            "insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id)
                   values (1, '2026-10-12T00:00:00+09:00', 1, 1, 'sms', '2026-10', 'default', 'planted')",
        ),
        // The chunks have the same rows.
        ("loads", "update usage set quantity = quantity + 1 where usage_id = 'a'"),
        ("loads", "update usage set kind = 'sms' where usage_id = 'a'"),
        ("loads", "update adjustment set amount = amount - 1 where adjustment_id = 1"),
        ("loads", "delete from adjustment where adjustment_id = 1"),
        ("loads", "delete from usage where usage_id = 'not eligible'"),
        ("chunks", "update chunk set to_member = to_member - 1 where chunk_no = 4"),
        ("chunks", "update chunk set to_member = to_member + 1 where chunk_no = 4"),
        (
            "chunks",
            "update chunk set to_member = to_member - 1, from_member = from_member - 1 where chunk_no = 6",
        ),
    ];
    let fixture = BillingFixture::new().await;
    fixture.load(1, EVERYTHING).await;
    let key = fixture.begin(1).await.key;
    bill_shards(&fixture, &key).await;
    assert!(fixture.verify(&key).await.passed());
    for (check, planted) in cases {
        // Copies of all tables, from which they are restored.
        let tables = ["revision", "bill", "bill_item", "quarantined_member", "usage", "adjustment", "chunk"];
        for table in tables {
            fixture.database.execute(&format!("create table kept_{table} as table {table}")).await;
        }
        fixture.database.execute(planted).await;
        let verification = fixture.verify(&key).await;
        let failed: Vec<_> =
            verification.checks.iter().filter(|c| !c.passed).map(|c| c.check.as_str()).collect();
        assert!(failed.contains(&check), "{planted}: {failed:?}");
        let issued =
            store::billing::issue_revision(&fixture.operator, &key, None).await.unwrap_err().to_string();
        assert!(issued.contains(&format!("check `{check}` failed")), "{planted}: {issued}");
        fixture
            .database
            .execute("alter table chunk drop constraint if exists chunk_month_revision_fkey")
            .await;
        for table in tables {
            fixture.database.execute(&format!("delete from {table}; insert into {table} select * from kept_{table}; drop table kept_{table}")).await;
        }
    }
    assert!(fixture.verify(&key).await.passed());

    fixture.database.execute("update usage set quantity = quantity + 1 where usage_id = 'd'").await;
    let verification = fixture.verify(&key).await;
    let failed: Vec<_> = verification.checks.iter().filter(|check| !check.passed).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(
        failed[0].detail,
        "load 1, usage of kind sms: 5 rows over 45 in the table, 5 over 44 when it finished"
    );
}
