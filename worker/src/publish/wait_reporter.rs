//! Says what a publisher waits for: in the run's publication, where its status comes from, and now
//! and then in the log.

use std::time::{Duration, Instant};

use domain::backoff::Backoff;
use sqlx::PgConnection;
use store::notification::{self, NotificationError, NotificationId, NotificationState};
use tokio_util::sync::CancellationToken;

use crate::database_retry::DatabaseRetryPolicy;
use crate::shutdown::stopped_within;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// Time between two log lines about the same wait.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What one publication waits for.
#[derive(Debug)]
pub(super) struct WaitReporter {
    round: i32,
    policy: DatabaseRetryPolicy,
    failures: u32,
    logged: Option<(String, Instant)>,
}

impl WaitReporter {
    pub(super) fn new(round: i32, policy: DatabaseRetryPolicy) -> Self {
        Self { round, policy, failures: 0, logged: None }
    }

    /// Stores and logs what the publication waits for, and returns the run's state.
    pub(super) async fn report(
        &mut self,
        connection: &mut PgConnection,
        id: NotificationId,
        text: &str,
    ) -> Result<NotificationState, NotificationError> {
        let is_new = |(logged, at): &(String, Instant)| logged != text || at.elapsed() > LOG_INTERVAL;
        if self.logged.as_ref().is_none_or(is_new) {
            tracing::warn!("waiting: {text}");
            self.logged = Some((text.to_owned(), Instant::now()));
        }
        self.policy.within_timeout(notification::record_waiting(connection, id, self.round, Some(text))).await
    }

    /// Stores that the publication waits for nothing any more.
    pub(super) async fn clear(
        &self,
        connection: &mut PgConnection,
        id: NotificationId,
    ) -> Result<(), NotificationError> {
        self.policy
            .within_timeout(notification::record_waiting(connection, id, self.round, None))
            .await
            .map(drop)
    }

    /// Waits after a failure, longer after each one in a row.
    pub(super) async fn back_off(&mut self, stop: &CancellationToken) {
        self.failures = self.failures.saturating_add(1);
        stopped_within(BACKOFF.after(self.failures), stop).await;
    }

    /// Messages are published again: the next wait is the first one.
    pub(super) fn record_success(&mut self) {
        self.failures = 0;
        self.logged = None;
    }
}
