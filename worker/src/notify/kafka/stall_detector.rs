//! Detects a stalled Kafka client: messages are on the topic, and the client receives none of them.
//! This happens when the topic is deleted and created again while the client joins its group: it
//! takes the leader epochs of the new topic for outdated ones.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use worker_cli::KafkaArgs;

use crate::kafka::consumer_config;

/// After so long without a message and with nothing unfinished, the topic is checked.
pub(super) const IDLE_BEFORE_CHECK: Duration = Duration::from_secs(20);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether any of these partitions has messages beyond its committed offset. Asks with a new
/// client, which has no outdated knowledge. False when the brokers do not answer. Blocks the
/// thread.
pub(super) fn has_uncommitted_messages(options: &KafkaArgs, partitions: &[i32]) -> bool {
    check(options, partitions).unwrap_or_else(|error| {
        tracing::debug!("cannot check the topic for uncommitted messages: {error}");
        false
    })
}

fn check(options: &KafkaArgs, partitions: &[i32]) -> KafkaResult<bool> {
    if partitions.is_empty() {
        return Ok(false);
    }
    let client: BaseConsumer = consumer_config(options).create()?;
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&options.topic, *partition);
    }
    for element in client.committed_offsets(list, REQUEST_TIMEOUT)?.elements() {
        let (low, end) = client.fetch_watermarks(&options.topic, element.partition(), REQUEST_TIMEOUT)?;
        let next = match element.offset() {
            Offset::Offset(next) => next,
            _ => low,
        };
        if next != end {
            return Ok(true);
        }
    }
    Ok(false)
}
