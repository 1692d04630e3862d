//! A private PostgreSQL server for benchmarks: durable (fsync and synchronous commit are on), with
//! enough memory for the working set.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::migrate::{MigrationRequest, Roles, migrate};
use test_servers::Postgres;

use crate::process_stats;

/// Autovacuum is off because it would start at random times. Each measurement vacuums first
/// instead.
const SETTINGS: &str = "
shared_buffers = '2GB'
max_wal_size = '8GB'
checkpoint_timeout = '30min'
maintenance_work_mem = '512MB'
fsync = on
synchronous_commit = on
autovacuum = off
";

pub(crate) struct Server(Postgres);

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Ok(Self(Postgres::start(SETTINGS)?))
    }

    /// A folder that both the server and this program can write to.
    pub(crate) fn folder(&self) -> &Path {
        self.0.folder()
    }

    pub(crate) fn url(&self, database: &str) -> SecretString {
        SecretString::from(self.0.url(database))
    }

    /// Creates and migrates a database for an installation.
    pub(crate) async fn database(
        &self,
        name: &str,
        wanted: &MigrationRequest,
    ) -> anyhow::Result<SecretString> {
        execute(&self.url("postgres"), &format!("create database {name}")).await?;
        let url = self.url(name);
        migrate(&mut connect(&url).await?, wanted).await?;
        Ok(url)
    }

    /// CPU time of all processes of the server so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        process_stats::cpu_of_tree(self.0.process()?)
    }
}

pub(crate) fn wanted(zone: &str, currency: &str) -> anyhow::Result<MigrationRequest> {
    Ok(MigrationRequest {
        zone: domain::zone::Zone::named(zone)?,
        currency: currency.parse()?,
        locale: None,
        roles: Roles::default(),
    })
}

pub(crate) async fn connect(url: &SecretString) -> anyhow::Result<PgConnection> {
    Ok(store::pool::connect_one(url, "bench").await?)
}

/// Runs statements on a new connection.
pub(crate) async fn execute(url: &SecretString, statements: &str) -> anyhow::Result<()> {
    let mut connection = connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .with_context(|| format!("cannot run `{statements}`"))?;
    Ok(connection.close().await?)
}

/// The single value that a query returns.
pub(crate) async fn query_value(database: &SecretString, query: &str) -> anyhow::Result<i64> {
    let mut connection = connect(database).await?;
    Ok(sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await?)
}
