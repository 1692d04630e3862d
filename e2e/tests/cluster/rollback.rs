//! Months that are rolled back and billed again.

use anyhow::{Context as _, Result, ensure};
use e2e::installation::Installation;
use e2e::runs::{condition, phase, status};
use e2e::suite::Suite;
use e2e::{cluster, data, database};
use kube::api::DynamicObject;
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_month_is_rolled_back_and_billed_again", rolled_back_and_billed_again);
    suite.scenario("a_suspended_rollback_waits_and_the_next_operator_does_it", suspended_rollback);
}

fn rollback(of_revision: i32) -> Value {
    json!({
        "priceBookRef": null,
        "rollback": {"ofRevision": of_revision, "reason": "wrong price book"},
    })
}

async fn live_bills(installation: &Installation, month: &str) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from live_bill where month = $1")
        .bind(month)
        .fetch_one(&installation.pool)
        .await?)
}

/// Fails unless the run ended because its revision is not the highest live one.
fn in_conflict(run: &DynamicObject, live: &str) -> Result<()> {
    let failed = condition(run, "Failed").context("no condition Failed")?;
    ensure!(failed.1 == "RevisionConflict" && failed.2.contains(live), "the rollback: {failed:?}");
    Ok(())
}

/// Fails unless the run ended because an earlier run of its name had its effect.
fn name_used(run: &DynamicObject, effect: &str) -> Result<()> {
    let failed = condition(run, "Failed").context("no condition Failed")?;
    ensure!(failed.1 == "NameUsed" && failed.2.contains(effect), "the run created again: {failed:?}");
    Ok(())
}

async fn rolled_back_and_billed_again(installation: &Installation) -> Result<()> {
    let month = data::month(24);
    installation.apply_run("wrong", &month, json!({})).await?;
    let wrong = installation.wait_for_phase("wrong", "Succeeded").await?;
    let revision = i32::try_from(status(&wrong)["revision"].as_i64().context("no revision")?)?;
    let bills = live_bills(installation, &month).await?;

    installation.apply_run("of-another", &month, rollback(revision + 1)).await?;
    let another = installation.wait_for_phase("of-another", "Failed").await?;
    in_conflict(&another, &format!("revision {revision} of run"))?;
    ensure!(live_bills(installation, &month).await? == bills, "a rollback that failed changed the month");

    installation.apply_run("take-back", &month, rollback(revision)).await?;
    let done = installation.wait_for_phase("take-back", "Succeeded").await?;
    ensure!(status(&done)["revision"].as_i64() == Some(revision.into()), "status: {}", status(&done));
    ensure!(
        done.metadata.finalizers.clone().unwrap_or_default().is_empty(),
        "a finished rollback has finalizers: {:?}",
        done.metadata.finalizers
    );
    ensure!(live_bills(installation, &month).await? == 0, "live_bill shows bills that were rolled back");
    let history: Vec<(String, Option<String>, i64)> = sqlx::query_as(
        "select state, reason, count(*) from bill_history where month = $1 group by state, reason",
    )
    .bind(&month)
    .fetch_all(&installation.pool)
    .await?;
    ensure!(
        history == [("ROLLED_BACK".to_owned(), Some("wrong price book".to_owned()), bills)],
        "bill_history: {history:?}"
    );
    let jobs: Vec<(String, i64, i64, i64, bool)> = sqlx::query_as(
        "select status, total, succeeded, failed, ended_at >= started_at from job_log
         where month = $1 and kind = 'ROLLBACK'",
    )
    .bind(&month)
    .fetch_all(&installation.pool)
    .await?;
    let members = status(&wrong)["progress"]["members"].as_i64().unwrap_or_default();
    ensure!(jobs == [("SUCCEEDED".to_owned(), members, members, 0, true)], "job_log: {jobs:?}");

    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("right", &month, json!({})).await?;
    let right = installation.succeeds_with_bills_of("right", &month, reference).await?;
    ensure!(status(&right)["revision"].as_i64() > Some(revision.into()), "a revision number was used again");

    // The manifest again, and a run of the same name: neither takes back what came after it.
    let version = done.metadata.resource_version.clone();
    installation.apply_run("take-back", &month, rollback(revision)).await?;
    let again = installation.billing_runs().get("take-back").await?;
    ensure!(again.metadata.resource_version == version, "applying a finished rollback again changed it");
    installation.delete_run("take-back").await?;
    database::assert_live_equals(&installation.pool, &month, reference).await?;
    installation.apply_run("take-back", &month, rollback(revision)).await?;
    name_used(&installation.wait_for_phase("take-back", "Failed").await?, "rolled revision")?;
    // Nor does the run that it took back, created again, bill the month once more.
    installation.delete_run("wrong").await?;
    installation.apply_run("wrong", &month, json!({})).await?;
    name_used(&installation.wait_for_phase("wrong", "Failed").await?, "which was rolled back since")?;
    database::assert_live_equals(&installation.pool, &month, reference).await
}

async fn suspended_rollback(installation: &Installation) -> Result<()> {
    let month = data::month(25);
    installation.apply_run("billed", &month, json!({})).await?;
    let billed = installation.wait_for_phase("billed", "Succeeded").await?;
    let revision = i32::try_from(status(&billed)["revision"].as_i64().context("no revision")?)?;
    let bills = live_bills(installation, &month).await?;
    let mut suspended = rollback(revision);
    suspended["suspend"] = json!(true);

    // Deleted before it acted, it leaves nothing.
    for name in ["never", "later"] {
        installation.apply_run(name, &month, suspended.clone()).await?;
        installation.wait_for_condition(name, "Started", "False", "Suspended").await?;
    }
    installation.delete_run("never").await?;
    ensure!(live_bills(installation, &month).await? == bills, "a suspended rollback changed the month");
    ensure!(phase(&installation.billing_runs().get("later").await?) == "Pending", "it did not wait");

    installation.scale_operator(0).await?;
    installation.change_run("later", json!({"suspend": false})).await?;
    installation.scale_operator(1).await?;
    installation.wait_for_phase("later", "Succeeded").await?;
    ensure!(live_bills(installation, &month).await? == 0, "live_bill shows bills that were rolled back");
    let workers =
        cluster::pods(&installation.client, &installation.namespace, "monthend.dev/run=later").await?;
    ensure!(workers.is_empty(), "a rollback has {} pods", workers.len());
    let rollbacks: i64 = sqlx::query_scalar("select count(*) from rollback where month = $1")
        .bind(&month)
        .fetch_one(&installation.pool)
        .await?;
    ensure!(rollbacks == 1, "{rollbacks} rollbacks");
    Ok(())
}
