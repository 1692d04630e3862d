//! Whether the database has the schema of this program. Every process asks before it works, and a
//! transaction can ask that it stays so until its end.

use std::error::Error;
use std::fmt;

use sqlx::PgConnection;

use super::MIGRATIONS;
use crate::error::{DatabaseError, During as _, StoreError};
use crate::locks::Lock;

const READ_VERSION: &str = "cannot read the schema's version";

/// The database has another schema version than this program, which must not work with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherSchema {
    /// The version of the database; none if it was never migrated.
    pub found: Option<i64>,
    /// The version of this program.
    pub own: i64,
}

impl fmt::Display for OtherSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own;
        match self.found {
            None => write!(
                f,
                "the database has no installation yet, this program needs schema version {own}: run `monthend migrate`"
            ),
            Some(found) if found < own => write!(
                f,
                "the database has schema version {found}, this program needs version {own}: run `monthend migrate`"
            ),
            Some(found) => write!(
                f,
                "the database has schema version {found}, this program needs version {own}: use the image of the monthend \
                 version that migrated the database"
            ),
        }
    }
}

impl Error for OtherSchema {}

/// The schema version of this program.
#[must_use]
pub fn embedded_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The schema version of the database; none when it was never migrated.
///
/// # Errors
/// When the database can't be read.
pub async fn schema_version(connection: &mut PgConnection) -> Result<Option<i64>, StoreError> {
    let exists = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#)
        .fetch_one(&mut *connection)
        .await
        .during(READ_VERSION)?;
    if !exists {
        return Ok(None);
    }
    Ok(last_migration(connection).await?)
}

/// Fails unless the database has the schema version of this program.
///
/// # Errors
/// [`StoreError::OtherSchema`] when the versions differ; otherwise when the database can't be read.
pub async fn check_version(connection: &mut PgConnection) -> Result<(), StoreError> {
    compare(schema_version(connection).await?)
}

/// Fails unless the database has the schema version of this program, and keeps it until the
/// transaction ends: a migration waits for that, and this waits for a migration.
///
/// # Errors
/// [`StoreError::OtherSchema`] when the versions differ; otherwise when the database fails.
pub(crate) async fn hold_version(tx: &mut PgConnection) -> Result<(), StoreError> {
    // A statement of its own: what the next one reads must be of a time after the lock was taken.
    sqlx::query!("select pg_advisory_xact_lock_shared($1)", Lock::Migration.key())
        .execute(&mut *tx)
        .await
        .during("cannot keep the schema from being migrated")?;
    compare(last_migration(tx).await?)
}

/// Fails if the database has a newer schema than this program, which could not migrate it.
pub(super) fn refuse_newer(found: Option<i64>) -> Result<(), StoreError> {
    if found > Some(embedded_version()) { compare(found) } else { Ok(()) }
}

async fn last_migration(connection: &mut PgConnection) -> Result<Option<i64>, DatabaseError> {
    // Not `query!`: the table belongs to the migrator, not to the migrations.
    sqlx::query_scalar::<_, Option<i64>>("select max(version) from _sqlx_migrations where success")
        .fetch_one(connection)
        .await
        .during(READ_VERSION)
}

fn compare(found: Option<i64>) -> Result<(), StoreError> {
    let own = embedded_version();
    if found == Some(own) { Ok(()) } else { Err(OtherSchema { found, own }.into()) }
}
