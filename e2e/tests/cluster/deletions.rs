//! Deleting a run always ends: without the database, without the operator, with a finalizer that
//! somebody else set, and with workers that the run no longer owns.

use anyhow::{Context as _, Result, ensure};
use e2e::data::DRAFTS_MONTH;
use e2e::database::ChunkLock;
use e2e::installation::Installation;
use e2e::runs::LIMIT;
use e2e::suite::Suite;
use e2e::{cluster, shell, wait};
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_run_created_from_an_exported_one_is_deleted", exported);
    suite.scenario("a_run_deleted_with_cascade_orphan_stops_its_workers", orphaned);
    suite.scenario("a_run_is_deleted_while_the_database_is_away", without_database);
    suite.scenario("runs_are_deleted_after_the_operator_was_uninstalled", uninstalled);
}

/// A run that waits for approval and is never issued.
async fn draft(installation: &Installation, run: &str) -> Result<()> {
    installation.apply_run(run, DRAFTS_MONTH, json!({"approvalPolicy": "Manual"})).await?;
    installation.wait_for_phase(run, "AwaitingApproval").await.map(drop)
}

/// The month has no draft any more, and no run holds it.
async fn draft_is_rejected(installation: &Installation) -> Result<()> {
    wait::until_true("the draft to be rejected", LIMIT, async || {
        let left: i64 = sqlx::query_scalar(
            "select (select count(*) from revision where month = $1 and state = 'DRAFT')
                  + (select count(*) from month_lock where month = $1 and run is not null)",
        )
        .bind(DRAFTS_MONTH)
        .fetch_one(&installation.pool)
        .await?;
        Ok(left == 0)
    })
    .await
}

async fn exported(installation: &Installation) -> Result<()> {
    draft(installation, "exported").await?;
    let mut run = serde_json::to_value(installation.billing_runs().get("exported").await?)?;
    installation.delete_run("exported").await?;
    let metadata = json!({
        "name": "exported", "namespace": installation.namespace, "finalizers": run["metadata"]["finalizers"],
    });
    ensure!(metadata["finalizers"] == json!(["monthend.dev/run"]), "the run: {metadata}");
    run["metadata"] = metadata;
    run.as_object_mut().context("a run is an object")?.remove("status");
    cluster::apply(&installation.billing_runs().api, &run).await.context("apply the exported run")?;
    installation.wait_for_phase("exported", "AwaitingApproval").await?;
    installation.delete_run("exported").await?;
    draft_is_rejected(installation).await
}

async fn orphaned(installation: &Installation) -> Result<()> {
    installation.apply_run("orphaned", DRAFTS_MONTH, json!({"approvalPolicy": "Manual"})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, DRAFTS_MONTH, 5, 1).await?;
    installation.wait_for_workers("orphaned").await?;
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    installation.billing_runs().api.delete("orphaned", &orphan).await.context("delete the run")?;
    installation.billing_runs().wait_until_deleted("orphaned").await?;
    let left = installation.workers("orphaned").await?;
    ensure!(left.is_empty(), "the run is deleted, but {} of its workers still run", left.len());
    chunk_lock.release().await?;
    draft_is_rejected(installation).await
}

async fn without_database(installation: &Installation) -> Result<()> {
    draft(installation, "no-database").await?;
    installation.scale_postgresql(0).await?;
    installation.billing_runs().api.delete("no-database", &DeleteParams::default()).await?;
    let message =
        installation.wait_for_condition("no-database", "Progressing", "False", "DatabaseUnavailable").await?;
    ensure!(message.contains("the run is deleted anyway"), "{message}");
    installation.billing_runs().wait_until_deleted("no-database").await?;
    installation.scale_postgresql(1).await?;
    installation.database_is_available().await?;
    draft_is_rejected(installation).await
}

/// Runs the chart's hook as `helm uninstall` does before it removes anything.
async fn uninstalled(installation: &Installation) -> Result<()> {
    draft(installation, "uninstalled").await?;
    let hooks =
        shell::run(&["helm", "-n", &installation.namespace, "get", "hooks", "monthend"], &[], None).await?;
    let hook = hooks
        .split("\n---\n")
        .find(|hook| hook.contains("helm.sh/hook: pre-delete"))
        .context("the release has no hook before an uninstallation")?;
    installation.kubectl_apply(hook, &[]).await?;
    installation
        .kubectl(&["wait", "job/monthend-release", "--for=condition=Complete", "--timeout=180s"])
        .await?;
    let runs: Value =
        serde_json::from_str(&installation.kubectl(&["get", "brun,nrun", "-o", "json"]).await?)?;
    for run in runs["items"].as_array().into_iter().flatten() {
        ensure!(run["metadata"]["finalizers"].is_null(), "a run still has finalizers: {}", run["metadata"]);
    }
    ensure!(installation.operators().await?.is_empty(), "the operator still runs");
    installation.billing_runs().delete("uninstalled").await?;
    installation.kubectl(&["delete", "job", "monthend-release"]).await?;

    // The next installation rejects what the deleted run has left.
    installation.scale_operator(1).await?;
    draft_is_rejected(installation).await
}
