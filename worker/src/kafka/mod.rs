//! Kafka clients: their settings, what they report, and the topics. Knows nothing of the messages:
//! those who publish and consume do.

mod client_config;
mod client_context;
#[cfg(test)]
pub(crate) mod testing;
mod topics;

pub(crate) use self::client_config::{consumer_config, producer_config};
pub(crate) use self::client_context::{LastError, is_topic_missing, log, reason};
pub(crate) use self::topics::{TopicError, Topics};
