//! Drafts that wait for approval.

use anyhow::{Context as _, Result, bail, ensure};
use e2e::data;
use e2e::installation::Installation;
use e2e::runs::{LIMIT, condition, status};
use e2e::suite::Suite;
use e2e::wait;
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_draft_is_issued_only_when_an_approver_approves_its_own_digest", by_digest);
    suite.scenario("who_created_a_run_may_be_kept_from_approving_it", not_by_creator);
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
    let runs = "--resource=billingruns.monthend.dev";
    for command in [
        &["create", "role", "patcher", "--verb=get,patch", runs] as &[&str],
        &["create", "rolebinding", "patcher", "--role=patcher", "--user=lee"],
        &["create", "rolebinding", "approver", "--role=monthend-approver", "--user=kim"],
    ] {
        installation.kubectl(command).await?;
    }
    installation.apply_run("manual", &month, json!({"approvalPolicy": "Manual"})).await?;
    let run = installation.wait_for_phase("manual", "AwaitingApproval").await?;
    installation.wait_for_condition("manual", "Approved", "False", "ManualApproval").await?;
    ensure!(live_bills(installation, &month).await? == 0, "live_bill shows bills that are not approved");

    approve_as(installation, "kim", "manual", &"0".repeat(64), "kim").await?;
    installation.wait_for_condition("manual", "Approved", "False", "DigestMismatch").await?;
    ensure!(
        live_bills(installation, &month).await? == 0,
        "bills were issued after another digest was approved"
    );

    let digest = status(&run)["digest"].as_str().context("a draft without a digest")?;
    let lee = approve_as(installation, "lee", "manual", digest, "lee").await;
    is_refused(lee, "lee may not approve BillingRun manual")?;
    let kim = approve_as(installation, "kim", "manual", digest, "lee").await;
    is_refused(kim, "spec.approval.by must be the user who approves, kim, not lee")?;
    // What does not change the approval needs no right to approve.
    let patch = json!({"spec": {"parallelism": 1}}).to_string();
    installation
        .kubectl(&["--as", "lee", "patch", "brun", "manual", "--type", "merge", "-p", &patch])
        .await?;

    approve_as(installation, "kim", "manual", digest, "kim").await?;
    installation.succeeds_with_bills_of("manual", &month, reference).await?;
    let by: Option<String> =
        sqlx::query_scalar("select decided_by from revision where month = $1 and state = 'LIVE'")
            .bind(&month)
            .fetch_one(&installation.pool)
            .await?;
    ensure!(by.as_deref() == Some("kim"), "approved by kim, recorded as {by:?}");
    Ok(())
}

/// An approval as the user, with kubectl. The error has the API server's answer.
async fn approve_as(
    installation: &Installation,
    user: &str,
    run: &str,
    digest: &str,
    by: &str,
) -> Result<String> {
    let patch = json!({"spec": {"approval": {"digest": digest, "by": by}}}).to_string();
    installation.kubectl(&["--as", user, "patch", "brun", run, "--type", "merge", "-p", &patch]).await
}

fn is_refused(answer: Result<String>, reason: &str) -> Result<()> {
    match answer {
        Ok(output) => bail!("accepted, not refused with `{reason}`: {output}"),
        Err(error) => {
            ensure!(format!("{error:#}").contains(reason), "not refused with `{reason}`: {error:#}")
        }
    }
    Ok(())
}

async fn not_by_creator(installation: &Installation) -> Result<()> {
    installation.helm_upgrade(&json!({"approval": {"byCreator": false}})).await?;
    let with = |annotations: Value| {
        json!({
            "apiVersion": "monthend.dev/v1alpha1", "kind": "BillingRun",
            "metadata": {"name": "created", "annotations": annotations},
            "spec": {"month": data::month(8), "priceBookRef": {"name": "none"}},
        })
        .to_string()
    };
    let run = |creator: &str| with(json!({"monthend.dev/created-by": creator}));
    // The API server applies a changed policy a moment after it is stored.
    wait::until_true("a run with the name of another creator to be refused", LIMIT, async || {
        let created = installation.kubectl_apply(&run("someone"), &["--dry-run=server"]).await;
        is_refused(created, "monthend.dev/created-by").map(|()| true)
    })
    .await?;
    let user = installation.user().await?;
    installation.kubectl_apply(&run(&user), &[]).await?;
    let digest = "0".repeat(64);
    let own = installation.approve("created", &digest).await.map(|()| String::new());
    is_refused(own, "another person has to approve it")?;
    let annotate = ["annotate", "--overwrite", "brun", "created", "monthend.dev/created-by=someone"];
    is_refused(installation.kubectl(&annotate).await, "cannot be changed")?;
    installation.delete_run("created").await?;
    // The next scenario creates runs without the annotation.
    installation.helm_upgrade(&json!({})).await?;
    wait::until_true("a run without the name of its creator to be accepted", LIMIT, async || {
        installation.kubectl_apply(&with(json!({})), &["--dry-run=server"]).await.map(|_| true)
    })
    .await
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
    installation.approve("strict", digest).await?;
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
