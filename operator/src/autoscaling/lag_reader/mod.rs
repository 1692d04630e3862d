//! Reads the lag of a consumer group on a topic, with a consumer that never joins the group. Its
//! calls block: use it on a thread where blocking is allowed. Decides nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::lag_cache::TopicGroup;
use super::policy::Partition;

/// For all calls of one reading together.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Connection errors to take from the queue in one reading; the calls below report them as well.
const MOST_QUEUED_EVENTS: usize = 100;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LagError {
    #[error("topic {0} does not exist")]
    NoTopic(String),
    #[error("cannot {operation}")]
    Kafka { operation: String, source: KafkaError },
    #[error("partition {partition} of topic {topic} has no offsets to read: {state}")]
    Partition { topic: String, partition: i32, state: String },
    #[error("reading the lag panicked: {0}")]
    Panicked(String),
}

/// Keeps its connections between readings.
pub(crate) struct LagReader {
    topic_group: TopicGroup,
    consumer: BaseConsumer<DebugLogging>,
}

impl LagReader {
    pub(crate) fn new(brokers: &str, topic_group: TopicGroup) -> Result<Self, LagError> {
        let consumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", &topic_group.group)
            .set("client.id", "monthend-operator")
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false")
            // Reconnect soon after a broker comes back.
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .create_with_context(DebugLogging)
            .map_err(doing(|| format!("set up a Kafka client for {brokers}")))?;
        Ok(Self { topic_group, consumer })
    }

    /// Reads the committed offsets first: messages that arrive in between make the lag greater,
    /// never smaller.
    pub(crate) fn read(&self) -> Result<Vec<Partition>, LagError> {
        let budget = Budget { ends: Instant::now() + READ_TIMEOUT };
        // Polling also empties the queue of librdkafka's events.
        for _ in 0..MOST_QUEUED_EVENTS {
            if self.consumer.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        let ids = self.partitions(&budget)?;
        let TopicGroup { topic, group } = &self.topic_group;
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
        let topic = &self.topic_group.topic;
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), budget.left())
            .map_err(doing(|| format!("read the metadata of topic {topic}")))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Err(LagError::NoTopic(topic.clone()));
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(LagError::NoTopic(topic.clone()))
            }
            Some(code) => {
                Err(doing(|| format!("read the metadata of topic {topic}"))(KafkaError::MetadataFetch(code)))
            }
        }
    }
}

struct Budget {
    ends: Instant,
}

impl Budget {
    /// At least 10 ms: a call with a time-out of zero fails whatever the brokers do.
    fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now()).max(Duration::from_millis(10))
    }
}

fn doing(operation: impl FnOnce() -> String) -> impl FnOnce(KafkaError) -> LagError {
    |source| LagError::Kafka { operation: operation(), source }
}

/// Offsets by partition; None where the brokers have none.
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

/// Logs on debug what librdkafka repeats every second while a broker is down: the scaler reports
/// that once.
#[derive(Clone, Copy)]
struct DebugLogging;

impl ClientContext for DebugLogging {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for DebugLogging {}

#[cfg(test)]
mod tests;
