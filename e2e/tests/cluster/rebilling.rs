//! Months that are billed again.

use anyhow::{Context as _, Result, ensure};
use e2e::database::ChunkLock;
use e2e::installation::Installation;
use e2e::runs::{condition, status};
use e2e::suite::Suite;
use e2e::{data, database};
use serde_json::{Value, json};

/// The ConfigMap with the price book that corrects the month.
const CORRECTED: &str = "pricebook-corrected";

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_month_is_billed_again_despite_killed_workers_and_unchanged_bills_stay", billed_again);
    suite.scenario("a_rebilling_that_changes_more_than_its_limits_waits_for_approval", over_its_limits);
}

fn rebill(of_revision: i64) -> Value {
    json!({
        "priceBookRef": {"name": CORRECTED},
        "rebill": {"ofRevision": of_revision, "reason": "wrong base fee"},
    })
}

/// Another fee for one plan, and a plan that members in quarantine have. The other plan stays.
async fn put_corrected_price_book(installation: &Installation) -> Result<()> {
    let text = data::PRICE_BOOK.replace("baseFee: 33000", "baseFee: 30000").replace(
        "plans:\n",
        "plans:\n  - { code: NO-SUCH-PLAN, name: A plan at last, baseFee: 10000, usage: {} }\n",
    );
    ensure!(text != data::PRICE_BOOK, "the price book is not corrected");
    installation.put_price_book(CORRECTED, &text).await
}

/// A draft with the corrected price book, to compare with, and the live revision without it.
async fn billed_wrongly(installation: &Installation, name: &str, month: &str) -> Result<(i32, i64)> {
    put_corrected_price_book(installation).await?;
    let reference =
        installation.reference_revision_with(month, json!({"priceBookRef": {"name": CORRECTED}})).await?;
    installation.apply_run(name, month, json!({})).await?;
    let wrong = installation.wait_for_phase(name, "Succeeded").await?;
    Ok((reference, status(&wrong)["revision"].as_i64().context("no revision")?))
}

async fn live_revisions(installation: &Installation, month: &str) -> Result<Vec<(i32, i64)>> {
    Ok(sqlx::query_as("select revision, count(*) from live_bill where month = $1 group by 1 order by 1")
        .bind(month)
        .fetch_all(&installation.pool)
        .await?)
}

async fn billed_again(installation: &Installation) -> Result<()> {
    let month = data::month(26);
    let (reference, wrong) = billed_wrongly(installation, "wrong-fee", &month).await?;
    let before = live_revisions(installation, &month).await?;

    installation.apply_run("right-fee", &month, rebill(wrong)).await?;
    for chunks in [10, 40] {
        let chunk_lock = ChunkLock::after(&installation.pool, &month, chunks, 1).await?;
        ensure!(live_revisions(installation, &month).await? == before, "live_bill shows bills of a draft");
        installation.kill_workers("right-fee").await?;
        chunk_lock.release().await?;
    }
    let run = installation.succeeds_with_bills_of("right-fee", &month, reference).await?;
    installation.billing_status_matches_tables(&run).await?;
    let after = live_revisions(installation, &month).await?;
    ensure!(
        before.len() == 1 && after.len() == 2 && after[0].0 == before[0].0,
        "revisions of the live bills: {before:?}, then {after:?}"
    );
    let complete = condition(&run, "Complete").context("no condition Complete")?;
    ensure!(complete.2.contains(&format!("bills revision {wrong} again")), "the message: {complete:?}");
    diff_matches_view(installation, status(&run), &month).await?;
    let jobs: Vec<(String, i64)> =
        sqlx::query_as("select status, total from job_log where month = $1 and kind = 'REBILLING'")
            .bind(&month)
            .fetch_all(&installation.pool)
            .await?;
    let members = status(&run)["progress"]["members"].as_i64().unwrap_or_default();
    ensure!(jobs == [("COMPLETED_WITH_FAILURES".to_owned(), members)], "job_log: {jobs:?}");

    // The same run again, as itself and as another one, bills nothing.
    installation.apply_run("right-fee", &month, rebill(wrong)).await?;
    installation.delete_run("right-fee").await?;
    installation.apply_run("right-fee", &month, rebill(wrong)).await?;
    let again = installation.wait_for_phase("right-fee", "Failed").await?;
    let failed = condition(&again, "Failed").context("no condition Failed")?;
    ensure!(failed.1 == "NameUsed", "the month was billed a third time: {failed:?}");
    ensure!(live_revisions(installation, &month).await? == after, "a run that failed changed the month");
    database::assert_live_equals(&installation.pool, &month, reference).await
}

/// `status.diff` has the sums of `bill_diff`. Some members pay the corrected fee, and some leave the
/// quarantine.
async fn diff_matches_view(installation: &Installation, status: &Value, month: &str) -> Result<()> {
    let diff = &status["diff"];
    let (outcomes, delta): (i64, String) =
        sqlx::query_as("select count(*), sum(delta)::text from bill_diff where month = $1 and revision = $2")
            .bind(month)
            .bind(status["revision"].as_i64().context("no revision")?)
            .fetch_one(&installation.pool)
            .await?;
    let members = |of: &Value, field| of[field].as_i64().unwrap_or_default();
    let changed = ["changed", "added", "removed"].map(|field| members(diff, field)).iter().sum::<i64>();
    let causes = diff["causes"].as_array().context("no causes")?;
    let explained: i64 = causes.iter().map(|share| members(share, "members")).sum();
    ensure!(
        changed == outcomes && explained == outcomes && diff["totalDelta"] == delta.as_str(),
        "bill_diff has {outcomes} members and {delta}, the status {diff}"
    );
    for cause in ["PriceBook", "Quarantine"] {
        ensure!(causes.iter().any(|share| share["cause"] == cause), "no member with {cause}: {diff}");
    }
    Ok(())
}

async fn over_its_limits(installation: &Installation) -> Result<()> {
    let month = data::month(27);
    let (reference, wrong) = billed_wrongly(installation, "wrong-again", &month).await?;
    let before = live_revisions(installation, &month).await?;
    let mut spec = rebill(wrong);
    spec["limits"] = json!({"maxChangedBills": 3, "maxTotalDelta": "0.5%"});
    installation.apply_run("much-changed", &month, spec).await?;
    let run = installation.wait_for_phase("much-changed", "AwaitingApproval").await?;
    let message =
        installation.wait_for_condition("much-changed", "Approved", "False", "LimitExceeded").await?;
    for limit in ["limits.maxChangedBills (3)", "limits.maxTotalDelta (0.5%)"] {
        ensure!(message.contains(limit), "the message is without {limit}: {message}");
    }
    ensure!(live_revisions(installation, &month).await? == before, "live_bill shows bills of a draft");
    let digest = status(&run)["digest"].as_str().context("a draft without a digest")?;
    installation.approve("much-changed", digest).await?;
    installation.succeeds_with_bills_of("much-changed", &month, reference).await.map(drop)
}
