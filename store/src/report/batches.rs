//! The rows of `job_log`.

use domain::month::BillingMonth;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _};

/// One row of `job_log`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub id: i64,
    pub kind: String,
    /// `NAMESPACE/NAME`.
    pub run: Option<String>,
    pub month: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// So far, of one that is running.
    pub seconds: i64,
    pub status: String,
    pub total: i64,
    pub succeeded: i64,
    pub failed: i64,
    pub skipped: i64,
    pub detail: Value,
}

/// Reads the newest rows, the newest first; with a month, only those of the month.
///
/// # Errors
/// When the database fails.
pub async fn read_batches(
    connection: &mut PgConnection,
    month: Option<BillingMonth>,
    limit: u32,
) -> Result<Vec<Batch>, DatabaseError> {
    let rows = sqlx::query!(
        r#"select id, kind, run, month, started_at as "started_at: jiff_sqlx::Timestamp",
                  ended_at as "ended_at: jiff_sqlx::Timestamp",
                  extract(epoch from coalesce(ended_at, clock_timestamp()) - started_at)::bigint as "seconds!",
                  status, total, succeeded, failed, skipped, detail
           from job_log where $1::text is null or month = $1
           order by id desc limit $2"#,
        month.map(|month| month.to_string()),
        i64::from(limit)
    )
    .fetch_all(connection)
    .await
    .during("cannot read job_log")?;
    let batches = rows.into_iter().map(|row| Batch {
        id: row.id,
        kind: row.kind,
        run: row.run,
        month: row.month,
        started_at: row.started_at.to_jiff(),
        ended_at: row.ended_at.map(jiff_sqlx::Timestamp::to_jiff),
        seconds: row.seconds,
        status: row.status,
        total: row.total,
        succeeded: row.succeeded,
        failed: row.failed,
        skipped: row.skipped,
        detail: row.detail,
    });
    Ok(batches.collect())
}
