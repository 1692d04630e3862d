//! The installation: one row with its time zone, currency and default locale.

use std::fmt;

pub use domain::locale::Locale;
use domain::money::Currency;
use domain::zone::Zone;
use sqlx::PgConnection;

use crate::error::{During as _, StoreError};

/// What is fixed when the database is first migrated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    pub zone: Zone,
    pub currency: Currency,
    /// The locale of members without one of their own.
    pub locale: Locale,
}

/// Reads the installation.
///
/// # Errors
/// When the database was never migrated, can't be read, or contains a zone, currency or locale that
/// this version does not know.
pub async fn read(connection: &mut PgConnection) -> Result<Installation, StoreError> {
    find(connection).await?.ok_or_else(|| {
        StoreError::State("the database has no installation yet: run `monthend migrate`".into())
    })
}

pub(crate) async fn find(connection: &mut PgConnection) -> Result<Option<Installation>, StoreError> {
    const OPERATION: &str = "cannot read the installation";
    let exists = sqlx::query_scalar!(r#"select to_regclass('installation') is not null as "exists!""#)
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
    if !exists {
        return Ok(None);
    }
    let row = sqlx::query!("select time_zone, currency, locale from installation")
        .fetch_optional(connection)
        .await
        .during(OPERATION)?;
    let Some(row) = row else { return Ok(None) };
    let unusable = |error: &dyn fmt::Display| StoreError::State(format!("{OPERATION}: {error}"));
    Ok(Some(Installation {
        zone: Zone::named(&row.time_zone).map_err(|e| unusable(&e))?,
        currency: row.currency.parse().map_err(|e| unusable(&e))?,
        locale: row.locale.parse().map_err(|e| unusable(&e))?,
    }))
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    installation: &Installation,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into installation (time_zone, currency, locale) values ($1, $2, $3)",
        installation.zone.name(),
        installation.currency.code(),
        installation.locale.as_str(),
    )
    .execute(connection)
    .await
    .during("cannot write the installation")?;
    Ok(())
}
