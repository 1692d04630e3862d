//! An undisturbed run, and what a person reads of it: the status, the views, the log, kubectl and the metrics.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    data, database,
    installation::Installation,
    invariants,
    runs::{PRICE_BOOK, condition, status},
    suite::Suite,
};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_month_is_billed_and_every_place_tells_the_same", the_same_everywhere);
    suite.scenario("kubectl_reads_well", kubectl_reads_well);
    suite.scenario("planted_violations_are_found", planted_violations_are_found);
}

async fn the_same_everywhere(on: &Installation) -> Result<()> {
    let month = data::month(0);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("plain", &month, json!({})).await?;
    let run = on.succeeds_like("plain", &month, reference).await?;
    on.status_agrees(&run).await?;

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
        let said = condition(&run, kind).with_context(|| format!("no condition {kind}"))?;
        ensure!(said.0 == wanted, "condition {kind}: {said:?}");
    }
    ensure!(condition(&run, "Failed").is_none_or(|failed| failed.0 == "False"), "it succeeded and failed");
    ensure!(status["startTime"].is_string() && status["completionTime"].is_string(), "no times: {status}");
    ensure!(status["observedGeneration"].as_i64() == run.metadata.generation, "observedGeneration lags");

    let sha256: String = sqlx::query_scalar("select encode(sha256(convert_to($1, 'UTF8')), 'hex')")
        .bind(data::PRICE_BOOK)
        .fetch_one(&on.pool)
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
    .fetch_one(&on.pool)
    .await?;
    ensure!(
        status["dataCutoff"].as_i64() == Some(cutoff),
        "dataCutoff {} is not {cutoff}",
        status["dataCutoff"]
    );
    ensure!(status["digest"] == Value::String(digest), "the digest is not the revision's");
    ensure!(kept == data::PRICE_BOOK, "the price book's exact text was not kept");

    // A bill is where it belongs after its run is gone, and the month stays billed.
    on.delete_run("plain").await?;
    database::assert_live_equals(&on.pool, &month, reference).await?;
    on.apply_run("again", &month, json!({})).await?;
    let again = on.reach("again", "Failed").await?;
    let failed = condition(&again, "Failed").context("no condition Failed")?;
    ensure!(failed.1 == "MonthAlreadyBilled", "a month was billed twice: {failed:?}");

    let metrics = on.operator_says("metrics").await?;
    ensure!(metrics.contains(&format!("month=\"{month}\"")), "no metric of {month} in:\n{metrics}");
    ensure!(!metrics.contains("plain"), "a run's name is a label in:\n{metrics}");
    Ok(())
}

async fn kubectl_reads_well(on: &Installation) -> Result<()> {
    let month = data::month(1);
    on.apply_run("readable", &month, json!({})).await?;
    on.reach("readable", "Succeeded").await?;

    let table = on.kubectl(&["get", "brun", "readable"]).await?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let header = lines.next().context("kubectl get printed nothing")?;
    let wanted =
        ["NAME", "MONTH", "REV", "PHASE", "PROGRESS", "BILLED", "QUARANTINED", "TOTAL", "ETA", "AGE"];
    ensure!(header == wanted, "columns: {header:?}");
    let row = lines.next().context("kubectl get printed no row")?;
    ensure!(row[..4] == ["readable", month.as_str(), "1", "Succeeded"], "row: {row:?}");

    let category = on.kubectl(&["get", "monthend"]).await?;
    ensure!(category.contains("readable"), "category monthend holds: {category}");

    let described = on.kubectl(&["describe", "brun", "readable"]).await?;
    for wanted in ["Phase:", "Succeeded", "Conditions:", "Verification:", "Events:"] {
        ensure!(described.contains(wanted), "kubectl describe says nothing of {wanted}:\n{described}");
    }
    let events = described.split("Events:").nth(1).unwrap_or_default();
    ensure!(events.contains("monthend-operator"), "kubectl describe shows no Event:\n{described}");

    let explained = on.kubectl(&["explain", "brun.spec"]).await?;
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
    let recursive = on.kubectl(&["explain", "brun.status", "--recursive"]).await?;
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

/// Each invariant, with a violation planted in a transaction that is rolled back.
async fn planted_violations_are_found(on: &Installation) -> Result<()> {
    let month = data::month(2);
    on.apply_run("to-plant-in", &month, json!({"priceBookRef": {"name": PRICE_BOOK}})).await?;
    on.reach("to-plant-in", "Succeeded").await?;

    for (invariant, plant) in [
        ("1 ", "update bill_item set amount = amount + 1 where month = $1 and line_no = 1 and member_id = 8"),
        ("1 ", "update bill set base_amount = base_amount + 1 where month = $1 and member_id = 8"),
        ("2 ", "delete from bill where month = $1 and member_id = 8"),
        (
            "2 ",
            "insert into quarantined_member select month, 8, revision, 'UNKNOWN_PLAN', '' from revision
                where month = $1 and state = 'LIVE'",
        ),
        ("3 ", "delete from usage where month = $1 and member_id = 8"),
        ("4 chunks tile", "update chunk set from_member = from_member + 1 where month = $1 and chunk_no = 3"),
        ("4 chunks are", "update chunk set state = 'PENDING' where month = $1 and chunk_no = 3"),
        ("4 chunks are", "update chunk set items = items + 1 where month = $1 and chunk_no = 3"),
        (
            "5 ",
            "update revision set job = (select min(id) from job_log where kind = 'LOAD') where month = $1",
        ),
        ("6 ", "insert into job_log (kind, month) values ('BILLING', $1)"),
        ("6 ", "update month_lock set run = 'a/b', run_uid = gen_random_uuid() where month = $1"),
    ] {
        let mut transaction = on.pool.begin().await?;
        let planted = sqlx::query(plant).bind(&month).execute(&mut *transaction).await;
        let rows = planted.with_context(|| format!("plant: {plant}"))?.rows_affected();
        ensure!(rows > 0, "nothing was planted by: {plant}");
        let found = invariants::violations(&mut transaction, &[]).await?;
        ensure!(
            found.iter().any(|(name, _)| name.starts_with(invariant)),
            "`{plant}` was not found: {found:?}"
        );
        transaction.rollback().await?;
    }
    Ok(())
}
