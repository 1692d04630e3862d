//! Waiting for a condition, with a limit. Nothing in these tests sleeps for a time that somebody guessed.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(100);

/// Looks until `look` finds what it looks for. An error is no answer, as in a database that is being restarted; the
/// last one is told when the time is up.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() > limit {
            let waited = anyhow!("waited {} s for {what}, in vain", limit.as_secs());
            return Err(
                last.map_or(waited, |last| last.context(format!("waited {} s for {what}", limit.as_secs())))
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`until`], for a condition that carries nothing.
pub async fn until_true(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    until(what, limit, async || Ok(look().await?.then_some(()))).await
}
