//! From a batch of messages to recorded outcomes: claim, render, send, record. Knows nothing of
//! Kafka, and of a mail server only what a transport answers.

mod ack;
mod claimed_email;
mod engine;
mod heartbeat;
mod in_flight;
mod intake;
mod lock;
mod prepare;
mod rate_limiter;
mod recorder;
mod retry_queue;
mod send_queue;
mod sender;
mod shared_state;
#[cfg(test)]
mod tests;

pub(super) use self::engine::{Engine, EngineConfig, EngineError};
#[cfg(test)]
pub(super) use self::intake::BatchDone;
pub(super) use self::intake::{EngineClosed, Intake, PendingBatch};
