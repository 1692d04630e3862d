//! Holding a run up and ending it: finished, cancelled or failed. Each takes the run's row from those who claim and hand
//! over, who share it: once it is committed, nothing is handed over for the run any more.

use serde_json::json;
use sqlx::{PgConnection, PgPool};

use super::{NotificationCounts, NotificationError, NotificationId, NotificationState, touched};
use crate::error::During as _;
use crate::error::StoreError;
use crate::job_log::{self, JobCounts, JobStatus};

/// Brings a run that is not over to the state and rate asked for, and returns the state that it has then.
///
/// # Errors
/// When there is no such run, or the database fails.
pub async fn update_settings(
    pool: &PgPool,
    id: NotificationId,
    suspended: bool,
    max_per_second: Option<i32>,
) -> Result<NotificationState, NotificationError> {
    let wanted = if suspended { NotificationState::Suspended } else { NotificationState::Open };
    let found = sqlx::query!("select state, max_per_second from notification where id = $1", id.0)
        .fetch_optional(pool)
        .await
        .during("cannot read the notification")?
        .ok_or_else(|| NotificationError::NoSuchRun(id.0.to_string()))?;
    let state = NotificationState::parse(&found.state)?;
    if state.is_over() || (state == wanted && found.max_per_second == max_per_second) {
        return Ok(state);
    }
    let mut tx = pool.begin().await.during("cannot open the transaction that adjusts a notification")?;
    let row = lock(&mut tx, id).await?;
    if row.state.is_over() {
        return Ok(row.state);
    }
    let adjusted = sqlx::query!(
        "update notification set state = $2, max_per_second = $3 where id = $1 and closed_at is null",
        id.0,
        wanted.as_str(),
        max_per_second
    )
    .execute(&mut *tx)
    .await
    .during("cannot adjust the notification")?;
    touched("adjusting the notification", adjusted.rows_affected(), 1)?;
    tx.commit().await.during("cannot commit the adjusting of a notification")?;
    Ok(wanted)
}

/// Ends a run of which every target has an outcome; false: not every one has. Repeating it changes nothing.
///
/// # Errors
/// When the run was ended otherwise, or the database fails.
pub async fn finish_run(pool: &PgPool, id: NotificationId) -> Result<bool, NotificationError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that finishes a notification")?;
    let row = lock(&mut tx, id).await?;
    match row.state {
        NotificationState::Open | NotificationState::Suspended => {}
        NotificationState::Finished => return Ok(true),
        state => return Err(NotificationError::WrongState { id: id.0, state, wanted: "finished" }),
    }
    let (counts, open) = count(&mut tx, &row, id).await?;
    if !row.selected || open > 0 || in_hand(&mut tx, &row, id).await? > 0 {
        return Ok(false);
    }
    let state = NotificationState::Finished;
    close(&mut tx, id, state, None).await?;
    let status = match counts.failed + counts.unknown {
        0 => JobStatus::Succeeded,
        _ => JobStatus::CompletedWithFailures,
    };
    close_publications(&mut tx, id, JobStatus::Succeeded).await?;
    complete(&mut tx, row.job, status, &counts, 0, None).await?;
    tx.commit().await.during("cannot commit the finishing of a notification")?;
    Ok(true)
}

/// Calls a run off and frees its claims. Returns how many of its targets are handed over still: as long as there are any,
/// it is to be called again, and once there are none the run's row of the job log is complete. A run that is over otherwise
/// stays what it is.
///
/// # Errors
/// When there is no such run, or the database fails.
pub async fn cancel_run(pool: &PgPool, id: NotificationId, reason: &str) -> Result<i64, NotificationError> {
    break_off(pool, id, NotificationState::Cancelled, reason).await
}

/// Gives a run up that can't be finished; otherwise as [`cancel_run`].
///
/// # Errors
/// When there is no such run, or the database fails.
pub async fn fail_run(pool: &PgPool, id: NotificationId, reason: &str) -> Result<i64, NotificationError> {
    break_off(pool, id, NotificationState::Failed, reason).await
}

async fn break_off(
    pool: &PgPool,
    id: NotificationId,
    ending: NotificationState,
    reason: &str,
) -> Result<i64, NotificationError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that ends a notification")?;
    let row = lock(&mut tx, id).await?;
    if row.logged {
        return Ok(0);
    }
    let ending = if row.state.is_over() { row.state } else { ending };
    if !row.state.is_over() {
        close(&mut tx, id, ending, Some(reason)).await?;
    }
    let reason = row.reason.as_deref().unwrap_or(reason);
    free(&mut tx, &row, id).await?;
    let handed_over = in_hand(&mut tx, &row, id).await?;
    if handed_over == 0 {
        let status = match ending {
            NotificationState::Cancelled => JobStatus::Cancelled,
            _ => JobStatus::Failed,
        };
        let (counts, open) = count(&mut tx, &row, id).await?;
        close_publications(&mut tx, id, status).await?;
        complete(&mut tx, row.job, status, &counts, open, Some(reason)).await?;
    }
    tx.commit().await.during("cannot commit the end of a notification")?;
    Ok(handed_over)
}

/// A notification's row in this transaction's hands.
pub(super) struct Locked {
    pub(super) run: String,
    pub(super) month: String,
    pub(super) state: NotificationState,
    pub(super) selected: bool,
    pub(super) round: i32,
    reason: Option<String>,
    job: i64,
    logged: bool,
}

/// Waits for the claims and hand-overs under way, and keeps others off until the transaction ends.
pub(super) async fn lock(tx: &mut PgConnection, id: NotificationId) -> Result<Locked, NotificationError> {
    let row = sqlx::query!(
        r#"select n.run, n.month, n.state, n.selected, n.round, n.reason, n.job, j.status <> 'RUNNING' as "logged!"
           from notification n join job_log j on j.id = n.job where n.id = $1 for update of n"#,
        id.0
    )
    .fetch_optional(tx)
    .await
    .during("cannot take the notification")?
    .ok_or_else(|| NotificationError::NoSuchRun(id.0.to_string()))?;
    Ok(Locked {
        run: row.run,
        month: row.month,
        state: NotificationState::parse(&row.state)?,
        selected: row.selected,
        round: row.round,
        reason: row.reason,
        job: row.job,
        logged: row.logged,
    })
}

async fn count(
    tx: &mut PgConnection,
    row: &Locked,
    id: NotificationId,
) -> Result<(NotificationCounts, i64), NotificationError> {
    let row = sqlx::query!(
        r#"select count(*) filter (where outcome = 'SENT') as "sent!",
                  count(*) filter (where outcome = 'FAILED') as "failed!",
                  count(*) filter (where outcome = 'UNKNOWN') as "unknown!",
                  count(*) filter (where outcome = 'SKIPPED') as "skipped!",
                  count(*) filter (where outcome = 'RENDERED') as "rendered!",
                  count(*) filter (where outcome is null) as "open!"
           from notice_target where month = $1 and notification = $2"#,
        row.month,
        id.0
    )
    .fetch_one(tx)
    .await
    .during("cannot count the run's targets")?;
    let counts = NotificationCounts {
        sent: row.sent,
        failed: row.failed,
        unknown: row.unknown,
        skipped: row.skipped,
        rendered: row.rendered,
    };
    Ok((counts, row.open))
}

async fn in_hand(tx: &mut PgConnection, row: &Locked, id: NotificationId) -> Result<i64, NotificationError> {
    let in_hand = sqlx::query_scalar!(
        r#"select count(*) as "in_hand!" from delivery
           where month = $1 and notification = $2 and state in ('CLAIMED', 'HANDED_OVER')"#,
        row.month,
        id.0
    )
    .fetch_one(tx)
    .await
    .during("cannot count what is in the hands of consumers")?;
    Ok(in_hand)
}

async fn close(
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
    touched("closing the notification", closed.rows_affected(), 1)
}

/// Takes every claim of the run back. What is handed over stays so.
async fn free(tx: &mut PgConnection, row: &Locked, id: NotificationId) -> Result<(), NotificationError> {
    sqlx::query!(
        "update delivery
         set state = coalesce(before, 'PENDING'), attempt = attempt - 1, before = null, holder = null, lease_until = null
         where month = $1 and notification = $2 and state = 'CLAIMED'",
        row.month,
        id.0
    )
    .execute(tx)
    .await
    .during("cannot free the run's claims")?;
    Ok(())
}

/// Completes the rows of the job log of publications that did not come to their end; what they published counts.
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
        job_log::finish(tx, publication.job, status, counts, &json!({})).await.map_err(stored)?;
    }
    Ok(())
}

/// Completes the run's row of the job log, in bills: an unknown outcome failed, a target without an outcome was skipped.
async fn complete(
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
    job_log::finish(tx, job, status, counts, &detail).await.map_err(stored)
}

/// What completing a row of the job log says, as an error of notices.
pub(super) fn stored(error: StoreError) -> NotificationError {
    match error {
        StoreError::Database(error) => NotificationError::Database(error),
        StoreError::State(state) => NotificationError::stored("job_log", state),
    }
}
