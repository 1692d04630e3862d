//! Ends a run: finished, cancelled or failed. Each locks the run, so that after the commit nothing
//! is handed over for it.

use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::notification_error::NotificationError;
use super::notification_state::NotificationState;
use super::run::NotificationId;
use super::run_lock::{LockedRun, lock_run};
use super::target_counts::{NotificationCounts, count_held_deliveries, count_targets};
use crate::error::{During as _, expect_rows_affected};
use crate::job_log::{self, JobCounts, JobStatus};

/// Finishes a run if every target has an outcome; returns false if not. A repeated call changes
/// nothing.
///
/// # Errors
/// When the run was cancelled or has failed, or the database fails.
pub async fn finish_run(pool: &PgPool, id: NotificationId) -> Result<bool, NotificationError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that finishes a notification")?;
    let row = lock_run(&mut tx, id).await?;
    match row.state {
        NotificationState::Open | NotificationState::Suspended => {}
        NotificationState::Finished => return Ok(true),
        state => return Err(NotificationError::WrongState { id: id.0, state, wanted: "finished" }),
    }
    let targets = count_targets(&mut tx, id, &row.month).await?;
    let held = count_held_deliveries(&mut tx, id, &row.month).await?;
    if !row.selected || targets.open > 0 || held.claimed + held.handed_over > 0 {
        return Ok(false);
    }
    let state = NotificationState::Finished;
    close_run(&mut tx, id, state, None).await?;
    let status = match targets.counts.failed + targets.counts.unknown {
        0 => JobStatus::Succeeded,
        _ => JobStatus::CompletedWithFailures,
    };
    close_publications(&mut tx, id, JobStatus::Succeeded).await?;
    complete_job(&mut tx, row.job, status, &targets.counts, 0, None).await?;
    tx.commit().await.during("cannot commit the finishing of a notification")?;
    Ok(true)
}

/// Cancels a run and releases its claims. Returns how many of its deliveries are still handed over:
/// it is to be called again until there are none, and then completes the run's row of `job_log`. A
/// run that has ended otherwise keeps its state.
///
/// # Errors
/// When there is no such run, or the database fails.
pub async fn cancel_run(pool: &PgPool, id: NotificationId, reason: &str) -> Result<i64, NotificationError> {
    end_without_finishing(pool, id, NotificationState::Cancelled, reason).await
}

/// Ends a run that cannot be finished as failed; otherwise the same as [`cancel_run`].
///
/// # Errors
/// When there is no such run, or the database fails.
pub async fn fail_run(pool: &PgPool, id: NotificationId, reason: &str) -> Result<i64, NotificationError> {
    end_without_finishing(pool, id, NotificationState::Failed, reason).await
}

async fn end_without_finishing(
    pool: &PgPool,
    id: NotificationId,
    ending: NotificationState,
    reason: &str,
) -> Result<i64, NotificationError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that ends a notification")?;
    let row = lock_run(&mut tx, id).await?;
    if row.logged {
        return Ok(0);
    }
    let ending = if row.state.is_over() { row.state } else { ending };
    if !row.state.is_over() {
        close_run(&mut tx, id, ending, Some(reason)).await?;
    }
    let reason = row.reason.as_deref().unwrap_or(reason);
    release_all_claims(&mut tx, &row, id).await?;
    let handed_over = count_held_deliveries(&mut tx, id, &row.month).await?.handed_over;
    if handed_over == 0 {
        let status = match ending {
            NotificationState::Cancelled => JobStatus::Cancelled,
            _ => JobStatus::Failed,
        };
        let targets = count_targets(&mut tx, id, &row.month).await?;
        close_publications(&mut tx, id, status).await?;
        complete_job(&mut tx, row.job, status, &targets.counts, targets.open, Some(reason)).await?;
    }
    tx.commit().await.during("cannot commit the end of a notification")?;
    Ok(handed_over)
}

async fn close_run(
    tx: &mut PgConnection,
    id: NotificationId,
    state: NotificationState,
    reason: Option<&str>,
) -> Result<(), NotificationError> {
    let closed = sqlx::query!(
        "update notification set state = $2, closed_at = clock_timestamp(), reason = $3
         where id = $1 and closed_at is null",
        id.0,
        state.as_str(),
        reason
    )
    .execute(tx)
    .await
    .during("cannot close the notification")?;
    Ok(expect_rows_affected("closing the notification", closed.rows_affected(), 1)?)
}

/// Releases every claim of the run. Deliveries that are handed over keep their state.
async fn release_all_claims(
    tx: &mut PgConnection,
    run: &LockedRun,
    id: NotificationId,
) -> Result<(), NotificationError> {
    sqlx::query!(
        "update delivery
         set state = coalesce(before, 'PENDING'), attempt = attempt - 1, before = null, holder = null, lease_until = null
         where month = $1 and notification = $2 and state = 'CLAIMED'",
        run.month,
        id.0
    )
    .execute(tx)
    .await
    .during("cannot release the run's claims")?;
    Ok(())
}

/// Completes the rows of `job_log` of publications that were not done; what they published counts
/// as succeeded.
async fn close_publications(
    tx: &mut PgConnection,
    id: NotificationId,
    status: JobStatus,
) -> Result<(), NotificationError> {
    let open = sqlx::query!(
        "update publication set done_at = clock_timestamp(), waiting = null where notification = $1 and done_at is null
         returning job, messages",
        id.0
    )
    .fetch_all(&mut *tx)
    .await
    .during("cannot close the run's publications")?;
    for publication in open {
        let counts = JobCounts { succeeded: publication.messages, ..JobCounts::default() };
        job_log::finish(tx, publication.job, status, counts, &json!({})).await?;
    }
    Ok(())
}

/// Completes the run's row of `job_log`, in bills: an unknown outcome counts as failed, an open
/// target as skipped.
async fn complete_job(
    tx: &mut PgConnection,
    job: i64,
    status: JobStatus,
    counts: &NotificationCounts,
    open: i64,
    reason: Option<&str>,
) -> Result<(), NotificationError> {
    let NotificationCounts { sent, failed, unknown, skipped, rendered } = *counts;
    let mut detail = json!({ "unknown": unknown });
    if let Some(reason) = reason {
        detail["reason"] = json!(reason);
        detail["open"] = json!(open);
    }
    let counts = JobCounts { succeeded: sent + rendered, failed: failed + unknown, skipped: skipped + open };
    Ok(job_log::finish(tx, job, status, counts, &detail).await?)
}
