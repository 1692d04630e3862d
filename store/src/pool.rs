//! Connections to the server: their settings and time-outs.

use std::str::FromStr as _;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection, PgPool};

use crate::error::{DatabaseError, During as _};

/// Longer than a failover of the server takes.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a session may hold a transaction open, with its locks, without a statement: the server
/// then ends it. A process that is frozen (SIGSTOP, a paused container, a suspended node) keeps its
/// connection, so nothing else would end it, and a consumer's transaction would keep issuing and
/// rolling back waiting (`hand_over_lock`). One value for all processes: between two statements of
/// a transaction they only compute (price a chunk, decrypt a page), at most for some seconds, and
/// never wait for a broker or a mail server. A vanished machine gets as long, below.
///
/// There is no limit for statements or for waiting for a lock: merging a load, indexing a month's
/// usage and verifying take as long as the data is large, and who holds a lock is ended by this
/// limit or when its client is gone.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "60s";

/// The same for a load, which writes the rejected lines to files before it commits. No bill and no
/// e-mail waits for its locks.
const LOAD_IDLE_IN_TRANSACTION_TIMEOUT: &str = "600s";

/// A pool of at most `max` connections. The first one is opened now, so that a wrong address is
/// reported at once.
///
/// # Errors
/// When the address can't be parsed, or the database can't be reached.
pub async fn connect(url: &SecretString, application: &str, max: u32) -> Result<PgPool, DatabaseError> {
    connect_with(url, application, max, &[]).await
}

/// The same, with settings of the server for each session.
pub(crate) async fn connect_with(
    url: &SecretString,
    application: &str,
    max: u32,
    settings: &[(&str, &str)],
) -> Result<PgPool, DatabaseError> {
    PgPoolOptions::new()
        .max_connections(max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options(url, application)?.options(settings.iter().copied()))
        .await
        .during("cannot connect to the database")
}

/// A pool that opens its first connection when it is needed, and fails if no connection is
/// available within `acquire_timeout`.
///
/// # Errors
/// When the address can't be parsed.
pub fn connect_lazily(
    url: &SecretString,
    application: &str,
    max: u32,
    acquire_timeout: Duration,
) -> Result<PgPool, DatabaseError> {
    let options = options(url, application)?;
    Ok(PgPoolOptions::new().max_connections(max).acquire_timeout(acquire_timeout).connect_lazy_with(options))
}

/// One connection outside a pool, for what belongs to a session: advisory locks, COPY, long
/// transactions.
///
/// # Errors
/// When the address can't be parsed, or the database can't be reached.
pub async fn connect_one(url: &SecretString, application: &str) -> Result<PgConnection, DatabaseError> {
    connect_one_with(options(url, application)?).await
}

/// The connection of a load.
///
/// # Errors
/// When the address can't be parsed, or the database can't be reached.
pub async fn connect_for_load(url: &SecretString, application: &str) -> Result<PgConnection, DatabaseError> {
    // The last of several values counts.
    let timeout = [("idle_in_transaction_session_timeout", LOAD_IDLE_IN_TRANSACTION_TIMEOUT)];
    connect_one_with(options(url, application)?.options(timeout)).await
}

async fn connect_one_with(connect: PgConnectOptions) -> Result<PgConnection, DatabaseError> {
    match tokio::time::timeout(ACQUIRE_TIMEOUT, connect.connect()).await {
        Ok(connection) => connection,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
    .during("cannot connect to the database")
}

fn options(url: &SecretString, application: &str) -> Result<PgConnectOptions, DatabaseError> {
    let options = PgConnectOptions::from_str(url.expose_secret())
        .during("cannot read the database's address (postgres://ROLE:PASSWORD@HOST:PORT/DATABASE)")?
        .application_name(application)
        // The server ends the session of a client whose machine vanished within a minute, and of a killed
        // process within a second, even while its statement waits for a lock. Then the locks of the
        // session are free.
        .options([
            ("client_connection_check_interval", "1s"),
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
        ])
        .disable_statement_logging();
    Ok(options)
}
