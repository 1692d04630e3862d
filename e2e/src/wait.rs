//! Waits for a condition, with a time limit. Tests must not sleep for a guessed time.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(100);

/// Calls `probe` until it returns a value. An error counts as "not yet", for example while a
/// database restarts.
///
/// # Errors
/// The limit has passed; the last error of `probe` is the cause.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = match probe().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() > limit {
            let waited = anyhow!("waited {} s for {what} without success", limit.as_secs());
            return Err(
                last.map_or(waited, |last| last.context(format!("waited {} s for {what}", limit.as_secs())))
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`until`], for a condition without a value.
pub async fn until_true(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    until(what, limit, async || Ok(probe().await?.then_some(()))).await
}
