//! Drafts that wait for somebody's word.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    data,
    installation::Installation,
    runs::{condition, status},
    suite::Suite,
};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_draft_is_issued_by_approving_its_digest_and_no_other", by_digest);
    suite.scenario("a_draft_over_its_limit_waits", over_its_limit);
    suite.scenario("a_draft_within_its_limit_does_not_wait", within_its_limit);
}

async fn live_bills(on: &Installation, month: &str) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from live_bill where month = $1")
        .bind(month)
        .fetch_one(&on.pool)
        .await?)
}

async fn by_digest(on: &Installation) -> Result<()> {
    let month = data::month(8);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("manual", &month, json!({"approvalPolicy": "Manual"})).await?;
    let run = on.reach("manual", "AwaitingApproval").await?;
    on.says("manual", "Approved", "False", "ManualApproval").await?;
    ensure!(live_bills(on, &month).await? == 0, "readers see bills that nobody approved");

    on.change_run("manual", json!({"approval": {"digest": "0".repeat(64), "by": "kim"}})).await?;
    on.says("manual", "Approved", "False", "DigestMismatch").await?;
    ensure!(live_bills(on, &month).await? == 0, "another digest was approved, and bills were issued");

    let digest = status(&run)["digest"].as_str().context("a draft without a digest")?;
    on.change_run("manual", json!({"approval": {"digest": digest, "by": "kim"}})).await?;
    on.succeeds_like("manual", &month, reference).await?;
    let by: Option<String> =
        sqlx::query_scalar("select decided_by from revision where month = $1 and state = 'LIVE'")
            .bind(&month)
            .fetch_one(&on.pool)
            .await?;
    ensure!(by.as_deref() == Some("kim"), "approved by kim, recorded as {by:?}");
    Ok(())
}

async fn over_its_limit(on: &Installation) -> Result<()> {
    let month = data::month(9);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("strict", &month, json!({"limits": {"maxQuarantined": 5}})).await?;
    let run = on.reach("strict", "AwaitingApproval").await?;
    let message = on.says("strict", "Approved", "False", "LimitExceeded").await?;
    let quarantined = status(&run)["counts"]["quarantined"].to_string();
    ensure!(message.contains(&quarantined) && message.contains('5'), "{quarantined} of 5: {message}");
    let digest = status(&run)["digest"].as_str().context("a draft without a digest")?;
    on.change_run("strict", json!({"approval": {"digest": digest, "by": "lee"}})).await?;
    on.succeeds_like("strict", &month, reference).await.map(drop)
}

async fn within_its_limit(on: &Installation) -> Result<()> {
    let month = data::month(10);
    on.apply_run("lenient", &month, json!({"limits": {"maxQuarantined": "1.5%"}})).await?;
    let run = on.reach("lenient", "Succeeded").await?;
    ensure!(
        condition(&run, "Approved").is_none_or(|approved| approved.0 == "True"),
        "nobody had to approve it"
    );
    Ok(())
}
