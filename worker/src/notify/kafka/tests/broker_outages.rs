//! Brokers that die, a topic and offsets that are deleted, consumers that are killed.

use super::*;
use crate::kafka::testing::{options_at, own_broker};
use crate::notify::kafka::stall_detector::has_messages;

const IN_A_WHILE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_may_die_and_come_back() {
    let mut broker = own_broker();
    let options = options_at(&broker.address());
    options.make_topics().await;
    options.put(messages(1..=1000)).await;
    let desk = Desk::default();
    let running = Running::start(&options, &desk, false);
    until("the first messages", SOON, || desk.distinct() == 1000).await;
    broker.kill().unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!running.task.is_finished());
    broker.start_again().unwrap();
    options.put(messages(1001..=2000)).await;
    until("the others", IN_A_WHILE, || desk.distinct() == 2000).await;
    until("their commits", IN_A_WHILE, || options.lag() == 0).await;
    // It also ends in time with the broker away.
    options.put(messages(2001..=2100)).await;
    until("the last", IN_A_WHILE, || desk.distinct() == 2100).await;
    broker.kill().unwrap();
    let began = std::time::Instant::now();
    running.stop().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_may_begin_before_there_is_a_broker() {
    let mut broker = own_broker();
    let options = options_at(&broker.address());
    broker.kill().unwrap();
    let desk = Desk::default();
    let running = Running::start(&options, &desk, false);
    tokio::time::sleep(Duration::from_secs(7)).await;
    broker.start_again().unwrap();
    until("the topic", IN_A_WHILE, || !options.ends(&options.topic).is_empty()).await;
    options.put(messages(1..=10)).await;
    until("the messages", IN_A_WHILE, || desk.distinct() == 10 && options.lag() == 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_is_made_again() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=1000)).await;
    let desk = Desk::default();
    let running = Running::start(&options, &desk, false);
    until("the first messages", SOON, || desk.distinct() == 1000 && options.lag() == 0).await;
    options.delete_topic().await;
    until("the topic", IN_A_WHILE, || options.ends(&options.topic).len() == 4).await;
    options.put(messages(1001..=1500)).await;
    until("what came afterwards", IN_A_WHILE, || desk.distinct() == 1500).await;
    until("commits", IN_A_WHILE, || options.lag() == 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_nobody_brings_are_seen() {
    let options = options();
    let there_are = || tokio::task::block_in_place(|| has_messages(&options, &[0, 1, 2, 3]));
    assert!(!there_are(), "there is no topic");
    options.make_topics().await;
    assert!(!there_are(), "there is nothing on it");
    options.put(messages(1..=100)).await;
    assert!(there_are());
    let desk = Desk::default();
    let running = Running::start(&options, &desk, false);
    until("all messages", SOON, || desk.distinct() == 100 && options.lag() == 0).await;
    running.stop().await;
    assert!(!there_are(), "they are committed");
    assert!(!tokio::task::block_in_place(|| has_messages(&options, &[])));
    options.delete_topic().await;
    until("the topic to be gone", SOON, || options.ends(&options.topic).is_empty()).await;
    options.make_topics().await;
    until("the topic", SOON, || options.ends(&options.topic).len() == 4).await;
    options.put(messages(1..=10)).await;
    assert!(there_are(), "it is another topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_offsets_begin_at_the_beginning() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=500)).await;
    let desk = Desk::default();
    let running = Running::start(&options, &desk, false);
    until("all messages", SOON, || desk.distinct() == 500 && options.lag() == 0).await;
    running.stop().await;
    options.delete_group().await;
    assert_eq!(options.committed(), BTreeMap::new());
    let running = Running::start(&options, &desk, false);
    until("all of them again", SOON, || desk.seen().values().all(|times| *times == 2)).await;
    until("commits", SOON, || options.lag() == 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_consumer_had_is_another_s() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=500)).await;
    let (dead, alive) = (Desk::default(), Desk::default());
    let first = Running::start(&options, &dead, true);
    until("its batches", SOON, || dead.distinct() == 2 * BATCH).await;
    first.abandon();
    let second = Running::start(&options, &alive, false);
    until("everything", IN_A_WHILE, || alive.distinct() == 500 && options.lag() == 0).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_may_come_twice() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=300)).await;
    options.put(messages(1..=300)).await;
    let desk = Desk::default();
    let running = Running::start(&options, &desk, false);
    until("commits", SOON, || options.lag() == 0).await;
    assert!(desk.seen().values().all(|times| *times == 2), "the database decides, not the consumer");
    running.stop().await;
}
