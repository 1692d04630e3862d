//! Applies what may change while a run lasts: suspension and rate.

use sqlx::PgPool;

use super::notification_error::NotificationError;
use super::notification_state::NotificationState;
use super::run::NotificationId;
use super::run_lock::lock_run;
use crate::error::{During as _, expect_rows_affected};

/// Suspends or resumes a run that has not ended, sets its rate, and returns its state afterwards.
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
    let mut tx = pool.begin().await.during("cannot open the transaction that changes a notification")?;
    let row = lock_run(&mut tx, id).await?;
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
    .during("cannot change the notification")?;
    expect_rows_affected("changing the notification", adjusted.rows_affected(), 1)?;
    tx.commit().await.during("cannot commit the change of a notification")?;
    Ok(wanted)
}
