//! A connection to the database that one task has for itself, and how it gets over trouble: a connection that failed is
//! dropped, never mended, and the same work is done again on another one, later and later, until it is done or nobody
//! wants it any more. So whatever runs here must bear being repeated after an answer that got lost.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::PgConnection;
use store::error::{DatabaseError, During as _};
use store::notification::{self, NotificationError};
use tokio_util::sync::CancellationToken;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Statements take milliseconds; one that takes this long waits for a server that went away silently.
const TO_GIVE_UP: Duration = Duration::from_secs(30);

/// One task's connection.
pub(crate) struct Link {
    database: SecretString,
    open: Option<PgConnection>,
    /// Work on the connection was begun and has not come to a good end.
    in_use: bool,
    given_up: CancellationToken,
}

/// Why work on a link ended without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// Nothing that another try could change.
    #[error(transparent)]
    Fatal(#[from] NotificationError),
    #[error("told to stop while the database was away")]
    GivenUp,
}

/// Does `$work`, a future that has the connection as `$connection`, as often as it takes.
///
/// A macro, as the compiler can't see that the futures of a generic function's closures may be sent to other threads.
macro_rules! insist {
    ($link:expr, |$connection:ident| $work:expr) => {{
        let link: &mut $crate::notify::link::Link = &mut $link;
        let mut failures = 0;
        loop {
            let attempt = async {
                let $connection = link.connection().await?;
                $work.await
            };
            match $crate::notify::link::in_time(attempt).await {
                Ok(result) => {
                    link.worked();
                    break Ok(result);
                }
                Err(failure) => {
                    if let Err(error) = link.failed(failure, failures).await {
                        break Err(error);
                    }
                    failures += 1;
                }
            }
        }
    }};
}
pub(crate) use insist;

impl Link {
    /// Trying again ends when `given_up` is cancelled.
    pub(crate) fn new(database: SecretString, given_up: CancellationToken) -> Self {
        Self { database, open: None, in_use: false, given_up }
    }

    /// A connection on which nothing was broken off.
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, DatabaseError> {
        if self.in_use {
            self.open = None;
        }
        let connection = match self.open.take() {
            Some(connection) => connection,
            None => connect(&self.database).await?,
        };
        self.in_use = true;
        Ok(self.open.insert(connection))
    }

    pub(crate) fn worked(&mut self) {
        self.in_use = false;
    }

    /// Waits before the next try, if there is to be one.
    pub(crate) async fn failed(
        &mut self,
        failure: NotificationError,
        failures: u32,
    ) -> Result<(), LinkError> {
        self.open = None;
        if !failure.is_transient() {
            return Err(failure.into());
        }
        let delay = FIRST_DELAY.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_DELAY);
        tracing::warn!(again_in_ms = delay.as_millis(), "{}", logging::chain(&failure));
        tokio::select! {
            () = tokio::time::sleep(delay) => Ok(()),
            () = self.given_up.cancelled() => Err(LinkError::GivenUp),
        }
    }
}

async fn connect(database: &SecretString) -> Result<PgConnection, DatabaseError> {
    let pool = notification::connect(database, "monthend notify", 1).await?;
    Ok(pool.acquire().await.during("cannot connect to the database")?.detach())
}

pub(crate) async fn in_time<T>(
    attempt: impl Future<Output = Result<T, NotificationError>>,
) -> Result<T, NotificationError> {
    match tokio::time::timeout(TO_GIVE_UP, attempt).await {
        Ok(result) => result,
        Err(_) => {
            let operation = format!("the database took longer than {} s", TO_GIVE_UP.as_secs()).into();
            Err(DatabaseError { operation, source: sqlx::Error::PoolTimedOut }.into())
        }
    }
}
