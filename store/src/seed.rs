//! Generated data, written by COPY directly to the tables from several sessions, as rows of a load
//! that is not finished yet. If the seed dies, the next load deletes its rows.

use sqlx::PgConnection;

use crate::copy::CopyRows;
use crate::error::{DatabaseError, During as _};
use crate::load::read_taken_back;
use crate::locks::Lock;

/// A table that a seed writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Members,
    Subscriptions,
    Grants,
    Adjustments,
    Usage,
}

impl Table {
    /// The statement, whose columns are the order of a row's values.
    const fn copy(self) -> &'static str {
        match self {
            Self::Members => {
                "copy member (member_id, load, locale, name, email, phone) from stdin (format binary)"
            }
            Self::Subscriptions => {
                "copy subscription (member_id, plan_code, from_date, to_date, load) from stdin (format binary)"
            }
            Self::Grants => {
                "copy discount_grant (member_id, discount_code, from_date, to_date, load) from stdin (format binary)"
            }
            Self::Adjustments => {
                "copy adjustment (adjustment_id, member_id, month, code, amount, reason, load) from stdin (format binary)"
            }
            Self::Usage => {
                "copy usage (member_id, started_at, quantity, load, kind, month, source, usage_id)
                 from stdin (format binary)"
            }
        }
    }
}

/// The number of the finished seed with these parameters, if there is one that was not taken back.
///
/// # Errors
/// When the database fails.
pub async fn find_finished_seed(
    connection: &mut PgConnection,
    fingerprint: &str,
) -> Result<Option<i64>, DatabaseError> {
    sqlx::query_scalar!(
        "select max(number) from load
         where kind = 'SEED' and state = 'FINISHED' and taken_back_by is null and fingerprint = $1",
        fingerprint
    )
    .fetch_one(connection)
    .await
    .during("cannot look for an earlier seed")
}

/// Whether the database contains any member, except members of loads that were taken back.
///
/// # Errors
/// When the database fails.
pub async fn has_members(connection: &mut PgConnection) -> Result<bool, DatabaseError> {
    let taken_back = read_taken_back(connection, i64::MAX).await?;
    sqlx::query_scalar!(
        r#"select exists (select member_id from member where load <> all($1)) as "exists!""#,
        &taken_back
    )
    .fetch_one(connection)
    .await
    .during("cannot look for members")
}

/// Records what the seed wrote, before it is finished.
///
/// # Errors
/// When the database fails.
pub async fn record_totals(connection: &mut PgConnection, number: i64) -> Result<(), DatabaseError> {
    sqlx::query!("select record_load_totals($1)", number)
        .execute(connection)
        .await
        .during("cannot record what the seed wrote")?;
    Ok(())
}

/// Marks this session as one that writes for a seed: the rows of a dead seed are deleted only when
/// it has ended.
///
/// # Errors
/// When the database fails.
pub async fn join_seed_writers(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    sqlx::query!("select pg_advisory_lock_shared($1)", Lock::SeedWriters.key())
        .execute(connection)
        .await
        .during("cannot lock the seed")?;
    Ok(())
}

/// Copies rows to a table.
///
/// # Errors
/// When the database fails; then none of these rows was written.
pub async fn copy_rows(
    connection: &mut PgConnection,
    table: Table,
    rows: CopyRows,
) -> Result<u64, DatabaseError> {
    rows.send(connection, table.copy()).await.during("cannot write generated rows")
}
