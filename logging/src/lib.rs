//! Logs of every binary: JSON for machines, one readable line for a person at a terminal, always on stderr, and always
//! through [`masking`]: no message, field, span or panic gets past it. Owns nothing else; metrics are their
//! component's own.

mod layer;
pub mod masking;

use std::{error::Error, io::IsTerminal as _, panic::PanicHookInfo};

pub use layer::MaskedLog;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, the fields of the spans and of the event side by side.
    Json,
    /// Time, level, message, `field=value`.
    Human,
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("log filter {filter:?} is not valid: {reason}; write it like \"info\" or \"info,sqlx=debug\"")]
    Filter { filter: String, reason: String },
    #[error("logging is set up already")]
    Twice,
}

/// Sends everything that `filter` lets through (`info`, `info,sqlx=debug`, …) to stderr, and panics with it.
pub fn init(filter: &str) -> Result<(), InitError> {
    let filter_layer = EnvFilter::try_new(filter)
        .map_err(|error| InitError::Filter { filter: filter.to_owned(), reason: chain(&error) })?;
    let format = if std::io::stderr().is_terminal() { Format::Human } else { Format::Json };
    tracing_subscriber::registry()
        .with(filter_layer)
        .with(MaskedLog::new(format, std::io::stderr))
        .try_init()
        .map_err(|_| InitError::Twice)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a panic without a text");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, backtrace = %std::backtrace::Backtrace::capture(), "panicked: {message}");
}

/// An error and its causes on one line. A cause whose text its parent repeats is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
