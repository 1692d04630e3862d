//! How long a worker goes on trying while the database is away, and how often. A restart of PostgreSQL must not cost the
//! Job an attempt.

use std::time::Duration;

use domain::backoff::Backoff;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LONGEST_DELAY: Duration = Duration::from_secs(10);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), LONGEST_DELAY);
const IN_ALL: Duration = Duration::from_secs(600);

/// Failures in a row; a step that succeeds starts afresh.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
    failures: u32,
}

impl Patience {
    /// How long to wait before the next attempt; none when it is enough.
    pub(crate) fn after_failure(&mut self) -> Option<Duration> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.failures += 1;
        let delay = BACKOFF.after(self.failures);
        (since.elapsed() + delay <= IN_ALL).then_some(delay)
    }
}

/// Waits, unless told to stop; whether it was.
pub(crate) async fn pause(long: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(long) => false,
        () = stop.cancelled() => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_longer_each_time_and_ten_minutes_in_all() {
        let begun = Instant::now();
        let mut patience = Patience::default();
        let mut delays = Vec::new();
        while let Some(delay) = patience.after_failure() {
            tokio::time::sleep(delay).await;
            delays.push(delay.as_millis());
        }
        assert_eq!(delays[..7], [200, 400, 800, 1600, 3200, 6400, 10_000]);
        let waited = begun.elapsed();
        assert!(waited <= IN_ALL && waited > IN_ALL - 2 * LONGEST_DELAY, "{waited:?}");
    }
}
