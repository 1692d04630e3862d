//! Lag as a real broker reports it: the one that `MONTHEND_TEST_KAFKA` names.

use std::sync::atomic::{AtomicU32, Ordering};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::CommitMode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::*;

const BROKERS: &str = "MONTHEND_TEST_KAFKA";
const LIMIT: Duration = Duration::from_secs(20);

fn brokers() -> String {
    std::env::var(BROKERS)
        .unwrap_or_else(|_| panic!("{BROKERS} must name a Kafka broker for tests, such as 127.0.0.1:9092"))
}

/// A topic of three partitions, of its own for each test.
struct Topic {
    name: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Topic {
    async fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lag-{}-{count}", std::process::id());
        let admin = ClientConfig::new().set("bootstrap.servers", brokers()).create().unwrap();
        let topic = Self { name, admin };
        let wanted = NewTopic::new(&topic.name, 3, TopicReplication::Fixed(1));
        for made in topic.admin.create_topics([&wanted], &AdminOptions::new()).await.unwrap() {
            made.unwrap();
        }
        topic
    }

    fn produce(&self, partition: i32, messages: u32) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers())
            .set("message.timeout.ms", "15000")
            .create()
            .unwrap();
        for _ in 0..messages {
            producer.send(BaseRecord::<(), str>::to(&self.name).partition(partition).payload("x")).unwrap();
        }
        producer.flush(LIMIT).unwrap();
    }

    fn commit(&self, group: &str, partition: i32, offset: i64) {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers()).set("group.id", group).create().unwrap();
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.name, partition, Offset::Offset(offset)).unwrap();
        consumer.commit(&offsets, CommitMode::Sync).unwrap();
    }

    async fn delete_before(&self, partition: i32, offset: i64) {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(&self.name, partition, Offset::Offset(offset)).unwrap();
        self.admin.delete_records(&before, &AdminOptions::new()).await.unwrap();
    }

    async fn delete(&self) {
        for deleted in self.admin.delete_topics(&[&self.name], &AdminOptions::new()).await.unwrap() {
            deleted.unwrap();
        }
    }

    fn reader(&self, group: &str) -> LagReader {
        let topic_group = TopicGroup { topic: self.name.clone(), group: group.to_owned() };
        LagReader::new(&brokers(), topic_group).unwrap()
    }
}

/// Leaders of a topic that was just made may not be known everywhere yet, and deleting one takes
/// effect late.
async fn wait_for<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    tokio::time::timeout(LIMIT, async {
        loop {
            match probe() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
    .expect("the broker gets there in time")
}

fn lags(partitions: &[Partition]) -> Vec<(i32, u64)> {
    partitions.iter().map(|partition| (partition.id, partition.lag())).collect()
}

#[tokio::test]
async fn lag_counts_from_the_committed_offset_or_the_start() {
    let topic = Topic::create().await;
    let reader = topic.reader(&topic.name);
    let empty = wait_for(|| reader.read().ok()).await;
    assert_eq!(lags(&empty), [(0, 0), (1, 0), (2, 0)]);

    topic.produce(0, 10);
    topic.produce(1, 20);
    assert_eq!(lags(&reader.read().unwrap()), [(0, 10), (1, 20), (2, 0)]);

    topic.commit(&topic.name, 0, 4);
    topic.commit(&topic.name, 1, 5);
    assert_eq!(lags(&reader.read().unwrap()), [(0, 6), (1, 15), (2, 0)]);
    // Another group's are its own.
    assert_eq!(lags(&topic.reader("somebody-else").read().unwrap()), [(0, 10), (1, 20), (2, 0)]);

    // Retention overtakes the group.
    topic.delete_before(1, 12).await;
    let overtaken = reader.read().unwrap();
    assert_eq!(lags(&overtaken), [(0, 6), (1, 8), (2, 0)]);
    assert_eq!(overtaken[1], Partition { id: 1, committed: Some(5), low: 12, high: 20 });

    topic.delete().await;
    let gone = wait_for(|| reader.read().err().filter(|error| matches!(error, LagError::NoTopic(_)))).await;
    assert_eq!(gone.to_string(), format!("topic {} does not exist", topic.name));
}

#[test]
fn unavailable_brokers_are_an_error_within_the_time_out() {
    let topic_group =
        TopicGroup { topic: "monthend.notices".to_owned(), group: "monthend-notify".to_owned() };
    // Nothing listens on the discard port.
    let reader = LagReader::new("127.0.0.1:9", topic_group).unwrap();
    let started = Instant::now();
    let error = reader.read().unwrap_err();
    assert!(matches!(error, LagError::Kafka { .. }), "{error:?}");
    assert_eq!(error.to_string(), "cannot read the metadata of topic monthend.notices");
    assert!(started.elapsed() < READ_TIMEOUT * 2, "{:?}", started.elapsed());
}
