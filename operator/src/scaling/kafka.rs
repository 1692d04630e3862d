//! Reads how far a group is behind on a topic, as a consumer that never joins the group. Blocks: call it where that is
//! allowed. Decides nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use domain::scaling::Partition;
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::book::Reading;

/// For one look as a whole.
const PATIENCE: Duration = Duration::from_secs(5);
/// Errors of the connection that may wait for us; each is told by the call that it makes fail as well.
const MOST_WAITING: usize = 100;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LagError {
    #[error("topic {0} is not there")]
    NoTopic(String),
    #[error("cannot {operation}")]
    Kafka { operation: String, source: KafkaError },
    #[error("partition {partition} of topic {topic} has no offsets to read: {state}")]
    Partition { topic: String, partition: i32, state: String },
    #[error("the look did not end: {0}")]
    Lost(String),
}

/// Keeps its connections from look to look.
pub(crate) struct LagReader {
    reading: Reading,
    consumer: BaseConsumer<Quiet>,
}

impl LagReader {
    pub(crate) fn new(brokers: &str, reading: Reading) -> Result<Self, LagError> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", &reading.group)
            .set("client.id", "monthend-operator")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            // A broker that comes back is found soon.
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .create_with_context(Quiet)
            .map_err(doing(|| format!("set up a Kafka client for {brokers}")))?;
        Ok(Self { reading, consumer })
    }

    /// Committed offsets first: what moves meanwhile makes the lag look greater, never smaller.
    pub(crate) fn read(&self) -> Result<Vec<Partition>, LagError> {
        let budget = Budget { ends: Instant::now() + PATIENCE };
        // Also serves what librdkafka wants to tell, or it would pile up.
        for _ in 0..MOST_WAITING {
            if self.consumer.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        let ids = self.partitions(&budget)?;
        let Reading { topic, group } = &self.reading;
        let asked = || {
            let mut list = TopicPartitionList::with_capacity(ids.len());
            for id in &ids {
                list.add_partition(topic, *id);
            }
            list
        };
        let committed = self
            .consumer
            .committed_offsets(asked(), budget.left())
            .map_err(doing(|| format!("read the offsets of group {group} on topic {topic}")))?;
        let committed = offsets(&committed)?;
        let watermark = |end: Offset| {
            let mut list = asked();
            list.set_all_offsets(end)
                .and_then(|()| self.consumer.offsets_for_times(list, budget.left()))
                .map_err(doing(|| format!("read the ends of topic {topic}")))
                .and_then(|found| offsets(&found))
        };
        let (low, high) = (watermark(Offset::Beginning)?, watermark(Offset::End)?);
        let end = |found: &HashMap<i32, Option<i64>>, id: i32| {
            found.get(&id).copied().flatten().ok_or_else(|| LagError::Partition {
                topic: topic.clone(),
                partition: id,
                state: "its brokers did not answer for it".to_owned(),
            })
        };
        ids.iter()
            .map(|id| {
                Ok(Partition {
                    id: *id,
                    committed: committed.get(id).copied().flatten(),
                    low: end(&low, *id)?,
                    high: end(&high, *id)?,
                })
            })
            .collect()
    }

    fn partitions(&self, budget: &Budget) -> Result<Vec<i32>, LagError> {
        let topic = &self.reading.topic;
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), budget.left())
            .map_err(doing(|| format!("look for topic {topic}")))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Err(LagError::NoTopic(topic.clone()));
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(LagError::NoTopic(topic.clone()))
            }
            Some(code) => Err(doing(|| format!("look for topic {topic}"))(KafkaError::MetadataFetch(code))),
        }
    }
}

struct Budget {
    ends: Instant,
}

impl Budget {
    /// Never nothing: a call with no time at all would say nothing of the brokers.
    fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now()).max(Duration::from_millis(10))
    }
}

fn doing(operation: impl FnOnce() -> String) -> impl FnOnce(KafkaError) -> LagError {
    |source| LagError::Kafka { operation: operation(), source }
}

/// By partition; None where there is none.
fn offsets(list: &TopicPartitionList) -> Result<HashMap<i32, Option<i64>>, LagError> {
    list.elements()
        .iter()
        .map(|element| {
            element.error().map_err(|error| LagError::Partition {
                topic: element.topic().to_owned(),
                partition: element.partition(),
                state: error.to_string(),
            })?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            Ok((element.partition(), offset))
        })
        .collect()
}

/// Says on debug what librdkafka would shout each second that a broker is away: the scaler tells of that once.
#[derive(Clone, Copy)]
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for Quiet {}

#[cfg(test)]
mod tests;
