//! The input of a run: it waits for the sources that it requires, and bills without a load that was
//! taken back.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::data;
use e2e::installation::Installation;
use e2e::runs::status;
use e2e::suite::Suite;
use serde_json::json;

/// Before the months of the data set, so that all usage of the month is this scenario's.
const MONTH: &str = "2023-11";

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_run_waits_for_its_sources_and_bills_without_a_load_that_was_taken_back", inputs);
}

/// Loads usage of one member, which the manifest says covers these days. Returns the number of the
/// load.
async fn load(installation: &Installation, quantity: u32, from: &str, to: &str) -> Result<i64> {
    let folder = tempfile::tempdir().context("create a folder to load")?;
    let usage = format!(
        "usage_id,member_id,kind,quantity,started_at\n{from}-in,{},voice,{quantity},{from}T10:00:00+09:00\n",
        data::member_id(4)
    );
    let manifest =
        format!("source: cdr-a\nfiles: {{usage.csv: {{rows: 1, days: {{from: {from}, to: {to}}}}}}}\n");
    fs::write(folder.path().join("usage.csv"), usage).context("write usage.csv")?;
    fs::write(folder.path().join("manifest.yaml"), manifest).context("write manifest.yaml")?;
    installation.load(folder.path()).await?;
    let number = sqlx::query_scalar("select max(number) from loads where source = 'cdr-a' and kind = 'LOAD'");
    Ok(number.fetch_one(&installation.pool).await?)
}

async fn usage_amount(installation: &Installation) -> Result<i64> {
    let amount = sqlx::query_scalar("select usage_amount from live_bill where month = $1 and member_id = $2")
        .bind(MONTH)
        .bind(i64::try_from(data::member_id(4))?)
        .fetch_one(&installation.pool)
        .await;
    amount.context("the member has no live bill")
}

async fn inputs(installation: &Installation) -> Result<()> {
    installation.apply_run("needs-input", MONTH, json!({"requireSources": ["cdr-a"]})).await?;
    let missing =
        installation.wait_for_condition("needs-input", "Started", "False", "InputsIncomplete").await?;
    ensure!(missing.contains("source cdr-a: nothing is loaded"), "{missing}");
    load(installation, 600, "2023-11-01", "2023-11-30").await?;
    installation
        .billing_runs()
        .until("needs-input", "without input of one day", |run| {
            status(run)["conditions"].to_string().contains("source cdr-a: no load covers 2023-11-30")
        })
        .await?;
    let wrong = load(installation, 50_000, "2023-11-30", "2023-12-01").await?;
    let run = installation.wait_for_phase("needs-input", "Succeeded").await?;
    ensure!(
        status(&run)["dataCutoff"].as_i64() >= Some(wrong),
        "the run bills up to load {}, not up to {wrong}",
        status(&run)["dataCutoff"]
    );
    let revision = status(&run)["revision"].as_i64().context("no revision")?;
    let charged = usage_amount(installation).await?;
    ensure!(charged > 0, "usage beyond the allowance is charged");

    let number = wrong.to_string();
    let output = installation.monthend(&["load", "--take-back", &number, "--reason", "a wrong file"]).await?;
    ensure!(
        output.code == Some(0) && output.stdout.contains(&format!("spec.rebill.ofRevision: {revision}")),
        "`monthend load --take-back` ended with {:?}\n{}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    ensure!(usage_amount(installation).await? == charged, "a take-back changed a live bill");
    let rebill = json!({"rebill": {"ofRevision": revision, "reason": "a wrong file"}});
    installation.apply_run("without-the-load", MONTH, rebill).await?;
    let run = installation.wait_for_phase("without-the-load", "Succeeded").await?;
    ensure!(usage_amount(installation).await? == 0, "usage of a load that was taken back is charged");
    installation.billing_status_matches_tables(&run).await
}
