//! Faults in the middle of a run. Each ends in the right state, with the bills of an undisturbed run, to the row.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    cluster, data,
    database::{Freeze, draft_chunks},
    installation::Installation,
    runs::{LIMIT, condition, phase, status},
    suite::Suite,
    wait,
};
use serde_json::json;
use sqlx::ConnectOptions as _;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("workers_killed_in_the_middle_of_a_chunk", workers_killed);
    suite.scenario("worker_pods_lost", worker_pods_lost);
    suite.scenario("the_operator_killed_and_away_for_the_whole_run", operator_away);
    suite.scenario("one_of_two_operators_acts_and_the_other_takes_over", two_operators);
    suite.scenario("postgresql_killed_in_the_middle_of_a_chunk", postgresql_killed);
    suite.scenario("a_run_suspended_and_resumed", suspended);
    suite.scenario("a_run_deleted_half_way_and_applied_again", deleted_half_way);
    suite.scenario("a_load_during_a_run_is_left_out", load_during_a_run);
    suite.scenario("a_run_that_cannot_succeed_fails_and_frees_its_month", cannot_succeed);
}

async fn workers_killed(on: &Installation) -> Result<()> {
    let month = data::month(11);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("killed", &month, json!({})).await?;
    for chunks in [10, 40] {
        let frozen = Freeze::after(&on.pool, &month, chunks, 1).await?;
        on.kill_workers("killed").await?;
        frozen.thaw().await?;
    }
    on.succeeds_like("killed", &month, reference).await?;
    let pods = cluster::pods(&on.client, &on.namespace, "monthend.dev/run=killed").await?;
    let killed = pods
        .iter()
        .flat_map(|pod| pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()));
    let killed = killed.filter(|container| {
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code == 137)
    });
    ensure!(killed.count() > 0, "no pod of the run says that it was killed");
    Ok(())
}

async fn worker_pods_lost(on: &Installation) -> Result<()> {
    let month = data::month(12);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("lost", &month, json!({})).await?;
    let frozen = Freeze::after(&on.pool, &month, 10, 1).await?;
    for worker in on.some_workers("lost").await? {
        cluster::force_delete(&on.client, &on.namespace, &cluster::name(&worker)).await?;
    }
    frozen.thaw().await?;
    on.succeeds_like("lost", &month, reference).await.map(drop)
}

async fn operator_away(on: &Installation) -> Result<()> {
    let month = data::month(13);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("alone", &month, json!({})).await?;
    let frozen = Freeze::after(&on.pool, &month, 5, 1).await?;

    // While it is there, the status follows the database.
    let (done, _) = draft_chunks(&on.pool, &month).await?;
    let fresh = std::time::Duration::from_secs(5);
    wait::until_true("the status to show what is done", fresh, async || {
        Ok(status(&on.runs().get("alone").await?)["progress"]["chunksDone"].as_i64() == Some(done))
    })
    .await?;

    on.kill_operator().await?;
    on.scale_operator(0).await?;
    frozen.thaw().await?;
    wait::until_true("the workers to finish without an operator", LIMIT, async || {
        Ok(draft_chunks(&on.pool, &month).await?.1 == 0)
    })
    .await?;
    ensure!(phase(&on.runs().get("alone").await?) == "Running", "somebody moved the run without an operator");
    on.scale_operator(1).await?;
    on.succeeds_like("alone", &month, reference).await.map(drop)
}

async fn two_operators(on: &Installation) -> Result<()> {
    let month = data::month(14);
    let reference = on.undisturbed(&month).await?;
    on.scale_operator(2).await?;
    on.apply_run("led", &month, json!({})).await?;
    let frozen = Freeze::after(&on.pool, &month, 5, 1).await?;
    let first = wait::until("an operator to lead", LIMIT, async || on.leader().await).await?;
    let other = on.operators().await?.iter().map(cluster::name).find(|name| *name != first);
    let other = other.context("there is no second operator")?;
    let log = cluster::log_tail(&on.client, &on.namespace, &other, 200).await;
    ensure!(
        !log.contains("\"led\"") && !log.contains("/led"),
        "the operator that stands by touched the run:\n{log}"
    );

    cluster::force_delete(&on.client, &on.namespace, &first).await?;
    frozen.thaw().await?;
    on.succeeds_like("led", &month, reference).await?;
    let second = on.leader().await?.context("no operator leads after the first was lost")?;
    ensure!(second != first, "the Lease still names the operator that is gone");
    Ok(())
}

async fn postgresql_killed(on: &Installation) -> Result<()> {
    let month = data::month(15);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("survivor", &month, json!({})).await?;
    let frozen = Freeze::after(&on.pool, &month, 10, 1).await?;
    on.kill_postgresql().await?;
    // Its connection died with the database, and the lock with it.
    drop(frozen);
    on.database_is_back().await?;
    on.succeeds_like("survivor", &month, reference).await.map(drop)
}

async fn suspended(on: &Installation) -> Result<()> {
    let month = data::month(16);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("paused", &month, json!({})).await?;
    let frozen = Freeze::after(&on.pool, &month, 10, 1).await?;
    on.change_run("paused", json!({"suspend": true})).await?;
    // They cannot finish the chunk in hand, so they have to roll it back within their grace period.
    wait::until_true("the workers to leave", LIMIT, async || {
        Ok(cluster::pods(&on.client, &on.namespace, "monthend.dev/run=paused").await?.iter().all(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        }))
    })
    .await?;
    let (done, pending) = draft_chunks(&on.pool, &month).await?;
    frozen.thaw().await?;
    on.says("paused", "Suspended", "True", "Suspended").await?;
    let run = on.runs().get("paused").await?;
    ensure!(phase(&run) == "Running", "the phase is {} while suspended", phase(&run));
    ensure!(
        draft_chunks(&on.pool, &month).await? == (done, pending),
        "chunks went on while the run was suspended"
    );

    on.change_run("paused", json!({"suspend": false, "parallelism": 1})).await?;
    let run = on.succeeds_like("paused", &month, reference).await?;
    ensure!(
        condition(&run, "Suspended").is_none_or(|suspended| suspended.0 == "False"),
        "it is still suspended"
    );
    Ok(())
}

async fn deleted_half_way(on: &Installation) -> Result<()> {
    let month = data::month(17);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("phoenix", &month, json!({})).await?;
    let frozen = Freeze::after(&on.pool, &month, 10, 1).await?;
    on.delete_run("phoenix").await?;
    let left = cluster::pods(&on.client, &on.namespace, "monthend.dev/run=phoenix").await?;
    ensure!(left.is_empty(), "the run is gone and {} of its workers are not", left.len());
    let (state, free): (String, bool) = sqlx::query_as(
        "select r.state, l.run is null from revision r join month_lock l using (month)
         where r.month = $1 order by r.revision desc limit 1",
    )
    .bind(&month)
    .fetch_one(&on.pool)
    .await?;
    ensure!(state == "REJECTED" && free, "the draft is {state}, the month free: {free}");
    frozen.thaw().await?;
    ensure!(draft_chunks(&on.pool, &month).await? == (0, 0), "there is still a draft");

    on.apply_run("phoenix", &month, json!({})).await?;
    let run = on.succeeds_like("phoenix", &month, reference).await?;
    let revision = status(&run)["revision"].as_i64();
    ensure!(
        revision == Some(i64::from(reference) + 2),
        "revision numbers are never reused, this one is {revision:?}"
    );
    Ok(())
}

async fn load_during_a_run(on: &Installation) -> Result<()> {
    let month = data::month(18);
    let reference = on.undisturbed(&month).await?;
    on.apply_run("unmoved", &month, json!({})).await?;
    let frozen = Freeze::after(&on.pool, &month, 10, 1).await?;
    let folder = tempfile::tempdir()?;
    let late = data::write_late(folder.path(), &month)?;
    on.load(folder.path()).await?;
    frozen.thaw().await?;
    let run = on.succeeds_like("unmoved", &month, reference).await?;
    let counted = status(&run)["counts"]["lateUsage"].as_u64();
    ensure!(counted == Some(late), "{late} rows came late, {counted:?} are reported");
    Ok(())
}

async fn cannot_succeed(on: &Installation) -> Result<()> {
    let month = data::month(19);
    let reference = on.undisturbed(&month).await?;
    sqlx::query("revoke all on bill from monthend_worker").execute(&on.pool).await?;
    on.apply_run("hopeless", &month, json!({})).await?;
    let failed = on.reach("hopeless", "Failed").await;
    // The migration grants again what it granted.
    let url = on.pool.connect_options().to_url_lossy().to_string();
    let migrate =
        ["--database-url", &url, "migrate", "--time-zone", data::TIME_ZONE, "--currency", data::CURRENCY];
    let migrated = on.worker(&migrate).await?;
    ensure!(
        migrated.code == Some(0),
        "`monthend migrate` ended with {:?}\n{}",
        migrated.code,
        migrated.stderr
    );

    let failed = failed?;
    let said = condition(&failed, "Failed").context("no condition Failed")?;
    ensure!(said.0 == "True" && !said.2.is_empty(), "it failed and says {said:?}");
    let finished = condition(&failed, "Finished").context("no condition Finished")?;
    ensure!(finished.0 == "True", "it failed and is not Finished: {finished:?}");
    let (state, job): (String, String) = sqlx::query_as(
        "select r.state, j.status from revision r join job_log j on j.id = r.job
         where r.month = $1 order by r.revision desc limit 1",
    )
    .bind(&month)
    .fetch_one(&on.pool)
    .await?;
    ensure!(state == "REJECTED" && job == "FAILED", "the draft is {state}, its job {job}");
    on.apply_run("hopeful", &month, json!({})).await?;
    on.succeeds_like("hopeful", &month, reference).await.map(drop)
}
