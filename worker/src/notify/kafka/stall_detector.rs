//! Whether messages lie on the topic that nobody brings. A client can miss that its topic was deleted and made anew while
//! it was joining its group, and then stands still for good: it takes the new leaders' terms for the past.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use worker_cli::KafkaArgs;

use crate::kafka::consumer_config;

/// Without a message for so long, with nothing in hand, it is looked whether there are any.
pub(super) const LOOK_AFTER: Duration = Duration::from_secs(20);
/// For one question to the brokers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether what is committed of any of these partitions is not its end. Asked with a client of its own, which knows nothing
/// from before; what can't be told is no. Blocks.
pub(super) fn has_messages(options: &KafkaArgs, partitions: &[i32]) -> bool {
    look(options, partitions).unwrap_or_else(|error| {
        tracing::debug!("cannot see whether anything was left on the topic: {error}");
        false
    })
}

fn look(options: &KafkaArgs, partitions: &[i32]) -> KafkaResult<bool> {
    if partitions.is_empty() {
        return Ok(false);
    }
    let client: BaseConsumer = consumer_config(options).create()?;
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        asked.add_partition(&options.topic, *partition);
    }
    for element in client.committed_offsets(asked, PATIENCE)?.elements() {
        let (low, end) = client.fetch_watermarks(&options.topic, element.partition(), PATIENCE)?;
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
