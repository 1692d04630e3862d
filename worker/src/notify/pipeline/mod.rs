//! From a batch of messages to recorded outcomes: claim, render, send, record. Knows nothing of Kafka, and of a transport
//! only what it answers.

pub(super) mod engine;
mod heartbeat;
pub(super) mod in_flight;
mod prepare;
mod rate_limiter;
mod recorder;
mod retry_queue;
pub(super) mod sender;
#[cfg(test)]
mod tests;
