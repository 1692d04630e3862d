//! Real brokers for tests: a shared one, which `MONTHEND_TEST_KAFKA` names and on which each test
//! has its own topics and group; and brokers that one test owns and can kill, from the jars in
//! `MONTHEND_TEST_KAFKA_JARS`. Panics instead of returning errors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use test_servers::{Broker, Java};
use worker_cli::KafkaArgs;

use super::client_config::admin_config;
use super::topics::Topics;
use super::{consumer_config, producer_config};

pub(crate) const PARTITIONS: i32 = 4;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Options with topics and a group of the test's own, on the shared broker.
pub(crate) fn options() -> KafkaArgs {
    let brokers = std::env::var("MONTHEND_TEST_KAFKA")
        .expect("MONTHEND_TEST_KAFKA must name a Kafka broker for tests, such as 127.0.0.1:9092");
    options_at(&brokers)
}

pub(crate) fn options_at(brokers: &str) -> KafkaArgs {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unique = format!("test.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    KafkaArgs {
        brokers: brokers.to_owned(),
        topic: format!("{unique}.notices"),
        dlq_topic: format!("{unique}.notices.dlq"),
        group: format!("{unique}.notify"),
        partitions: PARTITIONS,
        replication: 1,
        retention_hours: 48,
    }
}

/// A message on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    pub(crate) payload: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// What tests do with the topics and the group that the options name.
pub(crate) trait TestTopics {
    async fn make_topics(&self);
    fn admin_client(&self) -> AdminClient<DefaultClientContext>;
    async fn delete_topic(&self);
    async fn delete_group(&self);
    /// Publishes messages to the topic, in this order.
    async fn put(&self, payloads: impl IntoIterator<Item = impl AsRef<[u8]>>);
    /// The end offset of each partition; empty if the topic does not exist. Waits for the leaders
    /// of a new topic's partitions.
    fn ends(&self, topic: &str) -> BTreeMap<i32, i64>;
    /// All messages of a topic.
    fn read(&self, topic: &str) -> Vec<Found>;
    /// The group's committed offset of each partition that has one.
    fn committed(&self) -> BTreeMap<i32, i64>;
    /// Messages of the topic that are not committed.
    fn lag(&self) -> i64;
    /// Members of the group.
    fn members(&self) -> usize;
}

impl TestTopics for KafkaArgs {
    async fn make_topics(&self) {
        Topics::new(self).unwrap().ensure().await.unwrap();
    }

    fn admin_client(&self) -> AdminClient<DefaultClientContext> {
        admin_config(self).create().unwrap()
    }

    async fn delete_topic(&self) {
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT));
        let deleted = self.admin_client().delete_topics(&[&self.topic], &options).await.unwrap();
        assert!(deleted[0].is_ok(), "{deleted:?}");
    }

    async fn delete_group(&self) {
        let deleted = self.admin_client().delete_groups(&[&self.group], &AdminOptions::new()).await.unwrap();
        assert!(deleted[0].is_ok(), "{deleted:?}");
    }

    async fn put(&self, payloads: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let producer: FutureProducer = producer_config(self).create().unwrap();
        let mut sent = Vec::new();
        for (at, payload) in payloads.into_iter().enumerate() {
            let key = at.to_string();
            let record = FutureRecord::to(&self.topic).key(&key).payload(payload.as_ref());
            sent.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
        for delivery in sent {
            delivery.await.unwrap().unwrap();
        }
    }

    fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = admin_config(self).create().unwrap();
        let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT).unwrap();
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return BTreeMap::new();
        };
        let began = Instant::now();
        let end = |partition| loop {
            match consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT) {
                Ok((_, end)) => return end,
                Err(error) if began.elapsed() > REQUEST_TIMEOUT => panic!("{topic} {partition}: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        found.partitions().iter().map(|partition| (partition.id(), end(partition.id()))).collect()
    }

    fn read(&self, topic: &str) -> Vec<Found> {
        let ends = self.ends(topic);
        let consumer: BaseConsumer = consumer_config(self).set("group.id", "test.reader").create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in ends.keys() {
            list.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let mut found = Vec::new();
        let expected: i64 = ends.values().sum();
        let began = Instant::now();
        while i64::try_from(found.len()).unwrap() < expected {
            assert!(
                began.elapsed() < 3 * REQUEST_TIMEOUT,
                "{} of {expected} messages read from {topic}",
                found.len()
            );
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message.unwrap();
            let headers = message.headers().map(|headers| headers.iter().collect::<Vec<_>>());
            let headers = headers.unwrap_or_default().into_iter();
            found.push(Found {
                partition: message.partition(),
                offset: message.offset(),
                key: text(message.key()),
                payload: text(message.payload()).unwrap_or_default(),
                headers: headers
                    .map(|header| (header.key.to_owned(), text(header.value).unwrap_or_default()))
                    .collect(),
            });
        }
        found
    }

    fn committed(&self) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = consumer_config(self).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, self.partitions - 1);
        // A broker that has just started may not know the group's coordinator yet.
        let began = Instant::now();
        let committed = loop {
            match consumer.committed_offsets(list.clone(), REQUEST_TIMEOUT) {
                Ok(committed) => break committed,
                Err(error) => assert!(began.elapsed() < REQUEST_TIMEOUT, "{error}"),
            }
        };
        let offsets = committed.elements().into_iter();
        offsets
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            })
            .collect()
    }

    fn lag(&self) -> i64 {
        let committed = self.committed();
        let ends = self.ends(&self.topic);
        ends.iter().map(|(partition, end)| end - committed.get(partition).copied().unwrap_or(0)).sum()
    }

    fn members(&self) -> usize {
        let consumer: BaseConsumer = admin_config(self).create().unwrap();
        let groups = consumer.fetch_group_list(Some(&self.group), REQUEST_TIMEOUT).unwrap();
        groups.groups().first().map_or(0, |group| group.members().len())
    }
}

/// Waits until a condition holds whose check may block.
pub(crate) async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !tokio::task::block_in_place(&mut holds) {
        assert!(began.elapsed() < limit, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts a broker that the test owns, and can kill and start again.
pub(crate) fn own_broker() -> Broker {
    let jars = std::env::var_os("MONTHEND_TEST_KAFKA_JARS")
        .expect("MONTHEND_TEST_KAFKA_JARS must name the folder with the jars of Kafka, for tests");
    Broker::start(Path::new(&jars), Java::Small).unwrap()
}
