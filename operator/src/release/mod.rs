//! Lets the runs of a namespace go when its operator leaves for good: removes their finalizers and
//! stops their workers. The chart runs `operator release` before an uninstallation, and an operator
//! whose namespace is being deleted does the same when it is stopped. The database is left alone: the
//! next installation goes on with the drafts of runs that are still there, and rejects the others.

use std::time::Duration;

use anyhow::{Context as _, Result};
use api::run::Run;
use api::{BillingRun, NotificationRun, labels};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::config::ReleaseArgs;
use crate::controller::run_loop::finalizer;
use crate::error::RunError;

/// How long a stopped operator may take: its grace period, and the end of its pod.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);
/// Attempts for a run that something else changes at the same time.
const ATTEMPTS: u32 = 5;

#[tokio::main]
pub(crate) async fn run(args: ReleaseArgs) -> Result<()> {
    logging::init(&args.log)?;
    let client =
        Client::try_default().await.context("cannot find the cluster: set KUBECONFIG or run in a pod")?;
    stop_operator(&client, &args).await?;
    release_runs(&client, &args.namespace).await
}

/// Scales the operator down, which would set the finalizers again, and waits until its pods ended.
async fn stop_operator(client: &Client, args: &ReleaseArgs) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &args.namespace);
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    match deployments.patch_scale(&args.deployment, &PatchParams::default(), &none).await {
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
        scaled => scaled.with_context(|| format!("cannot scale Deployment {} to 0", args.deployment))?,
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &args.namespace);
    let operators = format!("{}={},{}=operator", labels::INSTANCE, args.instance, labels::COMPONENT);
    let operators = ListParams::default().labels(&operators);
    let stopped = async {
        while !pods
            .list_metadata(&operators)
            .await
            .context("cannot list the operator's pods")?
            .items
            .is_empty()
        {
            tokio::time::sleep(POLL).await;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(STOP_TIMEOUT, stopped).await {
        Ok(stopped) => stopped,
        Err(_) => {
            tracing::warn!("the operator has not stopped within {} s; going on", STOP_TIMEOUT.as_secs());
            Ok(())
        }
    }
}

/// Removes the finalizers of all runs of the namespace, and stops the workers of unfinished ones.
async fn release_runs(client: &Client, namespace: &str) -> Result<()> {
    release_kind::<BillingRun>(client, namespace).await?;
    release_kind::<NotificationRun>(client, namespace).await
}

async fn release_kind<R: Run>(client: &Client, namespace: &str) -> Result<()> {
    let runs: Api<R> = Api::namespaced(client.clone(), namespace);
    // As metadata and status only: a run whose spec this version cannot read has a finalizer too.
    let found = match runs.list_metadata(&ListParams::default()).await {
        // The definition was deleted, and with it every run.
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
        found => found.with_context(|| format!("cannot list the {}s of {namespace}", R::KIND))?,
    };
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    for run in found.items.iter().filter(|run| run.finalizers().iter().any(|name| name == labels::FINALIZER))
    {
        let (name, uid) = (run.name_any(), run.uid().unwrap_or_default());
        tracing::info!(kind = R::KIND, run = name, "removing the finalizer");
        remove_finalizer::<R>(client, namespace, &name).await?;
        let workers = ListParams::default().labels(&format!("{}={uid}", labels::RUN_UID));
        jobs.delete_collection(&DeleteParams::background(), &workers)
            .await
            .with_context(|| format!("cannot delete the Jobs of {} {name}", R::KIND))?;
    }
    Ok(())
}

async fn remove_finalizer<R: Run>(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let runs: Api<kube::core::PartialObjectMeta<R>> = Api::namespaced(client.clone(), namespace);
    for _ in 0..ATTEMPTS {
        let Some(run) = runs.get_opt(name).await.with_context(|| format!("cannot read {name}"))? else {
            return Ok(());
        };
        match finalizer::remove(&runs, &run).await {
            Err(RunError::Outdated { .. }) => {}
            removed => {
                return removed.map(drop).with_context(|| format!("cannot release {} {name}", R::KIND));
            }
        }
    }
    anyhow::bail!("{} {name} changes all the time; try again", R::KIND)
}

/// Releases the runs if their namespace is being deleted: no other operator will do it.
pub(crate) async fn release_if_namespace_is_deleted(client: &Client, namespace: &str) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.get_metadata_opt(namespace).await {
        Ok(Some(found)) if found.metadata.deletion_timestamp.is_none() => return,
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(
                error = logging::chain(&error),
                "cannot read whether the namespace is being deleted"
            );
            return;
        }
    }
    tracing::info!("the namespace is being deleted: removing the finalizers of its runs");
    if let Err(error) = release_runs(client, namespace).await {
        tracing::warn!(error = format!("{error:#}"), "cannot remove the finalizers of the namespace's runs");
    }
}

#[cfg(test)]
mod tests;
