//! Publishing from a real PostgreSQL to a real broker.

pub(crate) mod fixture;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::notification_message::NotificationMessage;
use rdkafka::admin::{AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use store::notification;
use store::testing::DatabaseProxy;
use worker_cli::KafkaArgs;

use self::fixture::{Fixture, MONTH, RUN};
use crate::database_retry::DatabaseRetryPolicy;
use crate::exit::Completion;
use crate::kafka::testing::{PARTITIONS, TestTopics as _, options, options_at, own_broker};

/// Enough members for a test to interfere while they are published.
const MANY: i64 = 200_000;
const PUBLISHED: &str = "select concat_ws(' ', round, published_to, messages, waiting, done_at is not null) from publication order by round desc limit 1";

/// How often each member's message is on the topic.
fn on_topic(options: &KafkaArgs) -> BTreeMap<i64, usize> {
    let mut members = BTreeMap::new();
    for found in options.read(&options.topic) {
        let message = NotificationMessage::parse(found.payload.as_bytes()).unwrap();
        assert_eq!(found.key, Some(message.member.to_string()));
        assert_eq!((message.month.to_string().as_str(), message.run.as_str()), (MONTH, RUN));
        *members.entry(message.member.get()).or_default() += 1;
    }
    members
}

#[tokio::test(flavor = "multi_thread")]
async fn every_open_target_is_published_once_a_round() {
    let (fixture, options) = (Fixture::new(25_000).await, options());
    let id = fixture.begin(1, false).await;
    assert_eq!(fixture.publisher(1, 1, &options).ended().await, Completion::Done);
    let found = on_topic(&options);
    assert_eq!((found.len(), found.values().max()), (25_000, Some(&1)));
    assert_eq!(fixture.one(PUBLISHED).await, "1 25000 25000 t");
    let job = "select concat_ws(' ', kind, run, month, status, total, succeeded) from job_log where kind = 'PUBLISH' order by id desc limit 1";
    assert_eq!(fixture.one(job).await, format!("PUBLISH {RUN} {MONTH} SUCCEEDED 25000 25000"));
    assert_eq!(options.ends(&options.topic).len(), usize::try_from(PARTITIONS).unwrap());
    assert_eq!(options.ends(&options.dlq_topic).len(), usize::try_from(PARTITIONS).unwrap());

    // The same round again has nothing left to do.
    assert_eq!(fixture.publisher(1, 1, &options).ended().await, Completion::Done);
    assert_eq!(on_topic(&options).len(), 25_000);

    // Another round publishes what is still open.
    fixture.sql("update notice_target set outcome = 'SENT', ended_at = now() where member_id % 5 > 0").await;
    notification::open_round(&fixture.operator, id, 1).await.unwrap();
    assert_eq!(fixture.publisher(1, 2, &options).ended().await, Completion::Done);
    let found = on_topic(&options);
    assert!(found.iter().all(|(member, times)| *times == if member % 5 == 0 { 2 } else { 1 }));
    assert_eq!(fixture.one(PUBLISHED).await, "2 25000 5000 t");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_publishers_finds_everything_done() {
    let (fixture, options) = (Fixture::new(25_000).await, options());
    fixture.begin(1, false).await;
    let both = [fixture.publisher(1, 1, &options), fixture.publisher(1, 1, &options)];
    for publisher in both {
        assert_eq!(publisher.ended().await, Completion::Done);
    }
    let found = on_topic(&options);
    assert_eq!((found.len(), found.values().max()), (25_000, Some(&1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_broker_is_waited_for_and_reported() {
    let mut broker = own_broker();
    let options = options_at(&broker.address());
    broker.kill().unwrap();
    let fixture = Fixture::new(1000).await;
    fixture.begin(1, false).await;
    let publisher = fixture.publisher(1, 1, &options);
    let waiting = format!("select waiting like '%{}%' from publication", options.brokers);
    fixture.until(&waiting, "true").await;
    assert_eq!(fixture.one("select targets from notification").await, "1000", "selected meanwhile");
    // When stopped, it does not wait for an answer.
    let began = Instant::now();
    publisher.stop.cancel();
    assert_eq!(publisher.ended().await, Completion::Stopped);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let publisher = fixture.publisher(1, 1, &options);
    broker.start_again().unwrap();
    assert_eq!(publisher.ended().await, Completion::Done);
    assert_eq!(fixture.one(PUBLISHED).await, "1 1000 1000 t");
    assert_eq!(on_topic(&options).len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_when_the_broker_is_killed_while_publishing() {
    let mut broker = own_broker();
    let options = options_at(&broker.address());
    let fixture = Fixture::new(MANY).await;
    fixture.begin(1, false).await;
    let publisher = fixture.publisher(1, 1, &options);
    fixture.until("select messages > 0 from publication", "true").await;
    broker.kill().unwrap();
    let left = fixture.one("select messages from publication").await;
    assert!(left.parse::<i64>().unwrap() < MANY, "killed in the middle");
    fixture.until("select waiting is not null from publication", "true").await;
    // When stopped, it does not wait for the broker; the next publisher continues from there.
    let began = Instant::now();
    publisher.stop.cancel();
    assert_eq!(publisher.ended().await, Completion::Stopped);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let publisher = fixture.publisher(1, 1, &options);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(publisher.is_running());
    broker.start_again().unwrap();
    assert_eq!(publisher.ended().await, Completion::Done);
    assert_eq!(fixture.one(PUBLISHED).await, format!("1 {MANY} {MANY} t"));
    assert_eq!(on_topic(&options).len(), usize::try_from(MANY).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_continues_when_the_broker_is_restarted() {
    let mut broker = own_broker();
    let options = options_at(&broker.address());
    let fixture = Fixture::new(MANY).await;
    fixture.begin(1, false).await;
    let publisher = fixture.publisher(1, 1, &options);
    fixture.until("select messages > 0 from publication", "true").await;
    broker.kill().unwrap();
    broker.start_again().unwrap();
    assert_eq!(publisher.ended().await, Completion::Done);
    assert_eq!(fixture.one(PUBLISHED).await, format!("1 {MANY} {MANY} t"));
    assert_eq!(on_topic(&options).len(), usize::try_from(MANY).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_while_publishing_is_created_again() {
    let (fixture, options) = (Fixture::new(MANY).await, options());
    fixture.begin(1, false).await;
    let publisher = fixture.publisher(1, 1, &options);
    fixture.until("select messages > 0 from publication", "true").await;
    options.delete_topic().await;
    assert_eq!(publisher.ended().await, Completion::Done);
    assert_eq!(fixture.one(PUBLISHED).await, format!("1 {MANY} {MANY} t"));
    let found = on_topic(&options);
    // The messages that were acknowledged before are lost with the topic: the next round publishes
    // them.
    assert!(found.contains_key(&MANY), "the last page came after the deletion");
    assert_eq!(options.ends(&options.topic).len(), usize::try_from(PARTITIONS).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_connection_is_opened_again() {
    let (fixture, options) = (Fixture::new(MANY).await, options());
    fixture.begin(1, false).await;
    let publisher = fixture.publisher(1, 1, &options);
    fixture.until("select messages > 0 from publication", "true").await;
    let kill = "select count(pg_terminate_backend(pid)) > 0 from pg_stat_activity where application_name = 'monthend publish' and datname = current_database()";
    assert_eq!(fixture.one(kill).await, "true");
    assert_eq!(publisher.ended().await, Completion::Done);
    assert_eq!(fixture.one(PUBLISHED).await, format!("1 {MANY} {MANY} t"));
    assert_eq!(on_topic(&options).len(), usize::try_from(MANY).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_run_is_not_published_until_it_goes_on() {
    let (fixture, options) = (Fixture::new(1000).await, options());
    let id = fixture.begin(1, false).await;
    notification::update_settings(&fixture.operator, id, true, None).await.unwrap();
    let publisher = fixture.publisher(1, 1, &options);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(publisher.is_running());
    assert_eq!(options.ends(&options.topic), BTreeMap::new());
    notification::update_settings(&fixture.operator, id, false, None).await.unwrap();
    assert_eq!(publisher.ended().await, Completion::Done);
    assert_eq!(on_topic(&options).len(), 1000);
    // Of a run that is over nothing more is published.
    let other = fixture.begin(2, false).await;
    notification::cancel_run(&fixture.operator, other, "deleted").await.unwrap();
    assert_eq!(fixture.publisher(2, 1, &options).ended().await, Completion::Done);
    assert_eq!(on_topic(&options).len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_gets_no_answers_is_replaced() {
    let (fixture, options) = (Fixture::new(MANY).await, options());
    fixture.begin(1, false).await;
    let proxy = DatabaseProxy::start(&fixture.worker, 0).await;
    let policy = DatabaseRetryPolicy::JOB.with_timeout(Duration::from_secs(2));
    let publisher = fixture.publisher_at(&proxy.url, policy, 1, 1, &options);
    fixture.until("select messages > 0 from publication", "true").await;
    proxy.silence_open_connections();
    assert_eq!(publisher.ended().await, Completion::Done);
    assert_eq!(fixture.one(PUBLISHED).await, format!("1 {MANY} {MANY} t"));
    assert_eq!(on_topic(&options).len(), usize::try_from(MANY).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_checked_and_their_problems_are_reported() {
    let (fixture, options) = (Fixture::new(10).await, options());
    let admin = options.admin_client();
    let narrow = NewTopic::new(&options.topic, 1, TopicReplication::Fixed(1)).set("retention.ms", "3600000");
    admin.create_topics([&narrow], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    fixture.begin(1, false).await;
    let publisher = fixture.publisher(1, 1, &options);
    let reported = format!(
        "select waiting = 'topic {} keeps messages for only 1 h, and a run may take longer: set its retention.ms to 86400000 or more' from publication",
        options.topic
    );
    fixture.until(&reported, "true").await;
    let longer = AlterConfig::new(ResourceSpecifier::Topic(&options.topic)).set("retention.ms", "90000000");
    admin.alter_configs([&longer], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    assert_eq!(publisher.ended().await, Completion::Done);
    assert_eq!(options.ends(&options.topic).len(), usize::try_from(PARTITIONS).unwrap(), "made wider");
    assert_eq!(on_topic(&options).len(), 10);
}
