//! The Kafka side of `monthend notify`: reads messages from the topic and commits their offsets. Knows nothing of bills or
//! email.

mod batch;
mod consumer;
mod dead_letter;
mod group_client;
mod offset_tracker;
mod poll_loop;
mod rebalance;
mod stall_detector;
#[cfg(test)]
mod tests;
mod topic_ensurer;

pub(super) use self::consumer::{ConsumerConfig, consume};
