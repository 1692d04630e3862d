//! The newest load, for the metrics. Reads only.

use jiff::Timestamp;
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _};

/// When the newest load finished whose rows count: neither a take-back nor one that was taken back.
/// None before the first.
///
/// # Errors
/// When the database can't be read.
pub async fn read_newest(connection: &mut PgConnection) -> Result<Option<Timestamp>, DatabaseError> {
    let finished = sqlx::query_scalar!(
        r#"select finished_at as "finished_at!: jiff_sqlx::Timestamp" from load
           where state = 'FINISHED' and kind <> 'TAKE_BACK' and taken_back_by is null
           order by number desc limit 1"#
    )
    .fetch_optional(connection)
    .await
    .during("cannot read when the newest load finished")?;
    Ok(finished.map(jiff_sqlx::Timestamp::to_jiff))
}
