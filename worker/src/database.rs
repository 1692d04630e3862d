//! Opens the connections of the commands: to a database of this program's schema, and to no other.

use secrecy::SecretString;
use sqlx::PgConnection;
use store::error::StoreError;
use store::{migrate, pool};

/// A connection to a database that has the schema version of this program. `application` is the
/// name that PostgreSQL shows for it.
///
/// # Errors
/// The address cannot be read, the database cannot be reached, or it has another schema version.
pub(crate) async fn connect(url: &SecretString, application: &str) -> Result<PgConnection, StoreError> {
    let mut connection = pool::connect_one(url, application).await?;
    migrate::check_version(&mut connection).await?;
    Ok(connection)
}
