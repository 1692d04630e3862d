//! A run that cannot start yet names the missing precondition in its condition, and starts as soon
//! as it is met. Also: one run for each month, a Job that belongs to something else, and the ttl.

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, Cohort};
use e2e::database::ChunkLock;
use e2e::installation::Installation;
use e2e::runs::{LIMIT, PRICE_BOOK, condition, phase};
use e2e::suite::Suite;
use e2e::{cluster, wait};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_billing_run_waits_for_a_valid_price_book", waits_for_price_book);
    suite.scenario("a_billing_run_waits_for_the_end_of_its_month_and_for_its_load", waits_for_month_and_load);
    suite.scenario("a_billing_run_waits_for_the_database", waits_for_the_database);
    suite.scenario("a_notification_run_waits_for_the_bills_of_its_month", waits_for_bills);
    suite.scenario("the_second_run_of_a_month_waits_for_the_first_and_fails", second_run_of_a_month);
    suite.scenario("a_job_that_the_run_does_not_own_is_not_adopted", foreign_job);
    suite.scenario("a_finished_run_is_deleted_after_its_ttl", ttl_after_finished);
}

async fn waits_for_price_book(installation: &Installation) -> Result<()> {
    let month = data::month(3);
    let reference = installation.reference_revision(&month).await?;
    installation
        .apply_run("waits-for-price-book", &month, json!({"priceBookRef": {"name": "later"}}))
        .await?;
    let message = installation
        .wait_for_condition("waits-for-price-book", "Started", "False", "PriceBookNotFound")
        .await?;
    ensure!(message.contains("later"), "{message}");

    // The condition's message names each problem.
    for (from, to, wanted) in [
        ("baseFee: 33000", "baseFee: -1", "plans[0].baseFee"),
        ("rate: \"22.53\"", "rate: 22.53", "plans[0].usage.data.tiers[0].rate"),
        ("currency: KRW", "currency: USD", "KRW"),
        ("timeZone: Asia/Seoul", "timeZone: Europe/Paris", "Asia/Seoul"),
        ("validFrom: 2023-08", "validFrom: 2030-01", "2030-01"),
        ("kind: amount", "kind: amount, colour: red", "colour"),
        ("code: FLAT-89", "code: BASIC-33", "BASIC-33"),
    ] {
        ensure!(data::PRICE_BOOK.contains(from), "the price book has no `{from}` to replace");
        installation.put_price_book("later", &data::PRICE_BOOK.replacen(from, to, 1)).await?;
        wait::until_true(&format!("`{to}` to be rejected because of {wanted}"), LIMIT, async || {
            let run = installation.billing_runs().api.get("waits-for-price-book").await?;
            let started = condition(&run, "Started").context("no condition Started")?;
            ensure!(
                started.1 == "PriceBookInvalid" && started.2.contains(wanted),
                "the condition is {started:?}"
            );
            ensure!(phase(&run) == "Pending", "the run is {}", phase(&run));
            Ok(true)
        })
        .await?;
    }
    installation.put_price_book("later", data::PRICE_BOOK).await?;
    installation.succeeds_with_bills_of("waits-for-price-book", &month, reference).await.map(drop)
}

async fn waits_for_month_and_load(installation: &Installation) -> Result<()> {
    installation.apply_run("too-early", "2099-12", json!({})).await?;
    let message = installation.wait_for_condition("too-early", "Started", "False", "MonthNotOver").await?;
    ensure!(message.contains("2099-12"), "{message}");
    installation.delete_run("too-early").await?;

    installation.apply_run("too-new", &data::month(4), json!({"dataCutoff": 4711})).await?;
    let message = installation.wait_for_condition("too-new", "Started", "False", "DataCutoffUnknown").await?;
    ensure!(message.contains("4711"), "{message}");
    installation.delete_run("too-new").await?;
    let runs: i64 = sqlx::query_scalar("select count(*) from revision where run like '%/too-%'")
        .fetch_one(&installation.pool)
        .await?;
    ensure!(runs == 0, "a run that never started took a revision number");
    Ok(())
}

async fn waits_for_the_database(installation: &Installation) -> Result<()> {
    let month = data::month(4);
    let reference = installation.reference_revision(&month).await?;
    installation.scale_postgresql(0).await?;
    wait::until_true("the database to be unavailable", LIMIT, async || {
        let one: sqlx::Result<i32> = sqlx::query_scalar("select 1").fetch_one(&installation.pool).await;
        Ok(one.is_err())
    })
    .await?;
    installation.apply_run("waits-for-database", &month, json!({})).await?;
    installation.wait_for_condition("waits-for-database", "Started", "False", "DatabaseUnavailable").await?;
    installation.scale_postgresql(1).await?;
    installation.succeeds_with_bills_of("waits-for-database", &month, reference).await.map(drop)
}

async fn waits_for_bills(installation: &Installation) -> Result<()> {
    let cohort = Cohort { month: data::notification_month(3), members: 0..data::COHORT_SIZE };
    let run = installation.notification_run("early", &cohort, json!({}));
    cluster::apply(&installation.notification_runs().api, &run).await?;
    let billed: i64 = sqlx::query_scalar("select count(*) from revision where month = $1 and state = 'LIVE'")
        .bind(&cohort.month)
        .fetch_one(&installation.pool)
        .await?;
    ensure!(billed == 0, "{} is billed already, so no run can wait for its bills", cohort.month);
    let message = installation
        .notification_runs()
        .wait_for_condition("early", "Started", "False", "MonthNotBilled")
        .await?;
    ensure!(message.contains(&cohort.month), "{message}");
    installation.ensure_billed(&cohort.month).await?;
    installation.wait_until_all_sent("early").await.map(drop)
}

async fn second_run_of_a_month(installation: &Installation) -> Result<()> {
    let month = data::month(5);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("first", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 1, 1).await?;
    installation.apply_run("second", &month, json!({})).await?;
    let message = installation.wait_for_condition("second", "Started", "False", "MonthLocked").await?;
    ensure!(message.contains("first"), "the message does not name the run that holds the lock: {message}");
    ensure!(
        phase(&installation.billing_runs().api.get("second").await?) == "Pending",
        "the second run does not wait"
    );
    chunk_lock.release().await?;

    installation.succeeds_with_bills_of("first", &month, reference).await?;
    let second = installation.wait_for_phase("second", "Failed").await?;
    let failed = condition(&second, "Failed").context("no condition Failed")?;
    ensure!(failed.1 == "MonthAlreadyBilled", "the second run: {failed:?}");
    let revisions: i64 =
        sqlx::query_scalar("select count(*) from revision where month = $1 and state = 'LIVE'")
            .bind(&month)
            .fetch_one(&installation.pool)
            .await?;
    ensure!(revisions == 1, "{revisions} live revisions");
    Ok(())
}

async fn foreign_job(installation: &Installation) -> Result<()> {
    let month = data::month(6);
    // Job names are deterministic. A Job of this name exists already and has no owner.
    let jobs = cluster::dynamic(&installation.client, &installation.namespace, "batch", "v1", "Job");
    let image = format!(
        "{}:{}",
        installation.image["repository"].as_str().unwrap_or("monthend"),
        installation.image["tag"].as_str().unwrap_or_default()
    );
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "taken-bill", "namespace": installation.namespace},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}},
    });
    cluster::apply(&jobs, &job).await.context("apply a Job")?;
    installation.apply_run("taken", &month, json!({})).await?;
    wait::until_true("the run to name the conflicting Job", LIMIT, async || {
        let run = installation.billing_runs().api.get("taken").await?;
        Ok(run.data["status"]["conditions"].to_string().contains("taken-bill"))
    })
    .await?;
    let found = jobs.get("taken-bill").await?;
    ensure!(
        found.metadata.owner_references.unwrap_or_default().is_empty(),
        "a Job of another owner was adopted"
    );
    jobs.delete("taken-bill", &kube::api::DeleteParams::background()).await.context("delete the Job")?;
    installation.wait_for_phase("taken", "Succeeded").await.map(drop)
}

async fn ttl_after_finished(installation: &Installation) -> Result<()> {
    let month = data::month(7);
    installation
        .apply_run(
            "short-lived",
            &month,
            json!({"priceBookRef": {"name": PRICE_BOOK}, "ttlSecondsAfterFinished": 1}),
        )
        .await?;
    wait::until_true("the run to be deleted after its ttl", LIMIT, async || {
        Ok(installation.billing_runs().api.get_opt("short-lived").await?.is_none())
    })
    .await?;
    let bills: i64 = sqlx::query_scalar("select count(*) from live_bill where month = $1")
        .bind(&month)
        .fetch_one(&installation.pool)
        .await?;
    ensure!(bills > 0, "the bills were deleted with their run");
    Ok(())
}
