//! What the leader does besides runs: it closes the job log's rows of loads and seeds whose process died, gives an outcome
//! to bills whose lease ran out, calls off what belongs to runs that vanished without their finalizer's leave, and keeps
//! the figures of the months for the metrics up to date.

use std::{collections::BTreeSet, time::Duration};

use api::{BillingRun, NotificationRun, labels, run::Run};
use domain::month::BillingMonth;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use logging::chain;
use sqlx::PgPool;
use store::{
    billing::{self, EndStatus, Uuid},
    error::{During as _, StoreError},
    job_log::{self, JobKind},
    notification,
};

use crate::{
    database::{Database, Schema},
    error::{Doing as _, RunError},
    metrics::Metrics,
    runs::look,
};

const EVERY: Duration = Duration::from_secs(5);

/// Never returns.
pub(crate) async fn run(client: Client, namespace: &str, database: Database, metrics: Metrics) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut all_told = false;
    loop {
        ticks.tick().await;
        if !matches!(database.schema(), Schema::Ready(_)) {
            metrics.database_up.set(0);
            continue;
        }
        let up = match set_totals(&database.pool, &metrics, all_told).await {
            Ok(()) => {
                all_told = true;
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
        if let Err(error) = settle(&client, namespace, &database.pool).await {
            tracing::warn!(
                error = chain(&error),
                "cannot settle notices whose lease ran out or whose run is gone"
            );
        }
    }
}

/// Once everything is told, only what changes of notices is counted again.
async fn set_totals(pool: &PgPool, metrics: &Metrics, all_told: bool) -> Result<(), RunError> {
    metrics.set_months(&billing::read_totals(pool).await.doing(|| "add up the months' bills".to_owned())?);
    let notices =
        notification::read_totals(pool, all_told).await.doing(|| "add up the months' notices".to_owned())?;
    metrics.set_notification_totals(&notices);
    Ok(())
}

/// A draft whose run somebody removed together with its finalizer would hold its month for ever.
async fn reject_orphans(client: &Client, namespace: &str, pool: &PgPool) -> Result<(), RunError> {
    // The drafts before the runs: a draft is made only for a run that is there.
    for draft in billing::read_drafts(pool).await.doing(|| "list the drafts".to_owned())? {
        if is_orphan::<BillingRun>(client, namespace, &draft.run, draft.key.run_uid).await? {
            tracing::warn!(run = draft.run, month = %draft.key.month, "rejecting a draft whose run is gone");
            billing::reject_revision(
                pool,
                &draft.key,
                "Deleted: the run is gone from the cluster",
                EndStatus::Cancelled,
            )
            .await
            .doing(|| format!("reject revision {} of {}", draft.key.revision, draft.key.month))?;
        }
    }
    Ok(())
}

/// Consumers settle what they come across; what no message leads to any more is left to this.
async fn settle(client: &Client, namespace: &str, pool: &PgPool) -> Result<(), RunError> {
    let unfinished =
        notification::read_unfinished_runs(pool).await.doing(|| "list the unfinished notices".to_owned())?;
    let months: BTreeSet<BillingMonth> = unfinished.iter().map(|run| run.month).collect();
    for month in months {
        let settled = notification::end_expired_leases(pool, month)
            .await
            .doing(|| format!("settle the notices of {month}"))?;
        if settled.unknown > 0 || settled.freed > 0 {
            tracing::warn!(
                %month,
                unknown = settled.unknown,
                freed = settled.freed,
                "settled notices whose lease ran out"
            );
        }
    }
    for run in unfinished {
        if is_orphan::<NotificationRun>(client, namespace, &run.run, run.run_uid).await? {
            tracing::warn!(run = run.run, month = %run.month, "calling off notices whose run is gone");
            notification::cancel_run(pool, run.id, "Deleted: the run is gone from the cluster")
                .await
                .doing(|| format!("call {} off", run.run))?;
        }
    }
    Ok(())
}

/// Whether the run is one of this namespace and neither it nor any of its workers is there.
async fn is_orphan<R: Run>(
    client: &Client,
    namespace: &str,
    run: &str,
    run_uid: Uuid,
) -> Result<bool, RunError> {
    let Some(name) = run.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/')) else {
        return Ok(false);
    };
    let kind = look::kind::<R>();
    let runs: Api<R> = Api::namespaced(client.clone(), namespace);
    let uid = run_uid.to_string();
    let run = runs.get_metadata_opt(name).await.doing(|| format!("read {kind} {name}"))?;
    if run.is_some_and(|run| run.uid().as_deref() == Some(uid.as_str())) {
        return Ok(false);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let workers = ListParams::default().labels(&format!("{}={uid}", labels::RUN_UID));
    Ok(pods
        .list_metadata(&workers)
        .await
        .doing(|| format!("list the pods of {kind} {name}"))?
        .items
        .is_empty())
}

async fn close_dead(pool: &PgPool) -> Result<Vec<i64>, StoreError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    Ok(job_log::fail_dead_jobs(&mut connection, &[JobKind::Seed, JobKind::Load]).await?)
}
