//! Faults in the middle of a billing run. After each, the run reaches the right state, and its
//! bills equal those of a run without faults.

use anyhow::{Context as _, Result, ensure};
use e2e::database::{ChunkLock, draft_chunks};
use e2e::installation::Installation;
use e2e::runs::{LIMIT, condition, phase, status};
use e2e::suite::Suite;
use e2e::{cluster, data, wait};
use serde_json::json;
use sqlx::ConnectOptions as _;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("workers_killed_in_the_middle_of_a_chunk", workers_killed);
    suite.scenario("worker_pods_deleted_by_force", worker_pods_lost);
    suite.scenario("the_operator_killed_and_scaled_to_zero_during_a_run", operator_down);
    suite.scenario("one_of_two_operators_leads_and_the_other_takes_over", two_operators);
    suite.scenario("postgresql_killed_in_the_middle_of_a_chunk", postgresql_killed);
    suite.scenario("a_billing_run_is_suspended_and_resumed", suspended);
    suite.scenario("a_billing_run_is_deleted_halfway_and_applied_again", deleted_halfway);
    suite.scenario("a_load_during_a_run_does_not_change_its_bills", load_during_a_run);
    suite.scenario("a_run_that_cannot_succeed_fails_and_releases_its_month", cannot_succeed);
}

async fn workers_killed(installation: &Installation) -> Result<()> {
    let month = data::month(11);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("workers-killed", &month, json!({})).await?;
    for chunks in [10, 40] {
        let chunk_lock = ChunkLock::after(&installation.pool, &month, chunks, 1).await?;
        installation.kill_workers("workers-killed").await?;
        chunk_lock.release().await?;
    }
    installation.succeeds_with_bills_of("workers-killed", &month, reference).await?;
    let pods =
        cluster::pods(&installation.client, &installation.namespace, "monthend.dev/run=workers-killed")
            .await?;
    let killed = pods
        .iter()
        .flat_map(|pod| pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()));
    let killed = killed.filter(|container| {
        let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code == 137)
    });
    ensure!(killed.count() > 0, "no pod of the run has exit code 137");
    Ok(())
}

async fn worker_pods_lost(installation: &Installation) -> Result<()> {
    let month = data::month(12);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("pods-lost", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 10, 1).await?;
    for worker in installation.wait_for_workers("pods-lost").await? {
        cluster::force_delete(&installation.client, &installation.namespace, &cluster::pod_name(&worker))
            .await?;
    }
    chunk_lock.release().await?;
    installation.succeeds_with_bills_of("pods-lost", &month, reference).await.map(drop)
}

async fn operator_down(installation: &Installation) -> Result<()> {
    let month = data::month(13);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("without-operator", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 5, 1).await?;

    // While the operator runs, the status follows the database.
    let (done, _) = draft_chunks(&installation.pool, &month).await?;
    let fresh = std::time::Duration::from_secs(5);
    wait::until_true("the status to show the done chunks", fresh, async || {
        Ok(status(&installation.billing_runs().api.get("without-operator").await?)["progress"]["chunksDone"]
            .as_i64()
            == Some(done))
    })
    .await?;

    installation.kill_operator().await?;
    installation.scale_operator(0).await?;
    chunk_lock.release().await?;
    wait::until_true("the workers to finish without an operator", LIMIT, async || {
        Ok(draft_chunks(&installation.pool, &month).await?.1 == 0)
    })
    .await?;
    ensure!(
        phase(&installation.billing_runs().api.get("without-operator").await?) == "Running",
        "the phase changed without an operator"
    );
    installation.scale_operator(1).await?;
    installation.succeeds_with_bills_of("without-operator", &month, reference).await.map(drop)
}

async fn two_operators(installation: &Installation) -> Result<()> {
    let month = data::month(14);
    let reference = installation.reference_revision(&month).await?;
    installation.scale_operator(2).await?;
    installation.apply_run("two-operators", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 5, 1).await?;
    let first =
        wait::until("an operator to acquire the Lease", LIMIT, async || installation.leader().await).await?;
    let other = installation.operators().await?.iter().map(cluster::pod_name).find(|name| *name != first);
    let other = other.context("there is no second operator")?;
    let log = cluster::log_tail(&installation.client, &installation.namespace, &other, 200).await;
    ensure!(
        !log.contains("\"two-operators\"") && !log.contains("/two-operators"),
        "the standby operator worked on the run:\n{log}"
    );

    cluster::force_delete(&installation.client, &installation.namespace, &first).await?;
    chunk_lock.release().await?;
    installation.succeeds_with_bills_of("two-operators", &month, reference).await?;
    let second =
        installation.leader().await?.context("no operator holds the Lease after the first was lost")?;
    ensure!(second != first, "the Lease still names the deleted operator");
    Ok(())
}

async fn postgresql_killed(installation: &Installation) -> Result<()> {
    let month = data::month(15);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("postgresql-killed", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 10, 1).await?;
    installation.kill_postgresql().await?;
    // The lock's connection ended with the database.
    drop(chunk_lock);
    installation.database_is_available().await?;
    installation.succeeds_with_bills_of("postgresql-killed", &month, reference).await.map(drop)
}

async fn suspended(installation: &Installation) -> Result<()> {
    let month = data::month(16);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("suspended", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 10, 1).await?;
    installation.change_run("suspended", json!({"suspend": true})).await?;
    // The lock keeps the workers from finishing their chunks, so they have to roll them back within the
    // grace period.
    wait::until_true("the workers to end", LIMIT, async || {
        Ok(cluster::pods(&installation.client, &installation.namespace, "monthend.dev/run=suspended")
            .await?
            .iter()
            .all(|pod| {
                let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                matches!(phase, Some("Succeeded" | "Failed"))
            }))
    })
    .await?;
    let (done, pending) = draft_chunks(&installation.pool, &month).await?;
    chunk_lock.release().await?;
    installation.wait_for_condition("suspended", "Suspended", "True", "Suspended").await?;
    let run = installation.billing_runs().api.get("suspended").await?;
    ensure!(phase(&run) == "Running", "the phase is {} while suspended", phase(&run));
    ensure!(
        draft_chunks(&installation.pool, &month).await? == (done, pending),
        "chunks were processed while the run was suspended"
    );

    installation.change_run("suspended", json!({"suspend": false, "parallelism": 1})).await?;
    let run = installation.succeeds_with_bills_of("suspended", &month, reference).await?;
    ensure!(
        condition(&run, "Suspended").is_none_or(|suspended| suspended.0 == "False"),
        "the run is still suspended"
    );
    Ok(())
}

async fn deleted_halfway(installation: &Installation) -> Result<()> {
    let month = data::month(17);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("deleted", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 10, 1).await?;
    installation.delete_run("deleted").await?;
    let left =
        cluster::pods(&installation.client, &installation.namespace, "monthend.dev/run=deleted").await?;
    ensure!(left.is_empty(), "the run is deleted, but {} of its workers still exist", left.len());
    let (state, free): (String, bool) = sqlx::query_as(
        "select r.state, l.run is null from revision r join month_lock l using (month)
         where r.month = $1 order by r.revision desc limit 1",
    )
    .bind(&month)
    .fetch_one(&installation.pool)
    .await?;
    ensure!(state == "REJECTED" && free, "the draft is {state}, the month's lock is free: {free}");
    chunk_lock.release().await?;
    ensure!(draft_chunks(&installation.pool, &month).await? == (0, 0), "the month still has a draft");

    installation.apply_run("deleted", &month, json!({})).await?;
    let run = installation.succeeds_with_bills_of("deleted", &month, reference).await?;
    let revision = status(&run)["revision"].as_i64();
    ensure!(
        revision == Some(i64::from(reference) + 2),
        "the revision is {revision:?}, but revision numbers must not be reused"
    );
    Ok(())
}

async fn load_during_a_run(installation: &Installation) -> Result<()> {
    let month = data::month(18);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("load-during-run", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 10, 1).await?;
    let folder = tempfile::tempdir()?;
    let late = data::write_late_load(folder.path(), &month)?;
    installation.load(folder.path()).await?;
    chunk_lock.release().await?;
    let run = installation.succeeds_with_bills_of("load-during-run", &month, reference).await?;
    let counted = status(&run)["counts"]["lateUsage"].as_u64();
    ensure!(counted == Some(late), "{late} late rows were loaded, {counted:?} are reported");
    Ok(())
}

async fn cannot_succeed(installation: &Installation) -> Result<()> {
    let month = data::month(19);
    let reference = installation.reference_revision(&month).await?;
    sqlx::query("revoke all on bill from monthend_worker").execute(&installation.pool).await?;
    installation.apply_run("fails", &month, json!({})).await?;
    let failed = installation.wait_for_phase("fails", "Failed").await;
    // The migration restores the privileges.
    let url = installation.pool.connect_options().to_url_lossy().to_string();
    let migrate =
        ["--database-url", &url, "migrate", "--time-zone", data::TIME_ZONE, "--currency", data::CURRENCY];
    let migrated = installation.monthend(&migrate).await?;
    ensure!(
        migrated.code == Some(0),
        "`monthend migrate` exited with {:?}\n{}",
        migrated.code,
        migrated.stderr
    );

    let failed = failed?;
    let condition_failed = condition(&failed, "Failed").context("no condition Failed")?;
    ensure!(
        condition_failed.0 == "True" && !condition_failed.2.is_empty(),
        "the run failed with condition {condition_failed:?}"
    );
    let finished = condition(&failed, "Finished").context("no condition Finished")?;
    ensure!(finished.0 == "True", "the run failed, but its condition Finished is {finished:?}");
    let (state, job): (String, String) = sqlx::query_as(
        "select r.state, j.status from revision r join job_log j on j.id = r.job
         where r.month = $1 order by r.revision desc limit 1",
    )
    .bind(&month)
    .fetch_one(&installation.pool)
    .await?;
    ensure!(state == "REJECTED" && job == "FAILED", "the draft is {state}, its job_log row is {job}");
    installation.apply_run("succeeds", &month, json!({})).await?;
    installation.succeeds_with_bills_of("succeeds", &month, reference).await.map(drop)
}
