//! Runs that cannot start yet say why, and start by themselves when the cause is gone.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    cluster, data,
    database::Freeze,
    installation::Installation,
    runs::{LIMIT, PRICE_BOOK, condition, phase},
    suite::Suite,
    wait,
};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_run_waits_for_its_price_book", waits_for_its_price_book);
    suite.scenario("a_run_waits_for_its_month_to_be_over_and_for_its_load", waits_for_month_and_load);
    suite.scenario("a_run_waits_for_the_database", waits_for_the_database);
    suite.scenario("of_two_runs_for_one_month_one_wins", one_of_two_wins);
    suite.scenario("a_job_of_somebody_else_is_not_adopted", a_foreign_job_is_not_adopted);
    suite.scenario("a_finished_run_goes_after_its_time", goes_after_its_time);
}

async fn waits_for_its_price_book(on: &Installation) -> Result<()> {
    let month = data::month(3);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("waits", &month, json!({"priceBookRef": {"name": "later"}})).await?;
    let message = on.says("waits", "Started", "False", "PriceBookNotFound").await?;
    ensure!(message.contains("later"), "{message}");

    // Each with the reason in the condition's message.
    for (from, to, wanted) in [
        ("baseFee: 33000", "baseFee: -1", "plans[0].baseFee"),
        ("rate: \"22.53\"", "rate: 22.53", "plans[0].usage.data.tiers[0].rate"),
        ("currency: KRW", "currency: USD", "KRW"),
        ("timeZone: Asia/Seoul", "timeZone: Europe/Paris", "Asia/Seoul"),
        ("validFrom: 2024-01", "validFrom: 2030-01", "2030-01"),
        ("kind: amount", "kind: amount, colour: red", "colour"),
        ("code: FLAT-89", "code: BASIC-33", "BASIC-33"),
    ] {
        ensure!(data::PRICE_BOOK.contains(from), "the price book has no `{from}` to spoil");
        on.put_price_book("later", &data::PRICE_BOOK.replacen(from, to, 1)).await?;
        wait::until_true(&format!("`{to}` to be refused because of {wanted}"), LIMIT, async || {
            let run = on.runs().get("waits").await?;
            let said = condition(&run, "Started").context("no condition Started")?;
            ensure!(said.1 == "PriceBookInvalid" && said.2.contains(wanted), "it says {said:?}");
            ensure!(phase(&run) == "Pending", "it is {}", phase(&run));
            Ok(true)
        })
        .await?;
    }
    on.put_price_book("later", data::PRICE_BOOK).await?;
    on.succeeds_like("waits", &month, reference).await.map(drop)
}

async fn waits_for_month_and_load(on: &Installation) -> Result<()> {
    on.apply_run("too-early", "2099-12", json!({})).await?;
    let message = on.says("too-early", "Started", "False", "MonthNotOver").await?;
    ensure!(message.contains("2099-12"), "{message}");
    on.delete_run("too-early").await?;

    on.apply_run("too-new", &data::month(4), json!({"dataCutoff": 4711})).await?;
    let message = on.says("too-new", "Started", "False", "DataCutoffUnknown").await?;
    ensure!(message.contains("4711"), "{message}");
    on.delete_run("too-new").await?;
    let runs: i64 = sqlx::query_scalar("select count(*) from revision where run like '%/too-%'")
        .fetch_one(&on.pool)
        .await?;
    ensure!(runs == 0, "a run that never started took a revision number");
    Ok(())
}

async fn waits_for_the_database(on: &Installation) -> Result<()> {
    let month = data::month(4);
    let reference = on.undisturbed(&month).await?;
    on.scale_postgresql(0).await?;
    wait::until_true("the database to be away", LIMIT, async || {
        let one: sqlx::Result<i32> = sqlx::query_scalar("select 1").fetch_one(&on.pool).await;
        Ok(one.is_err())
    })
    .await?;
    on.apply_run("patient", &month, json!({})).await?;
    on.says("patient", "Started", "False", "DatabaseUnavailable").await?;
    on.scale_postgresql(1).await?;
    on.succeeds_like("patient", &month, reference).await.map(drop)
}

async fn one_of_two_wins(on: &Installation) -> Result<()> {
    let month = data::month(5);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("first", &month, json!({})).await?;
    let frozen = Freeze::after(&on.pool, &month, 1, 1).await?;
    on.apply_run("second", &month, json!({})).await?;
    let message = on.says("second", "Started", "False", "MonthLocked").await?;
    ensure!(message.contains("first"), "the holder is not named: {message}");
    ensure!(phase(&on.runs().get("second").await?) == "Pending", "the second run does not wait");
    frozen.thaw().await?;

    on.succeeds_like("first", &month, reference).await?;
    let second = on.reach("second", "Failed").await?;
    let failed = condition(&second, "Failed").context("no condition Failed")?;
    ensure!(failed.1 == "MonthAlreadyBilled", "the second run: {failed:?}");
    let revisions: i64 =
        sqlx::query_scalar("select count(*) from revision where month = $1 and state = 'LIVE'")
            .bind(&month)
            .fetch_one(&on.pool)
            .await?;
    ensure!(revisions == 1, "{revisions} live revisions");
    Ok(())
}

async fn a_foreign_job_is_not_adopted(on: &Installation) -> Result<()> {
    let month = data::month(6);
    // The name of a run's Job is known beforehand; somebody else has taken it.
    let jobs = cluster::dynamic(&on.client, &on.namespace, "batch", "v1", "Job");
    let image = format!(
        "{}:{}",
        on.image["repository"].as_str().unwrap_or("monthend"),
        on.image["tag"].as_str().unwrap_or_default()
    );
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "taken-bill", "namespace": on.namespace},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": image}]}}},
    });
    cluster::apply(&jobs, &job).await.context("apply a Job")?;
    on.apply_run("taken", &month, json!({})).await?;
    wait::until_true("the run to name the Job in its way", LIMIT, async || {
        let run = on.runs().get("taken").await?;
        Ok(run.data["status"]["conditions"].to_string().contains("taken-bill"))
    })
    .await?;
    let found = jobs.get("taken-bill").await?;
    ensure!(
        found.metadata.owner_references.unwrap_or_default().is_empty(),
        "somebody else's Job was adopted"
    );
    jobs.delete("taken-bill", &kube::api::DeleteParams::background()).await.context("delete the Job")?;
    on.reach("taken", "Succeeded").await.map(drop)
}

async fn goes_after_its_time(on: &Installation) -> Result<()> {
    let month = data::month(7);
    on.apply_run(
        "short-lived",
        &month,
        json!({"priceBookRef": {"name": PRICE_BOOK}, "ttlSecondsAfterFinished": 1}),
    )
    .await?;
    wait::until_true("the run to be deleted by its ttl", LIMIT, async || {
        Ok(on.runs().get_opt("short-lived").await?.is_none())
    })
    .await?;
    let bills: i64 = sqlx::query_scalar("select count(*) from live_bill where month = $1")
        .bind(&month)
        .fetch_one(&on.pool)
        .await?;
    ensure!(bills > 0, "the bills went with their run");
    Ok(())
}
