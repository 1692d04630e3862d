//! Migrates a database to the schema of this version, writes the installation, and grants each role
//! its rights. All of it can be repeated. [`version`] compares the database's schema with this
//! program's.

mod version;

use domain::money::Currency;
use domain::zone::Zone;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgConnection};

pub(crate) use self::version::hold_version;
pub use self::version::{OtherSchema, check_version, embedded_version, schema_version};
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
    /// The database is an installation with another zone, currency or locale, which never change:
    /// its amounts and months depend on them.
    #[error("{0}")]
    OtherInstallation(String),
    #[error("cannot migrate the database")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error(
        "role {role} does not exist and the migrating role cannot create it: as an administrator run `CREATE ROLE \"{role}\" \
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
    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Migration(sqlx::migrate::MigrateError::Execute(sqlx::Error::Io(_))) => true,
            _ => false,
        }
    }
}

/// The roles of operator and worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    operator: String,
    worker: String,
}

impl Roles {
    /// # Errors
    /// When a name contains other characters than lower-case letters, digits and underscores, or
    /// starts with a digit.
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

/// What the caller of [`migrate`] wants the installation to be.
#[derive(Clone, Debug)]
pub struct MigrationRequest {
    pub zone: Zone,
    pub currency: Currency,
    /// None: the locale of the installation, or Korean for a new one.
    pub locale: Option<Locale>,
    pub roles: Roles,
}

/// The result of [`migrate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationResult {
    /// The schema version before; none for an empty database.
    pub from: Option<i64>,
    pub to: i64,
    pub installation: Installation,
}

/// Migrates the database. Concurrent migrations wait for each other, and for the transactions that
/// keep the schema as it is.
///
/// # Errors
/// When the database has a newer schema, the installation has another zone, currency or locale, a
/// role can't be created, or the database fails.
pub async fn migrate(
    connection: &mut PgConnection,
    request: &MigrationRequest,
) -> Result<MigrationResult, MigrateError> {
    let key = Lock::Migration.key();
    sqlx::query!("select pg_advisory_lock($1)", key)
        .execute(&mut *connection)
        .await
        .during("cannot take the lock of migrations")?;
    let migrated = migrate_locked(connection, request).await;
    // After an error the lock is released when the session ends; the first error is the one to return.
    let unlocked = sqlx::query_scalar!("select pg_advisory_unlock($1)", key)
        .fetch_one(&mut *connection)
        .await
        .during("cannot release the lock of migrations");
    let migrated = migrated?;
    unlocked?;
    Ok(migrated)
}

async fn migrate_locked(
    connection: &mut PgConnection,
    request: &MigrationRequest,
) -> Result<MigrationResult, MigrateError> {
    let from = schema_version(connection).await?;
    version::refuse_newer(from)?;
    // Checked first, so that a database with another zone or currency is not changed.
    let found = installation::find(connection).await?;
    let installation = match found.clone() {
        Some(found) => same_installation(found, request)?,
        None => Installation {
            zone: request.zone.clone(),
            currency: request.currency,
            locale: request.locale.unwrap_or(Locale::KO),
        },
    };
    MIGRATIONS.run(&mut *connection).await?;
    if found.is_none() {
        installation::write(connection, &installation).await?;
    }
    for role in [&request.roles.operator, &request.roles.worker] {
        ensure_role(connection, role).await?;
    }
    let grants = GRANTS
        .replace(":operator", &format!("\"{}\"", request.roles.operator))
        .replace(":worker", &format!("\"{}\"", request.roles.worker));
    // The text is part of this program, and `Roles` has checked the names. One message is one
    // transaction.
    sqlx::raw_sql(AssertSqlSafe(grants))
        .execute(connection)
        .await
        .during("cannot grant rights to the roles")?;
    Ok(MigrationResult { from, to: embedded_version(), installation })
}

fn same_installation(found: Installation, request: &MigrationRequest) -> Result<Installation, MigrateError> {
    let other = |what: &str, found: &str, wanted: &str| {
        Err(MigrateError::OtherInstallation(format!(
            "this database is an installation with {what} {found}, not {wanted}: the {what} never changes; \
             use {found}, or another database"
        )))
    };
    if found.zone != request.zone {
        return other("time zone", found.zone.name(), request.zone.name());
    }
    if found.currency != request.currency {
        return other("currency", found.currency.code(), request.currency.code());
    }
    match request.locale {
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
        // Roles belong to the whole server: a migration of another database may have created it meanwhile.
        Err(sqlx::Error::Database(error))
            if ["42710", "23505"].contains(&error.code().as_deref().unwrap_or("")) =>
        {
            Ok(())
        }
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => {
            Err(MigrateError::RoleMissing { role: role.to_owned() })
        }
        Err(error) => Err(error).during(format!("cannot create role {role}")).map_err(Into::into),
    }
}
