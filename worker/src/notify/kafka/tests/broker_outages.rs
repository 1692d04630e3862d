//! Brokers that fail, a topic and offsets that are deleted, consumers that are killed.

use super::*;
use crate::kafka::testing::{options_at, own_broker};
use crate::notify::kafka::stall_detector::has_uncommitted_messages;

const AFTER_OUTAGE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_survives_a_broker_outage() {
    let mut broker = own_broker();
    let options = options_at(&broker.address());
    options.make_topics().await;
    options.put(messages(1..=1000)).await;
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, false);
    until("the first messages", SOON, || sink.distinct() == 1000).await;
    broker.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!running.task.is_finished());
    broker.start_again().unwrap();
    options.put(messages(1001..=2000)).await;
    until("the others", AFTER_OUTAGE, || sink.distinct() == 2000).await;
    until("their commits", AFTER_OUTAGE, || options.lag() == 0).await;
    // It also stops in time while the broker is down.
    options.put(messages(2001..=2100)).await;
    until("the last", AFTER_OUTAGE, || sink.distinct() == 2100).await;
    broker.kill().unwrap();
    let started = std::time::Instant::now();
    running.stop().await;
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_can_start_before_the_broker() {
    let mut broker = own_broker();
    let options = options_at(&broker.address());
    broker.kill().unwrap();
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, false);
    tokio::time::sleep(Duration::from_secs(7)).await;
    broker.start_again().unwrap();
    until("the topic", AFTER_OUTAGE, || !options.ends(&options.topic).is_empty()).await;
    options.put(messages(1..=10)).await;
    until("the messages", AFTER_OUTAGE, || sink.distinct() == 10 && options.lag() == 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_is_created_again() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=1000)).await;
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, false);
    until("the first messages", SOON, || sink.distinct() == 1000 && options.lag() == 0).await;
    options.delete_topic().await;
    until("the topic", AFTER_OUTAGE, || options.ends(&options.topic).len() == 4).await;
    options.put(messages(1001..=1500)).await;
    until("what came afterwards", AFTER_OUTAGE, || sink.distinct() == 1500).await;
    until("commits", AFTER_OUTAGE, || options.lag() == 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stall_detector_sees_uncommitted_messages() {
    let options = options();
    let has_messages = || tokio::task::block_in_place(|| has_uncommitted_messages(&options, &[0, 1, 2, 3]));
    assert!(!has_messages(), "there is no topic");
    options.make_topics().await;
    assert!(!has_messages(), "the topic is empty");
    options.put(messages(1..=100)).await;
    assert!(has_messages());
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, false);
    until("all messages", SOON, || sink.distinct() == 100 && options.lag() == 0).await;
    running.stop().await;
    assert!(!has_messages(), "they are committed");
    assert!(!tokio::task::block_in_place(|| has_uncommitted_messages(&options, &[])));
    options.delete_topic().await;
    until("the topic to be gone", SOON, || options.ends(&options.topic).is_empty()).await;
    options.make_topics().await;
    until("the topic", SOON, || options.ends(&options.topic).len() == 4).await;
    options.put(messages(1..=10)).await;
    assert!(has_messages(), "it is another topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_offsets_the_consumer_starts_at_the_beginning() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=500)).await;
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, false);
    until("all messages", SOON, || sink.distinct() == 500 && options.lag() == 0).await;
    running.stop().await;
    options.delete_group().await;
    assert_eq!(options.committed(), BTreeMap::new());
    let running = RunningConsumer::start(&options, &sink, false);
    until("all of them again", SOON, || sink.seen().values().all(|times| *times == 2)).await;
    until("commits", SOON, || options.lag() == 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_a_killed_consumer_go_to_another() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=500)).await;
    let (killed, alive) = (Sink::default(), Sink::default());
    let first = RunningConsumer::start(&options, &killed, true);
    // On a busy machine a batch is full of time before it is full of messages.
    until("a batch", SOON, || killed.distinct() > 0).await;
    first.abort();
    let second = RunningConsumer::start(&options, &alive, false);
    until("everything", AFTER_OUTAGE, || alive.distinct() == 500 && options.lag() == 0).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_be_delivered_twice() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=300)).await;
    options.put(messages(1..=300)).await;
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, false);
    until("commits", SOON, || options.lag() == 0).await;
    assert!(sink.seen().values().all(|times| *times == 2), "the database decides, not the consumer");
    running.stop().await;
}
