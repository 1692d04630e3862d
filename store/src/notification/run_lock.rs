//! The lock of a run: its row of `notification`, for update. Statements that claim, hand over or
//! select share the row, so a transaction that locks it waits for theirs and keeps later ones from
//! starting.

use sqlx::PgConnection;

use super::notification_error::NotificationError;
use super::notification_state::NotificationState;
use super::run::NotificationId;
use crate::error::During as _;

/// The row of a run that this transaction has locked.
pub(super) struct LockedRun {
    pub(super) run: String,
    pub(super) month: String,
    pub(super) state: NotificationState,
    pub(super) selected: bool,
    pub(super) round: i32,
    pub(super) reason: Option<String>,
    pub(super) job: i64,
    /// Its row of `job_log` is complete.
    pub(super) logged: bool,
}

/// Locks the run until the transaction ends.
pub(super) async fn lock_run(
    tx: &mut PgConnection,
    id: NotificationId,
) -> Result<LockedRun, NotificationError> {
    let row = sqlx::query!(
        r#"select n.run, n.month, n.state, n.selected, n.round, n.reason, n.job, j.status <> 'RUNNING' as "logged!"
           from notification n join job_log j on j.id = n.job where n.id = $1 for update of n"#,
        id.0
    )
    .fetch_optional(tx)
    .await
    .during("cannot lock the notification")?
    .ok_or_else(|| NotificationError::NoSuchRun(id.0.to_string()))?;
    Ok(LockedRun {
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
