//! Runs that cannot go on say why within seconds, in the words of what refuses them, and go on by
//! themselves when the cause is gone.

use anyhow::{Context as _, Result, ensure};
use e2e::data::{Cohort, DRAFTS_MONTH};
use e2e::installation::Installation;
use e2e::runs::{LIMIT, condition};
use e2e::suite::Suite;
use e2e::{cluster, wait};
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_quota_that_refuses_the_worker_job_is_named", refused_job);
    suite.scenario("a_quota_that_refuses_the_workers_pods_is_named", refused_pods);
    suite.scenario("an_image_that_cannot_be_had_is_named", missing_image);
}

/// Creates a quota and waits until it is enforced.
async fn put_quota(installation: &Installation, name: &str, hard: Value) -> Result<()> {
    let quotas = quotas(installation);
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": installation.namespace}, "spec": {"hard": hard},
    });
    cluster::apply(&quotas, &quota).await.context("apply a quota")?;
    wait::until_true("the quota to be enforced", LIMIT, async || {
        Ok(quotas.get(name).await?.data["status"]["hard"] == hard)
    })
    .await
}

async fn delete_quota(installation: &Installation, name: &str) -> Result<()> {
    quotas(installation).delete(name, &DeleteParams::default()).await.context("delete the quota").map(drop)
}

fn quotas(installation: &Installation) -> kube::Api<DynamicObject> {
    cluster::dynamic(&installation.client, &installation.namespace, "", "v1", "ResourceQuota")
}

/// Begins a run that never issues, waits for the reason, and returns the condition's message.
async fn says(installation: &Installation, run: &str, reason: &str) -> Result<String> {
    installation.apply_run(run, DRAFTS_MONTH, json!({"approvalPolicy": "Manual"})).await?;
    let message = installation.wait_for_condition(run, "Progressing", "False", reason).await?;
    let found = installation.billing_runs().get(run).await?;
    let stalled = condition(&found, "Stalled").context("no condition Stalled")?;
    ensure!(stalled.0 == "True" && stalled.1 == reason, "Stalled: {stalled:?}");
    Ok(message)
}

/// The run goes on by itself, up to its draft, and is deleted.
async fn goes_on(installation: &Installation, run: &str) -> Result<()> {
    installation.wait_for_phase(run, "AwaitingApproval").await?;
    installation.delete_run(run).await
}

async fn refused_job(installation: &Installation) -> Result<()> {
    put_quota(installation, "no-jobs", json!({"count/jobs.batch": "0"})).await?;
    let message = says(installation, "refused-job", "ActionRefused").await?;
    ensure!(message.contains("exceeded quota: no-jobs"), "{message}");
    // The Event comes after the condition. The refusal repeats, its Event does not.
    let warnings = ["get", "events", "--field-selector", "reason=ActionRefused,type=Warning", "-o", "name"];
    wait::until_true("one Event of the refusal", LIMIT, async || {
        Ok(installation.kubectl(&warnings).await?.lines().count() == 1)
    })
    .await?;
    delete_quota(installation, "no-jobs").await?;
    goes_on(installation, "refused-job").await
}

async fn refused_pods(installation: &Installation) -> Result<()> {
    put_quota(installation, "no-pods", json!({"pods": "0"})).await?;
    let message = says(installation, "refused-pods", "PodsRefused").await?;
    ensure!(message.contains("exceeded quota: no-pods"), "{message}");
    delete_quota(installation, "no-pods").await?;
    goes_on(installation, "refused-pods").await
}

/// Names the image that workers get. The operator starts again with it.
async fn set_worker_image(installation: &Installation, image: &str, pull_policy: &str) -> Result<()> {
    let image = format!("WORKER_IMAGE={image}");
    let policy = format!("WORKER_IMAGE_PULL_POLICY={pull_policy}");
    installation.kubectl(&["set", "env", "deployment/monthend-operator", &image, &policy]).await?;
    installation
        .kubectl(&["rollout", "status", "deployment/monthend-operator", "--timeout=120s"])
        .await
        .map(drop)
}

async fn missing_image(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(15);
    installation.ensure_billed(&cohort.month).await?;
    let text = |field: &str| installation.image[field].as_str().unwrap_or_default().to_owned();
    let good = format!("{}:{}", text("repository"), text("tag"));
    set_worker_image(installation, "no-such-image:missing", "Never").await?;
    let found = async {
        says(installation, "missing-image", "WorkersWaiting").await?;
        installation.notify("missing-image", &cohort, json!({"rehearsal": true})).await?;
        // At first, one of the pods may wait for a node.
        for runs in [installation.billing_runs(), installation.notification_runs()] {
            runs.until("missing-image", "waiting for the image", |run| {
                condition(run, "Progressing").is_some_and(|(status, reason, message)| {
                    status == "False"
                        && reason == "WorkersWaiting"
                        && message.contains("with image no-such-image:missing cannot start")
                })
            })
            .await?;
        }
        anyhow::Ok(())
    }
    .await;
    set_worker_image(
        installation,
        &good,
        installation.image["pullPolicy"].as_str().unwrap_or("IfNotPresent"),
    )
    .await?;
    found?;
    installation.wait_until_finished("missing-image").await?;
    goes_on(installation, "missing-image").await?;
    installation.notification_runs().delete("missing-image").await
}
