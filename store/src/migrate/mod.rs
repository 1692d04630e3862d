//! The schema: brings a database to this version's, fixes what an installation is, and grants each role what it needs.
//! Everything here may be repeated.

use domain::money::Currency;
use domain::zone::Zone;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::{During as _, StoreError};
use crate::installation::{self, Installation, Locale};
use crate::locks::Lock;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");
const GRANTS: &str = include_str!("grants.sql");

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The installation is another one than was asked for. For good: its amounts and months are written in it.
    #[error("{0}")]
    OtherInstallation(String),
    #[error("cannot migrate the database")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error(
        "role {role} is missing and cannot be made by the migrating role: as an administrator run `CREATE ROLE \"{role}\" \
         LOGIN PASSWORD '…'`"
    )]
    RoleMissing { role: String },
    #[error("`{0}` is not a role name: [a-z_][a-z0-9_]{{0,62}}")]
    RoleName(String),
}

impl From<crate::error::DatabaseError> for MigrateError {
    fn from(error: crate::error::DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

impl MigrateError {
    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Migration(sqlx::migrate::MigrateError::Execute(sqlx::Error::Io(_))) => true,
            _ => false,
        }
    }
}

/// The roles that are granted what they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    operator: String,
    worker: String,
}

impl Roles {
    /// # Errors
    /// A name that isn't plain lower-case letters, digits and underscores.
    pub fn new(operator: &str, worker: &str) -> Result<Self, MigrateError> {
        for name in [operator, worker] {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            let begins = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
            if !begins || name.len() > 63 || !name.bytes().all(plain) {
                return Err(MigrateError::RoleName(name.to_owned()));
            }
        }
        Ok(Self { operator: operator.to_owned(), worker: worker.to_owned() })
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self { operator: "monthend_operator".to_owned(), worker: "monthend_worker".to_owned() }
    }
}

/// What a migration asks for.
#[derive(Clone, Debug)]
pub struct MigrationRequest {
    pub zone: Zone,
    pub currency: Currency,
    /// None: what the installation has, or else Korean.
    pub locale: Option<Locale>,
    pub roles: Roles,
}

/// What a migration found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationResult {
    /// The version before; none: an empty database.
    pub from: Option<i64>,
    pub to: i64,
    pub installation: Installation,
}

/// The schema version that this program was built with.
#[must_use]
pub fn embedded_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The schema version of the database, or none when it was never migrated.
///
/// # Errors
/// The database could not be read.
pub async fn schema_version(connection: &mut PgConnection) -> Result<Option<i64>, StoreError> {
    const OPERATION: &str = "cannot read the schema's version";
    let exists = sqlx::query_scalar!(r#"select to_regclass('_sqlx_migrations') is not null as "exists!""#)
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
    if !exists {
        return Ok(None);
    }
    // Not `query!`: the table is the migrator's own and no part of the migrations.
    let version =
        sqlx::query_scalar::<_, Option<i64>>("select max(version) from _sqlx_migrations where success")
            .fetch_one(connection)
            .await
            .during(OPERATION)?;
    Ok(version)
}

/// Refuses to work on another schema than this program's.
///
/// # Errors
/// The versions differ, or the database could not be read.
pub async fn check_version(connection: &mut PgConnection) -> Result<(), StoreError> {
    let (found, own) = (schema_version(connection).await?, embedded_version());
    match found {
        Some(found) if found == own => Ok(()),
        Some(found) if found > own => Err(StoreError::State(format!(
            "the database has schema version {found}, this program is of version {own}: use the newer program"
        ))),
        Some(found) => Err(StoreError::State(format!(
            "the database has schema version {found}, this program needs version {own}: run `monthend migrate`"
        ))),
        None => {
            Err(StoreError::State("the database is not an installation yet: run `monthend migrate`".into()))
        }
    }
}

/// Brings the database to this version. Others that do so wait.
///
/// # Errors
/// Another zone, currency or locale than the installation's, a role that can't be made, or a database that refuses.
pub async fn migrate(
    connection: &mut PgConnection,
    wanted: &MigrationRequest,
) -> Result<MigrationResult, MigrateError> {
    let key = Lock::Migration.key();
    sqlx::query!("select pg_advisory_lock($1)", key)
        .execute(&mut *connection)
        .await
        .during("cannot wait for other migrations")?;
    let migrated = migrate_alone(connection, wanted).await;
    // On an error the session, and the lock with it, ends with the process; what failed first is what is told.
    let unlocked = sqlx::query_scalar!("select pg_advisory_unlock($1)", key)
        .fetch_one(&mut *connection)
        .await
        .during("cannot let the next migration go on");
    let migrated = migrated?;
    unlocked?;
    Ok(migrated)
}

async fn migrate_alone(
    connection: &mut PgConnection,
    wanted: &MigrationRequest,
) -> Result<MigrationResult, MigrateError> {
    let from = schema_version(connection).await?;
    // Before anything is changed: a database of another zone or currency is left as it is.
    let found = installation::find(connection).await?;
    let installation = match found.clone() {
        Some(found) => same_installation(found, wanted)?,
        None => Installation {
            zone: wanted.zone.clone(),
            currency: wanted.currency,
            locale: wanted.locale.unwrap_or(Locale::Ko),
        },
    };
    MIGRATIONS.run(&mut *connection).await?;
    if found.is_none() {
        installation::write(connection, &installation).await?;
    }
    for role in [&wanted.roles.operator, &wanted.roles.worker] {
        ensure_role(connection, role).await?;
    }
    let grants = GRANTS
        .replace(":operator", &format!("\"{}\"", wanted.roles.operator))
        .replace(":worker", &format!("\"{}\"", wanted.roles.worker));
    // The text is this program's own; the names were checked when `Roles` was made. One message: one transaction.
    sqlx::raw_sql(AssertSqlSafe(grants))
        .execute(connection)
        .await
        .during("cannot grant the roles what they need")?;
    Ok(MigrationResult { from, to: embedded_version(), installation })
}

fn same_installation(found: Installation, wanted: &MigrationRequest) -> Result<Installation, MigrateError> {
    let other = |what: &str, found: &str, wanted: &str| {
        Err(MigrateError::OtherInstallation(format!(
            "this database is an installation with {what} {found}, not {wanted}: the {what} never changes; \
             use {found}, or another database"
        )))
    };
    if found.zone != wanted.zone {
        return other("time zone", found.zone.name(), wanted.zone.name());
    }
    if found.currency != wanted.currency {
        return other("currency", found.currency.code(), wanted.currency.code());
    }
    match wanted.locale {
        Some(locale) if locale != found.locale => other("locale", found.locale.as_str(), locale.as_str()),
        _ => Ok(found),
    }
}

async fn ensure_role(connection: &mut PgConnection, role: &str) -> Result<(), MigrateError> {
    let exists =
        sqlx::query_scalar!(r#"select exists (select from pg_roles where rolname = $1) as "exists!""#, role)
            .fetch_one(&mut *connection)
            .await
            .during("cannot look for a role")?;
    if exists {
        return Ok(());
    }
    let create = AssertSqlSafe(format!("create role \"{role}\" nologin"));
    match sqlx::raw_sql(create).execute(connection).await {
        Ok(_) => Ok(()),
        // Roles belong to the whole server: somebody who migrates another database made it meanwhile.
        Err(sqlx::Error::Database(error))
            if ["42710", "23505"].contains(&error.code().as_deref().unwrap_or("")) =>
        {
            Ok(())
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
            Err(MigrateError::RoleMissing { role: role.to_owned() })
        }
        Err(error) => Err(error).during(format!("cannot make role {role}")).map_err(Into::into),
    }
}
