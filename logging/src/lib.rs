//! Logging for every binary, on stderr: JSON, or a readable line for a person at a terminal. Every
//! message, field, span and panic goes through [`masking`]. Must not know what is logged, and has
//! no metrics.

mod error_chain;
mod format;
mod layer;
pub mod masking;

use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;

pub use error_chain::chain;
pub use format::Format;
pub use layer::MaskedLog;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Logging cannot be initialised.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("log filter {filter:?} is not valid: {reason}; examples are \"info\" and \"info,sqlx=debug\"")]
    InvalidFilter { filter: String, reason: String },
    #[error("logging is initialised already")]
    AlreadyInitialised,
}

/// Logs everything that `filter` selects (such as `info` or `info,sqlx=debug`) to stderr, and also
/// panics.
///
/// # Errors
/// The filter is not valid, or logging is initialised already.
pub fn init(filter: &str) -> Result<(), InitError> {
    let filter_layer = EnvFilter::try_new(filter)
        .map_err(|error| InitError::InvalidFilter { filter: filter.to_owned(), reason: chain(&error) })?;
    let format = if std::io::stderr().is_terminal() { Format::Human } else { Format::Json };
    tracing_subscriber::registry()
        .with(filter_layer)
        .with(MaskedLog::new(format, std::io::stderr))
        .try_init()
        .map_err(|_| InitError::AlreadyInitialised)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a panic without a message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, backtrace = %std::backtrace::Backtrace::capture(), "panicked: {message}");
}

#[cfg(test)]
mod tests;
