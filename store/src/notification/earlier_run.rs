//! What an earlier run of the same name has done. A controller that keeps objects as they are in Git
//! creates a run again that was deleted when its time to live was over; it must not send again.

use std::fmt;

use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::PgPool;
use sqlx::types::Uuid;

use super::notification_error::NotificationError;
use crate::error::During as _;

/// An earlier run of the same name that ended with an outcome for every bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierRun {
    pub month: BillingMonth,
    /// Bills that it selected, and those of them that were sent or, in a rehearsal, rendered.
    pub targets: i64,
    pub succeeded: i64,
    pub at: Timestamp,
}

impl fmt::Display for EarlierRun {
    /// Completes the sentence "an earlier run …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { month, targets, succeeded, at } = self;
        write!(
            f,
            "ended at {at:.0}: it had selected {targets} bills of {month}, and {succeeded} of them succeeded"
        )
    }
}

/// Reads what the last earlier run of this name (`NAMESPACE/NAME`) and month has done; none if no
/// such run ended with an outcome for every bill. A run that was cancelled or failed may be created
/// again.
///
/// # Errors
/// When the database fails.
pub async fn find_earlier_run(
    pool: &PgPool,
    run: &str,
    run_uid: Uuid,
    month: BillingMonth,
) -> Result<Option<EarlierRun>, NotificationError> {
    let row = sqlx::query!(
        r#"select n.targets, j.succeeded, n.closed_at as "closed_at!: jiff_sqlx::Timestamp"
           from notification n join job_log j on j.id = n.job
           where n.run = $1 and n.run_uid <> $2 and n.month = $3 and n.state = 'FINISHED'
           order by n.id desc limit 1"#,
        run,
        run_uid,
        month.to_string()
    )
    .fetch_optional(pool)
    .await
    .during("cannot look for an earlier run of the same name")?;
    Ok(row.map(|row| EarlierRun {
        month,
        targets: row.targets,
        succeeded: row.succeeded,
        at: row.closed_at.to_jiff(),
    }))
}
