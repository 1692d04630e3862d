//! What the operator and the worker must agree on when the operator starts a worker: the options of
//! the sub-commands that it starts, and the exit statuses that they end with. The worker parses the
//! options, the operator writes them, and both use these types, so that neither can change without
//! the other.
//!
//! Knows neither Kubernetes nor the database, and does nothing: what a sub-command does is the
//! worker's business.

mod bill;
mod exit_status;
mod kafka;
mod publish;
mod rehearse;
#[cfg(test)]
mod tests;

pub use uuid::Uuid;

pub use self::bill::BillArgs;
pub use self::exit_status::ExitStatus;
pub use self::kafka::KafkaArgs;
pub use self::publish::PublishArgs;
pub use self::rehearse::RehearseArgs;
