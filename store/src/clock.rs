//! The database's clock. It decides everything that depends on time, such as whether a month is
//! over.

use jiff::Timestamp;
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _};

/// The current time of the database.
///
/// # Errors
/// When the database can't be read.
pub async fn now(connection: &mut PgConnection) -> Result<Timestamp, DatabaseError> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!: jiff_sqlx::Timestamp""#)
        .fetch_one(connection)
        .await
        .during("cannot read the database's clock")?;
    Ok(now.to_jiff())
}
