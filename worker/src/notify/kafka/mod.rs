//! The Kafka side of `monthend notify`: reads messages from the topic in batches, submits them to
//! the pipeline, and commits an offset once everything up to it is done. Knows nothing of bills or
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
