//! Drafts that wait for approval.

use anyhow::{Context as _, Result, ensure};
use e2e::data;
use e2e::installation::Installation;
use e2e::runs::{condition, status};
use e2e::suite::Suite;
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_draft_is_issued_only_when_its_own_digest_is_approved", by_digest);
    suite.scenario("a_draft_over_its_limit_waits_for_approval", over_its_limit);
    suite.scenario("a_draft_within_its_limit_is_issued_without_approval", within_its_limit);
    suite.scenario("a_draft_that_bills_nobody_waits_for_approval", bills_nobody);
}

async fn live_bills(installation: &Installation, month: &str) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from live_bill where month = $1")
        .bind(month)
        .fetch_one(&installation.pool)
        .await?)
}

async fn by_digest(installation: &Installation) -> Result<()> {
    let month = data::month(8);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("manual", &month, json!({"approvalPolicy": "Manual"})).await?;
    let run = installation.wait_for_phase("manual", "AwaitingApproval").await?;
    installation.wait_for_condition("manual", "Approved", "False", "ManualApproval").await?;
    ensure!(live_bills(installation, &month).await? == 0, "live_bill shows bills that are not approved");

    installation.change_run("manual", json!({"approval": {"digest": "0".repeat(64), "by": "kim"}})).await?;
    installation.wait_for_condition("manual", "Approved", "False", "DigestMismatch").await?;
    ensure!(
        live_bills(installation, &month).await? == 0,
        "bills were issued after another digest was approved"
    );

    let digest = status(&run)["digest"].as_str().context("a draft without a digest")?;
    installation.change_run("manual", json!({"approval": {"digest": digest, "by": "kim"}})).await?;
    installation.succeeds_with_bills_of("manual", &month, reference).await?;
    let by: Option<String> =
        sqlx::query_scalar("select decided_by from revision where month = $1 and state = 'LIVE'")
            .bind(&month)
            .fetch_one(&installation.pool)
            .await?;
    ensure!(by.as_deref() == Some("kim"), "approved by kim, recorded as {by:?}");
    Ok(())
}

async fn over_its_limit(installation: &Installation) -> Result<()> {
    let month = data::month(9);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("strict", &month, json!({"limits": {"maxQuarantined": 5}})).await?;
    let run = installation.wait_for_phase("strict", "AwaitingApproval").await?;
    let message = installation.wait_for_condition("strict", "Approved", "False", "LimitExceeded").await?;
    let quarantined = status(&run)["counts"]["quarantined"].to_string();
    ensure!(message.contains(&quarantined) && message.contains('5'), "{quarantined} of 5: {message}");
    let digest = status(&run)["digest"].as_str().context("a draft without a digest")?;
    installation.change_run("strict", json!({"approval": {"digest": digest, "by": "lee"}})).await?;
    installation.succeeds_with_bills_of("strict", &month, reference).await.map(drop)
}

async fn bills_nobody(installation: &Installation) -> Result<()> {
    let month = data::month(27);
    // Of another product: no member has any of its plans.
    let other = data::PRICE_BOOK.replace("BASIC-33", "OTHER-33").replace("FLAT-89", "OTHER-89");
    installation.put_price_book("pricebook-other", &other).await?;
    installation
        .apply_run("other-product", &month, json!({"priceBookRef": {"name": "pricebook-other"}}))
        .await?;
    let run = installation.wait_for_phase("other-product", "AwaitingApproval").await?;
    let message =
        installation.wait_for_condition("other-product", "Approved", "False", "NothingToIssue").await?;
    let quarantined = status(&run)["counts"]["quarantined"].to_string();
    ensure!(message.contains(&quarantined), "{quarantined} are in quarantine: {message}");
    installation.delete_run("other-product").await?;
    ensure!(live_bills(installation, &month).await? == 0, "a draft without bills was issued");
    Ok(())
}

async fn within_its_limit(installation: &Installation) -> Result<()> {
    let month = data::month(10);
    installation.apply_run("lenient", &month, json!({"limits": {"maxQuarantined": "1.5%"}})).await?;
    let run = installation.wait_for_phase("lenient", "Succeeded").await?;
    ensure!(
        condition(&run, "Approved").is_none_or(|approved| approved.0 == "True"),
        "the run waited for approval"
    );
    Ok(())
}
