//! A billing run without faults, and what a person reads about it: status, views, job_log, kubectl
//! and metrics.

use anyhow::{Context as _, Result, ensure};
use e2e::installation::Installation;
use e2e::runs::{PRICE_BOOK, condition, status};
use e2e::suite::Suite;
use e2e::{data, database, invariants};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_month_is_billed_and_status_views_and_job_log_agree", every_place_agrees);
    suite.scenario("kubectl_shows_billing_runs_readably", kubectl_output);
    suite.scenario("inserted_invariant_violations_are_found", violations_are_found);
}

async fn every_place_agrees(installation: &Installation) -> Result<()> {
    let month = data::month(0);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("plain", &month, json!({})).await?;
    let run = installation.succeeds_with_bills_of("plain", &month, reference).await?;
    installation.billing_status_matches_tables(&run).await?;

    let status = status(&run);
    ensure!(status["progress"]["percent"] == 100, "a finished run is at {}", status["progress"]);
    ensure!(
        status["progress"]["chunksDone"] == status["progress"]["chunks"],
        "chunks: {}",
        status["progress"]
    );
    ensure!(
        status["counts"]["unbillableUsage"].as_i64() > Some(0),
        "no unbillable usage: {}",
        status["counts"]
    );
    let checks = status["verification"].as_array().context("no verification")?;
    ensure!(
        checks.len() >= 5 && checks.iter().all(|check| check["passed"] == true),
        "verification: {checks:?}"
    );
    for (kind, wanted) in [("Started", "True"), ("Complete", "True"), ("Finished", "True")] {
        let found = condition(&run, kind).with_context(|| format!("no condition {kind}"))?;
        ensure!(found.0 == wanted, "condition {kind}: {found:?}");
    }
    ensure!(
        condition(&run, "Failed").is_none_or(|failed| failed.0 == "False"),
        "the run succeeded, but its condition Failed is True"
    );
    ensure!(status["startTime"].is_string() && status["completionTime"].is_string(), "no times: {status}");
    ensure!(
        status["observedGeneration"].as_i64() == run.metadata.generation,
        "observedGeneration is not the current generation"
    );

    let sha256: String = sqlx::query_scalar("select encode(sha256(convert_to($1, 'UTF8')), 'hex')")
        .bind(data::PRICE_BOOK)
        .fetch_one(&installation.pool)
        .await?;
    ensure!(
        status["priceBook"] == json!({"version": "e2e-1", "sha256": sha256}),
        "priceBook: {}",
        status["priceBook"]
    );
    let (cutoff, kept, digest): (i64, String, String) = sqlx::query_as(
        "select r.data_cutoff, p.content, r.digest from revision r join price_book p on p.sha256 = r.price_book
         where r.month = $1 and r.state = 'LIVE'",
    )
    .bind(&month)
    .fetch_one(&installation.pool)
    .await?;
    ensure!(
        status["dataCutoff"].as_i64() == Some(cutoff),
        "dataCutoff {} is not {cutoff}",
        status["dataCutoff"]
    );
    ensure!(status["digest"] == Value::String(digest), "the digest is not the revision's");
    ensure!(kept == data::PRICE_BOOK, "the price book's exact text was not kept");

    // The bills stay after their run is deleted, and the month cannot be billed again.
    installation.delete_run("plain").await?;
    database::assert_live_equals(&installation.pool, &month, reference).await?;
    installation.apply_run("second", &month, json!({})).await?;
    let second = installation.wait_for_phase("second", "Failed").await?;
    let failed = condition(&second, "Failed").context("no condition Failed")?;
    ensure!(failed.1 == "MonthAlreadyBilled", "the month was billed twice: {failed:?}");

    let metrics = installation.operator_get("metrics").await?;
    ensure!(metrics.contains(&format!("month=\"{month}\"")), "no metric of {month} in:\n{metrics}");
    ensure!(!metrics.contains("plain"), "a run's name is a label value in:\n{metrics}");
    Ok(())
}

async fn kubectl_output(installation: &Installation) -> Result<()> {
    let month = data::month(1);
    installation.apply_run("readable", &month, json!({})).await?;
    installation.wait_for_phase("readable", "Succeeded").await?;

    let table = installation.kubectl(&["get", "brun", "readable"]).await?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().context("kubectl get printed nothing")?;
    let wanted =
        ["NAME", "MONTH", "REV", "PHASE", "PROGRESS", "BILLED", "QUARANTINED", "TOTAL", "ETA", "AGE"];
    ensure!(header == wanted, "columns: {header:?}");
    let row = lines.next().context("kubectl get printed no row")?;
    ensure!(row[..4] == ["readable", month.as_str(), "1", "Succeeded"], "row: {row:?}");

    let category = installation.kubectl(&["get", "monthend"]).await?;
    ensure!(category.contains("readable"), "category monthend lists: {category}");

    let described = installation.kubectl(&["describe", "brun", "readable"]).await?;
    for wanted in ["Phase:", "Succeeded", "Conditions:", "Verification:", "Events:"] {
        ensure!(described.contains(wanted), "kubectl describe does not show {wanted}:\n{described}");
    }
    let events = described.split("Events:").nth(1).unwrap_or_default();
    ensure!(events.contains("monthend-operator"), "kubectl describe shows no Event:\n{described}");

    let explained = installation.kubectl(&["explain", "brun.spec"]).await?;
    for field in [
        "month",
        "priceBookRef",
        "rebill",
        "rollback",
        "scope",
        "approvalPolicy",
        "approval",
        "limits",
        "dataCutoff",
        "shards",
        "parallelism",
        "chunkSize",
        "suspend",
        "ttlSecondsAfterFinished",
    ] {
        let of_field = explained
            .split(&format!("  {field}\t"))
            .nth(1)
            .with_context(|| format!("no {field} in:\n{explained}"))?;
        let description = of_field.lines().nth(1).unwrap_or_default().trim();
        ensure!(description.len() > 10, "field {field} is not described:\n{explained}");
    }
    let recursive = installation.kubectl(&["explain", "brun.status", "--recursive"]).await?;
    for field in [
        "estimatedCompletion",
        "membersPerSecond",
        "quarantinedUsage",
        "rounding",
        "sha256",
        "observedGeneration",
    ] {
        ensure!(recursive.contains(field), "no status field {field}:\n{recursive}");
    }
    Ok(())
}

/// Violates each invariant in a transaction that is rolled back.
async fn violations_are_found(installation: &Installation) -> Result<()> {
    let month = data::month(2);
    installation.apply_run("violated", &month, json!({"priceBookRef": {"name": PRICE_BOOK}})).await?;
    installation.wait_for_phase("violated", "Succeeded").await?;

    for (invariant, statement) in [
        (
            "bill-sums",
            "update bill_item set amount = amount + 1 where month = $1 and line_no = 1 and member_id = 8",
        ),
        ("bill-sums", "update bill set base_amount = base_amount + 1 where month = $1 and member_id = 8"),
        ("one-result-per-member", "delete from bill where month = $1 and member_id = 8"),
        (
            "one-result-per-member",
            "insert into quarantined_member select month, 8, revision, 'UNKNOWN_PLAN', '' from revision
                where month = $1 and state = 'LIVE'",
        ),
        ("usage-counted-once", "delete from usage where month = $1 and member_id = 8"),
        (
            "chunks-cover-all-ids",
            "update chunk set from_member = from_member + 1 where month = $1 and chunk_no = 3",
        ),
        ("chunks-match-rows", "update chunk set state = 'PENDING' where month = $1 and chunk_no = 3"),
        ("chunks-match-rows", "update chunk set items = items + 1 where month = $1 and chunk_no = 3"),
        (
            "job-log-matches-bills",
            "update revision set job = (select min(id) from job_log where kind = 'LOAD') where month = $1",
        ),
        ("ended-runs-are-closed", "insert into job_log (kind, month) values ('BILLING', $1)"),
        (
            "ended-runs-are-closed",
            "update month_lock set run = 'a/b', run_uid = gen_random_uuid() where month = $1",
        ),
    ] {
        let mut transaction = installation.pool.begin().await?;
        let outcome = sqlx::query(statement).bind(&month).execute(&mut *transaction).await;
        let rows = outcome.with_context(|| format!("run `{statement}`"))?.rows_affected();
        ensure!(rows > 0, "`{statement}` changed no row");
        let found = invariants::violations(&mut transaction, std::slice::from_ref(&month), &[]).await?;
        ensure!(
            found.iter().any(|(name, _)| *name == invariant),
            "the violation by `{statement}` was not found: {found:?}"
        );
        transaction.rollback().await?;
    }
    Ok(())
}
