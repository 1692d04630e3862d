//! Members as they are stored: encrypted.

use domain::ids::MemberId;
use sqlx::PgConnection;

use crate::error::{During as _, StoreError};

/// The encrypted name of one member, if there is any: enough to test whether the given keys are the
/// right ones.
///
/// # Errors
/// When the database can't be read.
pub async fn any_sealed_name(
    connection: &mut PgConnection,
) -> Result<Option<(MemberId, Vec<u8>)>, StoreError> {
    let row = sqlx::query!("select member_id, name from member order by member_id desc, load desc limit 1")
        .fetch_optional(connection)
        .await
        .during("cannot read a member")?;
    row.map(|row| {
        let id = MemberId::try_from(row.member_id).map_err(|error| {
            StoreError::State(format!("a member of the database has a wrong id: {error}"))
        })?;
        Ok((id, row.name))
    })
    .transpose()
}
