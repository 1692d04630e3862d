//! The brokers: how to reach them, what every client of them is configured with, and the topics. What goes over the topics
//! is the business of those who publish and consume.

mod client;
mod options;
#[cfg(test)]
pub(crate) mod testing;
mod topics;

pub(crate) use self::client::{Trouble, is_topic_away, log, reason};
pub(crate) use self::options::KafkaOptions;
pub(crate) use self::topics::{TopicError, Topics};
