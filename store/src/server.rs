//! The server and the database as a whole, for the metrics: its clock, whether it takes writes, its
//! size. Reads only.

use jiff::Timestamp;
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerState {
    pub now: Timestamp,
    /// False for a standby, and while transactions are read-only by default.
    pub writable: bool,
}

/// Reads the clock and whether the server takes writes.
///
/// # Errors
/// When the database can't be read.
pub async fn read_state(connection: &mut PgConnection) -> Result<ServerState, DatabaseError> {
    let row = sqlx::query!(
        r#"select clock_timestamp() as "now!: jiff_sqlx::Timestamp",
                  not pg_is_in_recovery() and current_setting('default_transaction_read_only') = 'off' as "writable!""#
    )
    .fetch_one(connection)
    .await
    .during("cannot read whether the database takes writes")?;
    Ok(ServerState { now: row.now.to_jiff(), writable: row.writable })
}

/// The bytes of the database on disk. Looks at every file of it, so it is not for each second.
///
/// # Errors
/// When the database can't be read.
pub async fn read_size(connection: &mut PgConnection) -> Result<i64, DatabaseError> {
    sqlx::query_scalar!(r#"select pg_database_size(current_database()) as "size!""#)
        .fetch_one(connection)
        .await
        .during("cannot read the size of the database")
}
