//! Everything about one mail server: how it is reached, what it answers, and when it is left alone.

pub(super) mod circuit_breaker;
pub(super) mod connection;
mod write_tracking_stream;
