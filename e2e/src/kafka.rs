//! Kafka of the development stack, at its address on the host: reads, writes and deletes the tests'
//! topics and group.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Headers as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::wait;

pub const TOPIC: &str = "e2e.notices";
pub const DLQ: &str = "e2e.notices.dlq";
pub const GROUP: &str = "e2e-notify";
pub const PARTITIONS: usize = 12;
/// The limit for one reply of a broker.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(120);

/// A message of a topic.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

/// The brokers, at their addresses on the host.
#[derive(Clone, Debug)]
pub struct Kafka {
    brokers: String,
}

impl Kafka {
    pub fn new(brokers: String) -> Self {
        Self { brokers }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "e2e")
            .set("reconnect.backoff.max.ms", "1000")
            // The functions that wait report an unreachable broker themselves, once.
            .set("log_level", "0");
        config
    }

    fn consumer(&self, group: &str) -> Result<BaseConsumer> {
        let mut config = self.config();
        config.set("group.id", group).set("enable.auto.commit", "false").set("enable.partition.eof", "false");
        config.create().context("make a Kafka consumer")
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        self.config().create().context("make a Kafka admin client")
    }

    /// Runs blocking work on a thread for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(this)).await.context("run a blocking Kafka call")?
    }

    /// The number of partitions of the topic, 0 if there is no such topic.
    pub async fn partitions(&self, topic: &str) -> Result<usize> {
        let topic = topic.to_owned();
        self.blocking(move |this| Ok(partitions(&this.consumer("e2e-reader")?, &topic)?.len())).await
    }

    /// Reads all messages of a topic.
    pub async fn read_all(&self, topic: &str) -> Result<Vec<Record>> {
        let topic = topic.to_owned();
        self.blocking(move |this| this.read(&topic)).await
    }

    fn read(&self, topic: &str) -> Result<Vec<Record>> {
        let consumer = self.consumer("e2e-reader")?;
        let mut from = TopicPartitionList::new();
        let mut left = 0;
        for partition in partitions(&consumer, topic)? {
            let (low, high) = consumer.fetch_watermarks(topic, partition, REPLY_LIMIT)?;
            if high > low {
                from.add_partition_offset(topic, partition, Offset::Offset(low))?;
                left += usize::try_from(high - low)?;
            }
        }
        consumer.assign(&from)?;
        let mut records = Vec::with_capacity(left);
        let start = Instant::now();
        while records.len() < left {
            if start.elapsed() > LIMIT {
                bail!("{topic}: read {} messages of {left} in {} s", records.len(), LIMIT.as_secs());
            }
            let Some(message) = consumer.poll(Duration::from_millis(500)) else { continue };
            let message = message.with_context(|| format!("read {topic}"))?;
            let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
            records.push(Record {
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().unwrap_or_default().to_vec(),
                headers: headers
                    .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
                    .collect(),
            });
        }
        Ok(records)
    }

    /// Writes messages to a topic and waits until the brokers have acknowledged them.
    pub async fn produce(&self, topic: &str, records: Vec<Record>) -> Result<()> {
        let topic = topic.to_owned();
        self.blocking(move |this| {
            let producer: ThreadedProducer<DefaultProducerContext> =
                this.config().set("acks", "all").create().context("make a Kafka producer")?;
            for record in &records {
                let mut message = BaseRecord::to(&topic).payload(&record.payload);
                message.key = record.key.as_ref();
                producer
                    .send(message)
                    .map_err(|(error, _)| error)
                    .with_context(|| format!("write to {topic}"))?;
            }
            producer.flush(LIMIT).with_context(|| format!("write to {topic}"))
        })
        .await
    }

    /// Removes the topics and the group of an earlier test run, and creates the topic. The operator
    /// does not scale consumers while it cannot read the lag, so without the topic the first
    /// scenario would have no consumers.
    pub async fn reset(&self) -> Result<()> {
        self.wait_until_available().await?;
        for topic in [TOPIC, DLQ] {
            if self.partitions(topic).await? > 0 {
                self.delete_topic(topic).await?;
                wait::until_true(&format!("topic {topic} to be deleted"), LIMIT, async || {
                    Ok(self.partitions(topic).await? == 0)
                })
                .await?;
            }
        }
        self.delete_group(GROUP).await?;
        let partitions = i32::try_from(PARTITIONS)?;
        let topic =
            NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(1)).set("retention.ms", "604800000");
        for one in self.admin()?.create_topics([&topic], &AdminOptions::new()).await? {
            one.map_err(|(_, code)| code).with_context(|| format!("create topic {TOPIC}"))?;
        }
        Ok(())
    }

    /// Deletes a topic. Its users may create it again at once.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let outcome = self
            .admin()?
            .delete_topics(&[topic], &AdminOptions::new().operation_timeout(Some(REPLY_LIMIT)))
            .await?;
        for one in outcome {
            one.map_err(|(_, code)| code).with_context(|| format!("delete topic {topic}"))?;
        }
        Ok(())
    }

    /// Deletes the group and its offsets. The group must have no members.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        wait::until_true(&format!("group {group} to be deleted"), LIMIT, async || {
            for one in self.admin()?.delete_groups(&[group], &AdminOptions::new()).await? {
                match one {
                    Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
                    Err((_, code)) => bail!("{code}"),
                }
            }
            Ok(true)
        })
        .await
    }

    /// Partition, committed offset (none where nothing is committed) and end offset of each
    /// partition.
    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<(i32, Option<i64>, i64)>> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.blocking(move |this| {
            let consumer = this.consumer(&group)?;
            let mut wanted = TopicPartitionList::new();
            let all = partitions(&consumer, &topic)?;
            for partition in &all {
                wanted.add_partition(&topic, *partition);
            }
            let committed = consumer.committed_offsets(wanted, REPLY_LIMIT)?;
            let mut found = Vec::with_capacity(all.len());
            for one in committed.elements() {
                let (low, high) = consumer.fetch_watermarks(&topic, one.partition(), REPLY_LIMIT)?;
                let offset = if let Offset::Offset(offset) = one.offset() { Some(offset) } else { None };
                found.push((one.partition(), offset, if high > low { high } else { offset.unwrap_or(high) }));
            }
            Ok(found)
        })
        .await
    }

    /// Whether the group has no committed offset.
    pub async fn has_no_offsets(&self, group: &str, topic: &str) -> Result<bool> {
        Ok(self.committed(group, topic).await?.iter().all(|(_, offset, _)| offset.is_none()))
    }

    /// Waits until the group has committed the end of every partition.
    pub async fn wait_until_drained(&self, group: &str, topic: &str) -> Result<()> {
        wait::until_true(
            &format!("group {group} to have committed all of topic {topic}"),
            LIMIT,
            async || {
                let committed = self.committed(group, topic).await?;
                ensure!(!committed.is_empty(), "there is no topic {topic}");
                Ok(committed.iter().all(|(_, offset, end)| offset.unwrap_or(0) >= *end))
            },
        )
        .await
    }

    /// Waits until the brokers answer.
    pub async fn wait_until_available(&self) -> Result<()> {
        wait::until_true("Kafka to answer", LIMIT, async || {
            self.blocking(|this| {
                this.consumer("e2e-reader")?.fetch_metadata(None, Duration::from_secs(2))?;
                Ok(true)
            })
            .await
        })
        .await
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), REPLY_LIMIT)
        .with_context(|| format!("look for topic {topic}"))?;
    let Some(topic) = metadata.topics().iter().find(|known| known.name() == topic) else {
        return Ok(Vec::new());
    };
    match topic.error() {
        None => Ok(topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()),
        Some(error) => match KafkaError::MetadataFetch(error.into()).rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(Vec::new()),
            _ => bail!("look for topic {}: {error:?}", topic.name()),
        },
    }
}
