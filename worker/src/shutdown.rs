//! The stop of a command: SIGTERM and Ctrl-C cancel a token that every command watches.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::ExitStatus;

/// A token that the first SIGTERM or SIGINT cancels. The second one ends the process at once.
pub(crate) fn token() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = token.clone();
    tokio::spawn(async move {
        let mut next =
            async || tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        let name = next().await;
        tracing::info!(signal = name, "stopping");
        stop.cancel();
        next().await;
        std::process::exit(i32::from(ExitStatus::TryAgain.code()));
    });
    Ok(token)
}

/// Waits for this long, or until `stop` is cancelled: then true.
pub(crate) async fn stopped_within(delay: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(delay) => false,
        () = stop.cancelled() => true,
    }
}
