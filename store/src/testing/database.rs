//! A database for each test, on the PostgreSQL server that `MONTHEND_TEST_DATABASE_URL` names. The
//! role in that address must be allowed to create databases and roles.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use crate::locks::Lock;
use crate::migrate::{MigrationRequest, MigrationResult, Roles, embedded_version, migrate};
use crate::pool;

/// The environment variable with the address of the server.
pub const SERVER: &str = "MONTHEND_TEST_DATABASE_URL";

/// A migrated database that is dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: SecretString,
    /// Its address, as its owner.
    pub url: SecretString,
    pub pool: PgPool,
}

impl TestDatabase {
    /// A database of an installation in Seoul that bills in won.
    pub async fn new() -> Self {
        Self::with("Asia/Seoul", "KRW").await
    }

    /// A database of an installation with this zone and currency.
    pub async fn with(zone: &str, currency: &str) -> Self {
        let database = Self::empty().await;
        database.migrate(zone, currency).await;
        database
    }

    /// A database without a schema.
    pub async fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = std::env::var(SERVER).unwrap_or_else(|_| {
            panic!("{SERVER} must name a PostgreSQL server for tests, such as postgres://postgres@127.0.0.1:5432/postgres")
        });
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("monthend_test_{}_{count}", std::process::id());
        let url = with_database(&server, &name);
        let server = SecretString::from(server);
        administer(
            &server,
            &[format!("drop database if exists {name} with (force)"), format!("create database {name}")],
        )
        .await;
        let pool =
            pool::connect(&url, "test", 8).await.expect("the database that was just made can be reached");
        Self { name, server, url, pool }
    }

    /// Migrates the database, with the default roles.
    pub async fn migrate(&self, zone: &str, currency: &str) -> MigrationResult {
        let wanted = MigrationRequest {
            zone: domain::zone::Zone::named(zone).expect("a zone"),
            currency: currency.parse().expect("a currency"),
            locale: None,
            roles: Roles::default(),
        };
        let mut connection = self.connect().await;
        // Several test programs grant rights to the same roles at once, which the server does not
        // serialise.
        let mut attempts = 0;
        loop {
            attempts += 1;
            match migrate(&mut connection, &wanted).await {
                Ok(migrated) => return migrated,
                Err(error) if attempts < 10 && format!("{error:?}").contains("concurrently updated") => {}
                Err(error) => panic!("the test database can be migrated: {error:?}"),
            }
        }
    }

    /// Makes the database look as if another version had migrated it, one that has this many
    /// migrations more than this one, or fewer. The tables stay.
    pub async fn shift_schema_version(&self, by: i64) {
        let version = embedded_version() + by;
        self.execute(&format!(
            "delete from _sqlx_migrations where version > {version};
             insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values ({version}, 'of another version', true, '', 0) on conflict do nothing"
        ))
        .await;
    }

    /// A session that migrates the database, until it is closed. Waits for those who keep the schema as
    /// it is.
    pub async fn begin_migration(&self) -> PgConnection {
        let mut connection = self.connect().await;
        sqlx::query("select pg_advisory_lock($1)")
            .bind(Lock::Migration.key())
            .execute(&mut connection)
            .await
            .expect("the lock of migrations can be taken");
        connection
    }

    /// A connection outside the pool, for locks that belong to a session.
    pub async fn connect(&self) -> PgConnection {
        pool::connect_one(&self.url, "test").await.expect("the test database can be reached")
    }

    /// The address of the database for a session with the rights of `role`.
    #[must_use]
    pub fn url_as(&self, role: &str) -> SecretString {
        with_role(&self.url, role)
    }

    /// The address of the database for a program that logs in as `role`, as in production. Only such
    /// a session may terminate other sessions of the role.
    pub async fn login_url(&self, role: &str) -> SecretString {
        administer(&self.server, &[format!("alter role \"{role}\" login password 'test'")]).await;
        let url = self.url.expose_secret();
        let (scheme, rest) = url.split_once("://").expect("an address with a scheme");
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        SecretString::from(format!("{scheme}://{role}:test@{host}{path}"))
    }

    /// A pool of at most `max` sessions with the rights of `role`.
    pub async fn pool_as(&self, role: &str, max: u32) -> PgPool {
        pool::connect(&self.url_as(role), "test", max).await.expect("the test database can be reached")
    }

    /// A connection with the rights of `role`.
    pub async fn connect_as(&self, role: &str) -> PgConnection {
        pool::connect_one(&self.url_as(role), "test").await.expect("the test database can be reached")
    }

    /// Executes statements as the owner.
    pub async fn execute(&self, statements: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&self.pool).await;
        done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The single value that a query returns, as text; empty for null.
    pub async fn read_text(&self, query: &str) -> String {
        let query = format!("select coalesce(({query})::text, '')");
        let value = sqlx::query_scalar(AssertSqlSafe(query.clone())).fetch_one(&self.pool).await;
        value.unwrap_or_else(|error| panic!("{query}: {error}"))
    }
}

/// The same address, for a session with the rights of `role`.
#[must_use]
pub fn with_role(url: &SecretString, role: &str) -> SecretString {
    let url = url.expose_secret();
    let separator = if url.contains('?') { '&' } else { '?' };
    SecretString::from(format!("{url}{separator}options=-c%20role%3D{role}"))
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // `drop` is not async, and the test's runtime may be single-threaded: this thread has a runtime of
        // its own.
        let dropped = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(administer(&server, &[format!("drop database if exists {name} with (force)")]));
        });
        if dropped.join().is_err() && !std::thread::panicking() {
            panic!("the test database {} could not be dropped", self.name);
        }
    }
}

async fn administer(server: &SecretString, statements: &[String]) {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let connected = PgConnection::connect(server.expose_secret()).await;
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(error) => panic!("{SERVER}: cannot connect: {error}"),
        };
        let mut failure = None;
        for statement in statements {
            let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await;
            if let Err(error) = done {
                failure = Some(format!("{statement}: {error}"));
                break;
            }
        }
        match failure {
            None => return,
            // Another test copies the template at the same time, or alters the same role.
            Some(failure)
                if attempts < 100
                    && ["template1", "concurrently updated"].iter().any(|why| failure.contains(why)) =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Some(failure) => panic!("{failure}"),
        }
    }
}

/// The address of another database on the same server: the part between the last `/` and the `?` is
/// replaced.
fn with_database(url: &str, database: &str) -> SecretString {
    let (address, parameters) = url.split_once('?').map_or((url, ""), |(address, rest)| (address, rest));
    let scheme = address.find("://").map_or(0, |at| at + 3);
    let host_end = address[scheme..].find('/').map_or(address.len(), |at| scheme + at);
    let separator = if parameters.is_empty() { "" } else { "?" };
    SecretString::from(format!("{}/{database}{separator}{parameters}", &address[..host_end]))
}
