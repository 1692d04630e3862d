//! Repeats work on the database while the database is unavailable. This is the only place that
//! knows how often and for how long: every command and every task of a consumer comes here.
//!
//! Work that is repeated must be repeatable: its first attempt may have succeeded, and only the
//! answer was lost.
//!
//! - [`retry!`] repeats an attempt; [`DatabaseRetries`] counts its failures, waits, and gives up.
//! - [`RetryingConnection`] is one task's own connection, opened again after each failure.
//! - [`DatabaseRetryPolicy::within_timeout`] fails work that waits for a server that has
//!   disappeared without closing the connection.

use std::time::Duration;

use domain::backoff::Backoff;
use futures::future::BoxFuture;
use secrecy::SecretString;
use sqlx::PgConnection;
use store::billing::BillingError;
use store::error::{DatabaseError, StoreError};
use store::migrate::MigrateError;
use store::notification::NotificationError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::shutdown::stopped_within;

/// How often and for how long to try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DatabaseRetryPolicy {
    backoff: Backoff,
    /// How long failures in a row may last; none: without limit.
    give_up_after: Option<Duration>,
    /// How long one unit of work may take; none: as long as it takes.
    timeout: Option<Duration>,
}

impl DatabaseRetryPolicy {
    /// For a worker of a Job: a restart of PostgreSQL must not cost the Job an attempt, but the Job
    /// must end some day. Units of work are chunks of at most some thousand members, which take
    /// seconds.
    pub(crate) const JOB: Self = Self {
        backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
        give_up_after: Some(Duration::from_secs(600)),
        timeout: Some(Duration::from_secs(600)),
    };
    /// For a consumer, which never gives up. Units of work are statements that take milliseconds.
    pub(crate) const CONSUMER: Self = Self {
        backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
        give_up_after: None,
        timeout: Some(Duration::from_secs(30)),
    };
    /// For a migration, which often starts before its database does: two minutes are enough for a
    /// pod with a volume to be moved. A migration itself may take as long as the tables are
    /// large.
    pub(crate) const MIGRATION: Self = Self {
        backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(1)),
        give_up_after: Some(Duration::from_secs(120)),
        timeout: None,
    };

    /// Runs a unit of work.
    ///
    /// # Errors
    /// The work's own error, or a transient one when it takes longer than the policy allows.
    pub(crate) async fn within_timeout<T, E: From<DatabaseError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(timeout) = self.timeout else { return work.await };
        match tokio::time::timeout(timeout, work).await {
            Ok(result) => result,
            Err(_) => {
                let operation = format!("the database did not answer within {} s", timeout.as_secs()).into();
                let source = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                Err(DatabaseError { operation, source }.into())
            }
        }
    }

    #[cfg(test)]
    pub(crate) const fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }
}

/// An error of work that can be repeated.
pub(crate) trait Retryable: std::error::Error + 'static {
    /// Whether another attempt may succeed.
    fn is_transient(&self) -> bool;
}

macro_rules! retryable {
    ($($error:ty),+) => { $(impl Retryable for $error {
        fn is_transient(&self) -> bool {
            self.is_transient()
        }
    })+ };
}
retryable!(BillingError, DatabaseError, MigrateError, NotificationError);

/// Why repeated work ended without a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetryError<E: std::error::Error + 'static = NotificationError> {
    /// Another attempt would fail too.
    #[error(transparent)]
    Fatal(E),
    /// The failures lasted longer than the policy allows; this was the last one.
    #[error("the database was unavailable for too long")]
    GaveUp(#[source] E),
    #[error("stopped while the database was unavailable")]
    Stopped,
}

/// The failures in a row of one task.
#[derive(Debug)]
pub(crate) struct DatabaseRetries {
    policy: DatabaseRetryPolicy,
    stop: CancellationToken,
    failures: u32,
    failing_since: Option<Instant>,
}

impl DatabaseRetries {
    /// Cancelling `stop` ends the attempts.
    pub(crate) fn new(policy: DatabaseRetryPolicy, stop: CancellationToken) -> Self {
        Self { policy, stop, failures: 0, failing_since: None }
    }

    pub(crate) fn policy(&self) -> DatabaseRetryPolicy {
        self.policy
    }

    /// The next failure is the first one again.
    pub(crate) fn record_success(&mut self) {
        self.failures = 0;
        self.failing_since = None;
    }

    /// Logs the failure and waits before the next attempt.
    ///
    /// # Errors
    /// There is no next attempt.
    pub(crate) async fn record_failure<E: Retryable>(&mut self, error: E) -> Result<(), RetryError<E>> {
        if !error.is_transient() {
            return Err(RetryError::Fatal(error));
        }
        self.failures = self.failures.saturating_add(1);
        let delay = self.policy.backoff.after(self.failures);
        let failing = self.failing_since.get_or_insert_with(Instant::now).elapsed();
        if self.policy.give_up_after.is_some_and(|limit| failing + delay > limit) {
            return Err(RetryError::GaveUp(error));
        }
        tracing::warn!(retry_in_ms = delay.as_millis(), "{}", logging::chain(&error));
        if stopped_within(delay, &self.stop).await { Err(RetryError::Stopped) } else { Ok(()) }
    }
}

/// Repeats an attempt until it succeeds, fails for good, or is stopped: a `Result` with a
/// [`RetryError`].
///
/// - `retry!(retries, attempt)`: `attempt` is an expression for a future, evaluated for each
///   attempt.
/// - `retry!(connection, |c| work)`: `work` is such an expression too, and has the
///   [`RetryingConnection`]'s connection as `c`. Each attempt has the policy's time-out.
///
/// A macro, because the compiler cannot prove that the futures of a generic function's closures are
/// `Send`.
macro_rules! retry {
    ($retrying:expr, |$connection:ident| $work:expr) => {{
        let retrying: &mut $crate::database_retry::RetryingConnection = &mut $retrying;
        let policy = retrying.policy();
        $crate::database_retry::retry!(
            retrying,
            policy.within_timeout(async {
                let $connection = retrying.connection().await?;
                $work.await
            })
        )
    }};
    ($retries:expr, $attempt:expr) => {
        loop {
            match $attempt.await {
                Ok(result) => {
                    $retries.record_success();
                    break Ok(result);
                }
                Err(error) => {
                    if let Err(error) = $retries.record_failure(error).await {
                        break Err(error);
                    }
                }
            }
        }
    };
}
pub(crate) use retry;

/// Opens a connection.
pub(crate) type Connect = for<'a> fn(&'a SecretString) -> BoxFuture<'a, Result<PgConnection, StoreError>>;

/// One task's connection to the database.
pub(crate) struct RetryingConnection {
    database: SecretString,
    connect: Connect,
    retries: DatabaseRetries,
    open: Option<PgConnection>,
    /// Work on the connection has started and has not succeeded yet.
    in_use: bool,
}

impl RetryingConnection {
    pub(crate) fn new(database: SecretString, connect: Connect, retries: DatabaseRetries) -> Self {
        Self { database, connect, retries, open: None, in_use: false }
    }

    pub(crate) fn policy(&self) -> DatabaseRetryPolicy {
        self.retries.policy()
    }

    /// A connection without interrupted work on it.
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        if self.in_use {
            self.open = None;
        }
        let connection = match self.open.take() {
            Some(connection) => connection,
            None => (self.connect)(&self.database).await?,
        };
        self.in_use = true;
        Ok(self.open.insert(connection))
    }

    pub(crate) fn record_success(&mut self) {
        self.in_use = false;
        self.retries.record_success();
    }

    /// Closes the connection, and waits before the next attempt.
    ///
    /// # Errors
    /// There is no next attempt.
    pub(crate) async fn record_failure<E: Retryable>(&mut self, error: E) -> Result<(), RetryError<E>> {
        self.open = None;
        self.retries.record_failure(error).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> DatabaseError {
        DatabaseError { operation: "cannot connect".into(), source: sqlx::Error::PoolTimedOut }
    }

    fn refused() -> DatabaseError {
        DatabaseError { operation: "cannot read".into(), source: sqlx::Error::RowNotFound }
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_waits_longer_each_time_and_gives_up_after_ten_minutes() {
        let started = Instant::now();
        let mut retries = DatabaseRetries::new(DatabaseRetryPolicy::JOB, CancellationToken::new());
        let mut attempts = Vec::new();
        let ended: Result<(), _> = retry!(retries, async {
            attempts.push(started.elapsed().as_millis());
            Err(unavailable())
        });
        assert!(matches!(ended, Err(RetryError::GaveUp(_))), "{ended:?}");
        let delays: Vec<u128> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(delays[..7], [200, 400, 800, 1600, 3200, 6400, 10_000]);
        let waited = started.elapsed();
        assert!(waited <= Duration::from_secs(600) && waited > Duration::from_secs(580), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_starts_the_delays_and_the_limit_again() {
        let mut retries = DatabaseRetries::new(DatabaseRetryPolicy::JOB, CancellationToken::new());
        let mut delays = Vec::new();
        for _ in 0..3 {
            // Nine minutes of failures, which are less than the limit.
            let since = Instant::now();
            while since.elapsed() < Duration::from_secs(540) {
                let before = Instant::now();
                retries.record_failure(unavailable()).await.unwrap();
                delays.push(before.elapsed().as_millis());
            }
            retries.record_success();
        }
        assert_eq!(delays.iter().filter(|delay| **delay == 200).count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_consumer_never_gives_up() {
        let mut retries = DatabaseRetries::new(DatabaseRetryPolicy::CONSUMER, CancellationToken::new());
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(24 * 3600) {
            retries.record_failure(unavailable()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_will_not_pass_ends_it_at_once() {
        let started = Instant::now();
        let mut retries = DatabaseRetries::new(DatabaseRetryPolicy::CONSUMER, CancellationToken::new());
        let ended: Result<(), _> = retry!(retries, async { Err(refused()) });
        assert!(matches!(ended, Err(RetryError::Fatal(_))), "{ended:?}");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_waiting() {
        let stop = CancellationToken::new();
        let mut retries = DatabaseRetries::new(DatabaseRetryPolicy::CONSUMER, stop.clone());
        stop.cancel();
        let ended: Result<(), _> = retry!(retries, async { Err(unavailable()) });
        assert!(matches!(ended, Err(RetryError::Stopped)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_gets_no_answer_fails_with_an_error_that_passes() {
        let policy = DatabaseRetryPolicy::CONSUMER;
        let silent = std::future::pending::<Result<(), DatabaseError>>();
        let error = policy.within_timeout(silent).await.unwrap_err();
        assert!(error.is_transient());
        assert_eq!(
            logging::chain(&error),
            "the database did not answer within 30 s: error communicating with database: timed out"
        );
    }
}
