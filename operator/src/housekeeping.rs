//! What the leader does besides runs: it closes the job log's rows of loads and seeds whose process died, rejects drafts
//! whose run vanished without its finalizer's leave, and keeps the figures of the months for the metrics up to date.

use std::time::Duration;

use api::{BillingRun, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use sqlx::PgPool;
use store::{
    billing::{self, Draft, Ending},
    error::{During as _, StoreError},
    job_log::{self, JobKind},
};
use telemetry::chain;

use crate::{
    database::{Database, Schema},
    error::{Doing as _, RunError},
    metrics::Metrics,
};

const EVERY: Duration = Duration::from_secs(5);

/// Never returns.
pub(crate) async fn run(client: Client, namespace: &str, database: Database, metrics: Metrics) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !matches!(database.schema(), Schema::Ready(_)) {
            metrics.database_up.set(0);
            continue;
        }
        let up = match billing::totals(&database.pool).await {
            Ok(totals) => {
                metrics.set_months(&totals);
                true
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot read the totals of the months");
                false
            }
        };
        metrics.database_up.set(i64::from(up));
        match close_dead(&database.pool).await {
            Ok(closed) => {
                for job in closed {
                    metrics.jobs_closed.inc();
                    tracing::warn!(job, "closed the job log's row of a batch whose process had died");
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "cannot close dead batches in the job log"),
        }
        if let Err(error) = reject_orphans(&client, namespace, &database.pool).await {
            tracing::warn!(error = chain(&error), "cannot look for drafts whose run is gone");
        }
    }
}

/// A draft whose run somebody removed together with its finalizer would hold its month for ever.
async fn reject_orphans(client: &Client, namespace: &str, pool: &PgPool) -> Result<(), RunError> {
    // The drafts before the runs: a draft is made only for a run that is there.
    for draft in billing::drafts(pool).await.doing(|| "list the drafts".to_owned())? {
        let Some(name) = draft.run.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        if is_orphan(client, namespace, name, &draft).await? {
            tracing::warn!(run = draft.run, month = %draft.key.month, "rejecting a draft whose run is gone");
            billing::reject(pool, &draft.key, "Deleted: the run is gone from the cluster", Ending::Cancelled)
                .await
                .doing(|| format!("reject revision {} of {}", draft.key.revision, draft.key.month))?;
        }
    }
    Ok(())
}

/// Whether neither the run nor any of its workers is there.
async fn is_orphan(client: &Client, namespace: &str, name: &str, draft: &Draft) -> Result<bool, RunError> {
    let runs: Api<BillingRun> = Api::namespaced(client.clone(), namespace);
    let uid = draft.key.run_uid.to_string();
    let run = runs.get_metadata_opt(name).await.doing(|| format!("read BillingRun {name}"))?;
    if run.is_some_and(|run| run.uid().as_deref() == Some(uid.as_str())) {
        return Ok(false);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let workers = ListParams::default().labels(&format!("{}={uid}", labels::RUN_UID));
    Ok(pods
        .list_metadata(&workers)
        .await
        .doing(|| format!("list the pods of BillingRun {name}"))?
        .items
        .is_empty())
}

async fn close_dead(pool: &PgPool) -> Result<Vec<i64>, StoreError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    Ok(job_log::close_dead(&mut connection, &[JobKind::Seed, JobKind::Load]).await?)
}
