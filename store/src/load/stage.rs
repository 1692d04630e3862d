//! The staging tables: written by COPY, emptied before the next load.

use sqlx::PgConnection;
use tokio::sync::mpsc;

use crate::error::{DatabaseError, During as _};

/// A staging table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StagingTable {
    Members,
    Subscriptions,
    Grants,
    Adjustments,
    Usage,
}

impl StagingTable {
    /// The statement, whose columns are the order of a row's values.
    const fn copy(self) -> &'static str {
        match self {
            Self::Members => {
                "copy staged_member (line_no, member_id, locale, name, email, phone) from stdin (format binary)"
            }
            Self::Subscriptions => {
                "copy staged_subscription (line_no, member_id, plan_code, from_date, to_date) from stdin (format binary)"
            }
            Self::Grants => {
                "copy staged_grant (line_no, member_id, discount_code, from_date, to_date) from stdin (format binary)"
            }
            Self::Adjustments => {
                "copy staged_adjustment (line_no, adjustment_id, member_id, month, code, amount, reason)
                 from stdin (format binary)"
            }
            Self::Usage => {
                "copy staged_usage (line_no, member_id, started_at, quantity, kind, month, usage_id)
                 from stdin (format binary)"
            }
        }
    }
}

/// A part of the rows for a staging table.
#[derive(Debug)]
pub enum Batch {
    /// Rows that are followed by more.
    Rows(Vec<u8>),
    /// The last rows and the end mark.
    Last(Vec<u8>),
}

/// Copies batches to a staging table until the last one. If the sender is dropped before that,
/// nothing is written.
///
/// # Errors
/// When the database fails.
pub async fn copy_to_staging(
    connection: &mut PgConnection,
    table: StagingTable,
    batches: &mut mpsc::Receiver<Batch>,
) -> Result<u64, DatabaseError> {
    const OPERATION: &str = "cannot write to a staging table";
    let mut copy = connection.copy_in_raw(table.copy()).await.during(OPERATION)?;
    while let Some(batch) = batches.recv().await {
        match batch {
            Batch::Rows(rows) => {
                copy.send(rows).await.during(OPERATION)?;
            }
            Batch::Last(rows) => {
                copy.send(rows).await.during(OPERATION)?;
                return copy.finish().await.during(OPERATION);
            }
        }
    }
    copy.abort("the file could not be read to its end").await.during(OPERATION)?;
    Ok(0)
}

/// Empties the staging tables.
///
/// # Errors
/// When the database fails.
pub async fn clear_staging(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    sqlx::query!(
        "truncate staged_member, staged_subscription, staged_grant, staged_adjustment, staged_usage, staged_conflict"
    )
    .execute(connection)
    .await
    .during("cannot empty the staging tables")?;
    Ok(())
}
