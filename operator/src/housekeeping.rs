//! Regular work of the leader besides the runs: closes the job_log rows of loads and seeds whose
//! process died, settles bills whose lease expired, cancels the work of runs that were deleted
//! without their finalizer, moves the months' high-water marks on, and updates the metrics of the
//! months.

use std::collections::BTreeSet;
use std::time::Duration;

use api::run::Run;
use api::{BillingRun, NotificationRun, labels, reasons};
use domain::month::BillingMonth;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt as _};
use logging::chain;
use sqlx::PgPool;
use store::billing::{self, EndStatus, Uuid};
use store::error::During as _;
use store::job_log::{self, JobKind};
use store::notification;

use crate::clock::Clock;
use crate::database::{Database, Schema};
use crate::error::{Doing as _, RunError};
use crate::metrics::Metrics;
use crate::readings::Readings;
use crate::restore_hold;

const INTERVAL: Duration = Duration::from_secs(5);
/// Longer than a pod on a healthy node exists after the end of its grace period.
const LOST_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Never returns.
pub(crate) async fn run(client: Client, namespace: &str, database: Database, metrics: Metrics, clock: Clock) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut readings = Readings::default();
    loop {
        ticks.tick().await;
        let Schema::Ready(installation) = database.schema() else {
            metrics.database.up.set(0);
            metrics.database.writable.set(0);
            continue;
        };
        // First, as counting takes long after a change of the leader.
        if let Err(error) = restore_hold::keep_marks(&client, namespace, &database.pool).await {
            tracing::warn!(error = chain(&error), "cannot move the high-water marks of the months");
        }
        let read = readings.update(&database.pool, &installation, &metrics).await;
        metrics.database.up.set(i64::from(read.is_ok()));
        if let Err(error) = read {
            metrics.database.writable.set(0);
            tracing::warn!(error = chain(&error), "cannot read the figures for the metrics");
        }
        match close_dead(&database.pool).await {
            Ok(closed) => {
                for job in closed {
                    metrics.jobs_closed.inc();
                    tracing::warn!(job, "closed the job_log row of a load or seed whose process died");
                }
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot close the job_log rows of dead processes")
            }
        }
        if let Err(error) = reject_orphans(&client, namespace, &database.pool, clock).await {
            tracing::warn!(error = chain(&error), "cannot reject the drafts of deleted runs");
        }
        if let Err(error) = settle(&client, namespace, &database.pool, clock).await {
            tracing::warn!(
                error = chain(&error),
                "cannot settle bills whose lease expired or whose run was deleted"
            );
        }
        if let Err(error) = delete_stale_consumers(&database.pool).await {
            tracing::warn!(error = chain(&error), "cannot delete consumers without a heartbeat");
        }
    }
}

/// A draft whose run was deleted without its finalizer would lock its month without end.
async fn reject_orphans(
    client: &Client,
    namespace: &str,
    pool: &PgPool,
    clock: Clock,
) -> Result<(), RunError> {
    // Lists the drafts before the runs: a draft is created only for a run that exists.
    for draft in billing::read_drafts(pool).await.doing(|| "list the drafts".to_owned())? {
        if is_orphan::<BillingRun>(client, namespace, &draft.run, draft.key.run_uid, clock).await? {
            tracing::warn!(run = draft.run, month = %draft.key.month, "rejecting the draft of a deleted run");
            billing::reject_revision(pool, &draft.key, &orphan_reason(), EndStatus::Cancelled)
                .await
                .doing(|| format!("reject revision {} of {}", draft.key.revision, draft.key.month))?;
        }
    }
    Ok(())
}

/// Consumers settle the bills of the messages that they read; this settles the bills that no
/// message leads to any more.
async fn settle(client: &Client, namespace: &str, pool: &PgPool, clock: Clock) -> Result<(), RunError> {
    let unfinished = notification::read_unfinished_runs(pool)
        .await
        .doing(|| "list the unfinished notifications".to_owned())?;
    let months: BTreeSet<BillingMonth> = unfinished.iter().map(|run| run.month).collect();
    for month in months {
        let settled = notification::end_expired_leases(pool, month)
            .await
            .doing(|| format!("settle the bills of {month} whose lease expired"))?;
        if settled.unknown > 0 || settled.freed > 0 {
            tracing::warn!(
                %month,
                unknown = settled.unknown,
                freed = settled.freed,
                "settled bills whose lease expired"
            );
        }
    }
    for run in unfinished {
        if is_orphan::<NotificationRun>(client, namespace, &run.run, run.run_uid, clock).await? {
            tracing::warn!(run = run.run, month = %run.month, "cancelling the notification of a deleted run");
            notification::cancel_run(pool, run.id, &orphan_reason())
                .await
                .doing(|| format!("cancel the notification {}", run.run))?;
        }
    }
    Ok(())
}

/// A consumer deregisters when it is stopped. One that was killed cannot, and its row would stay
/// without end.
async fn delete_stale_consumers(pool: &PgPool) -> Result<(), RunError> {
    let deleted = notification::delete_stale_consumers(pool)
        .await
        .doing(|| "delete consumers without a heartbeat".to_owned())?;
    if deleted > 0 {
        tracing::info!(deleted, "deleted consumers without a heartbeat for a day");
    }
    Ok(())
}

/// The reason that the database keeps, with the code in front.
fn orphan_reason() -> String {
    format!("{}: the run no longer exists in the cluster", reasons::DELETED)
}

/// Whether the run is of this namespace, and neither it nor any of its pods exists. A pod that should
/// have ended long ago does not count: its node is lost, and the fencing number keeps it from writing.
async fn is_orphan<R: Run>(
    client: &Client,
    namespace: &str,
    run: &str,
    run_uid: Uuid,
    clock: Clock,
) -> Result<bool, RunError> {
    let Some(name) = run.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/')) else {
        return Ok(false);
    };
    let runs: Api<R> = Api::namespaced(client.clone(), namespace);
    let uid = run_uid.to_string();
    let run = runs.get_metadata_opt(name).await.doing(|| format!("read {} {name}", R::KIND))?;
    if run.is_some_and(|run| run.uid().as_deref() == Some(uid.as_str())) {
        return Ok(false);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let workers = ListParams::default().labels(&format!("{}={uid}", labels::RUN_UID));
    let pods = pods.list_metadata(&workers).await.doing(|| format!("list the pods of {} {name}", R::KIND))?;
    let lost = |pod: &PartialObjectMeta<Pod>| {
        let ends = pod.metadata.deletion_timestamp.as_ref();
        ends.is_some_and(|ends| clock.now().duration_since(ends.0) > LOST_AFTER)
    };
    Ok(pods.items.iter().all(lost))
}

async fn close_dead(pool: &PgPool) -> Result<Vec<i64>, RunError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    Ok(job_log::fail_dead_jobs(&mut connection, &[JobKind::Seed, JobKind::Load]).await?)
}
