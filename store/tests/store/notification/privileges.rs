//! What the roles of operator and worker may not do.

use super::fixture::Fixture;

#[tokio::test]
async fn the_operator_cannot_read_personal_data_and_the_worker_cannot_change_runs() {
    let fixture = Fixture::with_bills(1).await;
    let run = fixture.ready(1).await;
    for statement in [
        "select name from member",
        "select email from member",
        "insert into delivery (member_id, revision, attempt, notification, state, month) values (1, 1, 1, 1, 'PENDING', '2026-10')",
        "insert into notice_target (member_id, revision, after_attempt, notification, month) values (1, 1, 1, 1, '2026-10')",
        "delete from delivery",
        "delete from notice_target",
        "delete from high_water_mark",
        "select record_sent('2026-10', '{}')",
    ] {
        let refused = sqlx::query(statement).execute(&fixture.operator).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
    for statement in [
        "update notification set state = 'OPEN'",
        "delete from delivery",
        "delete from notice_target",
        "update notice_target set after_attempt = 7",
        "update bill set total_amount = 0",
        "update high_water_mark set mark = now()",
        "select record_sent('2026-10', '{}')",
    ] {
        let refused = sqlx::query(statement).execute(&fixture.worker).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
    assert_eq!(run.targets, 1);
}
