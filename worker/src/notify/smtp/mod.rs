//! Everything about one mail server: how to connect to it, what it replies, when an email is tried
//! again, and when the server counts as down. Knows nothing of bills, batches or the database.
//!
//! - When an email is tried again after a 4xx: [`retry_policy`].
//! - What happens while the mail server is down: [`circuit_breaker`].
//! - Whether a broken connection leaves the outcome unknown: [`connection`].

pub(super) mod circuit_breaker;
mod command_error;
pub(super) mod connection;
pub(super) mod outcome;
pub(super) mod reply;
pub(super) mod retry_policy;
pub(super) mod server_address;
mod tls;
mod write_tracking_stream;
