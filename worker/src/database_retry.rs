//! Repeats work on the database until it succeeds. `RetryingConnection` is one task's own connection; `retry!` runs work
//! on it. After a failure the connection is closed, and the same work runs again on a new one, after a growing delay, until it
//! succeeds, fails for good, or the task is stopped. So whatever runs here must be repeatable after a lost answer.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::PgConnection;
use store::error::{DatabaseError, During as _};
use store::notification::{self, NotificationError};
use tokio_util::sync::CancellationToken;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(10);
/// A statement takes milliseconds. One that takes this long waits for a server that has disappeared.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// One task's connection to the database.
pub(crate) struct RetryingConnection {
    database: SecretString,
    application: &'static str,
    open: Option<PgConnection>,
    /// Work on the connection has started and has not succeeded yet.
    in_use: bool,
    stop: CancellationToken,
}

/// Why repeated work ended without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetryError {
    /// Another attempt would fail too.
    #[error(transparent)]
    Fatal(#[from] NotificationError),
    #[error("stopped while the database was unavailable")]
    Stopped,
}

/// Runs `$work`, a future that has the connection as `$connection`, until it succeeds, fails for good, or is stopped.
///
/// A macro, because the compiler cannot prove that the futures of a generic function's closures are `Send`.
macro_rules! retry {
    ($retrying:expr, |$connection:ident| $work:expr) => {{
        let retrying: &mut $crate::database_retry::RetryingConnection = &mut $retrying;
        let mut failures = 0;
        loop {
            let attempt = async {
                let $connection = retrying.connection().await?;
                $work.await
            };
            match $crate::database_retry::with_timeout(attempt).await {
                Ok(result) => {
                    retrying.record_success();
                    break Ok(result);
                }
                Err(error) => {
                    if let Err(error) = retrying.record_failure(error, failures).await {
                        break Err(error);
                    }
                    failures += 1;
                }
            }
        }
    }};
}
pub(crate) use retry;

impl RetryingConnection {
    /// `application` is the name that PostgreSQL shows for the connection. Cancelling `stop` ends the attempts.
    pub(crate) fn new(database: SecretString, application: &'static str, stop: CancellationToken) -> Self {
        Self { database, application, open: None, in_use: false, stop }
    }

    /// A connection without interrupted work on it.
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, DatabaseError> {
        if self.in_use {
            self.open = None;
        }
        let connection = match self.open.take() {
            Some(connection) => connection,
            None => connect(&self.database, self.application).await?,
        };
        self.in_use = true;
        Ok(self.open.insert(connection))
    }

    pub(crate) fn record_success(&mut self) {
        self.in_use = false;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// There is no next attempt.
    pub(crate) async fn record_failure(
        &mut self,
        error: NotificationError,
        failures: u32,
    ) -> Result<(), RetryError> {
        self.open = None;
        if !error.is_transient() {
            return Err(error.into());
        }
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(failures)).min(MAX_DELAY);
        tracing::warn!(again_in_ms = delay.as_millis(), "{}", logging::chain(&error));
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.stop.cancelled() => Err(RetryError::Stopped),
        }
    }
}

async fn connect(database: &SecretString, application: &str) -> Result<PgConnection, DatabaseError> {
    let pool = notification::connect(database, application, 1).await?;
    Ok(pool.acquire().await.during("cannot connect to the database")?.detach())
}

/// Fails an attempt that takes longer than `ATTEMPT_TIMEOUT`.
pub(crate) async fn with_timeout<T>(
    attempt: impl Future<Output = Result<T, NotificationError>>,
) -> Result<T, NotificationError> {
    match tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await {
        Ok(result) => result,
        Err(_) => {
            let seconds = ATTEMPT_TIMEOUT.as_secs();
            let operation = format!("the database took longer than {seconds} s").into();
            Err(DatabaseError { operation, source: sqlx::Error::PoolTimedOut }.into())
        }
    }
}
