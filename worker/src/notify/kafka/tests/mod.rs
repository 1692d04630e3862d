//! The consumer on a real broker. A fake engine decides when a batch is done.

mod broker_outages;
mod rebalancing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::notification_message::NotificationMessage;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use worker_cli::KafkaArgs;

use super::{ConsumerConfig, consume};
use crate::kafka::testing::{TestTopics as _, options, until};
use crate::notify::pipeline::{BatchDone, Intake};

const BATCH: usize = 100;
const SOON: Duration = Duration::from_secs(30);

fn message(member: i64) -> NotificationMessage {
    NotificationMessage {
        month: "2026-10".parse().unwrap(),
        member: member.try_into().unwrap(),
        revision: domain::ids::Revision::FIRST,
        run: "test/run".to_owned(),
    }
}

fn messages(members: std::ops::RangeInclusive<i64>) -> Vec<Vec<u8>> {
    members.map(|member| message(member).format()).collect()
}

/// Counts the messages that any number of consumers submit.
#[derive(Clone, Default)]
struct Sink {
    /// How often each member's message was submitted.
    seen: Arc<Mutex<BTreeMap<i64, usize>>>,
    largest: Arc<Mutex<usize>>,
}

impl Sink {
    fn seen(&self) -> BTreeMap<i64, usize> {
        self.seen.lock().unwrap().clone()
    }

    fn distinct(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn record(&self, messages: &[NotificationMessage]) {
        let mut seen = self.seen.lock().unwrap();
        for message in messages {
            *seen.entry(message.member.get()).or_default() += 1;
        }
        let mut largest = self.largest.lock().unwrap();
        *largest = (*largest).max(messages.len());
    }
}

/// A running consumer.
struct RunningConsumer {
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// While true, batches are received and not done.
    hold: watch::Sender<bool>,
}

impl RunningConsumer {
    fn start(options: &KafkaArgs, sink: &Sink, held: bool) -> Self {
        let (batches, submitted) = mpsc::channel(1);
        let (hold, held) = watch::channel(held);
        let stop = CancellationToken::new();
        tokio::spawn(run_fake_engine(submitted, sink.clone(), held, stop.clone()));
        let config = ConsumerConfig {
            kafka: options.clone(),
            max_batch: BATCH,
            drain_timeout: Duration::from_secs(10),
        };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            consume(&config, &Intake::to(batches), &stopped).await.unwrap();
        });
        Self { stop, task, hold }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// Aborts it: unfinished batches are not waited for, and nothing is committed.
    fn abort(self) {
        self.task.abort();
    }
}

/// An engine that has room for two batches, finds members above 1,000,000 unusable, and never
/// finishes what is held when it is stopped.
async fn run_fake_engine(
    mut submitted: mpsc::Receiver<(Vec<NotificationMessage>, oneshot::Sender<BatchDone>)>,
    sink: Sink,
    held: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let room = Arc::new(tokio::sync::Semaphore::new(2));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        let Some((messages, done)) = submitted.recv().await else { return };
        sink.record(&messages);
        let (mut held, stop) = (held.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                released = held.wait_for(|held| !held) => {
                    // Dropping the sender means that the batch is never done.
                    let Ok(_) = released else { return };
                }
                () = stop.cancelled() => return,
            }
            let rejected = |(index, message): (usize, &NotificationMessage)| {
                (message.member.get() > 1_000_000).then(|| (index, "no such member".to_owned()))
            };
            done.send(BatchDone { unusable: messages.iter().enumerate().filter_map(rejected).collect() })
                .ok();
            drop(permit);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_submitted_and_committed() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=2000)).await;
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, false);
    until("all messages", SOON, || sink.distinct() == 2000).await;
    until("their commits", SOON, || options.lag() == 0).await;
    assert!(sink.seen().values().all(|times| *times == 1), "no message came twice");
    assert_eq!(*sink.largest.lock().unwrap(), BATCH);
    // A few messages do not wait for a full batch.
    options.put(messages(2001..=2003)).await;
    until("the last few", SOON, || sink.distinct() == 2003 && options.lag() == 0).await;
    running.stop().await;
    assert_eq!(options.members(), 0, "it has left the group");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_before_its_batch_is_done() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=150)).await;
    let sink = Sink::default();
    let first = RunningConsumer::start(&options, &sink, true);
    until("two batches", SOON, || sink.distinct() == 150).await;
    assert_eq!(options.committed(), BTreeMap::new());
    first.stop().await;
    assert_eq!(options.committed(), BTreeMap::new(), "nor when the consumer stops");
    // The next consumer gets all of it again.
    let second = RunningConsumer::start(&options, &sink, false);
    until("commits", SOON, || options.lag() == 0).await;
    assert!(sink.seen().values().all(|times| *times == 2), "{:?}", sink.seen());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_done_after_the_stop_is_committed() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=150)).await;
    let (batches, mut submitted) = mpsc::channel(2);
    let config =
        ConsumerConfig { kafka: options.clone(), max_batch: 1000, drain_timeout: Duration::from_secs(10) };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move { consume(&config, &Intake::to(batches), &stopped).await.unwrap() });
    let (mut pending, mut count) = (Vec::new(), 0);
    while count < 150 {
        let (messages, done): (Vec<NotificationMessage>, oneshot::Sender<BatchDone>) =
            submitted.recv().await.unwrap();
        count += messages.len();
        pending.push(done);
    }
    stop.cancel();
    until("the end of gathering", SOON, || submitted.is_closed() || submitted.is_empty()).await;
    assert!(!task.is_finished());
    pending.into_iter().for_each(|done| done.send(BatchDone::default()).unwrap());
    task.await.unwrap();
    assert_eq!(options.lag(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_message_goes_to_the_dead_letter_topic() {
    let options = options();
    options.make_topics().await;
    let good = String::from_utf8(message(7).format()).unwrap();
    let unusable = String::from_utf8(message(1_000_001).format()).unwrap();
    let long = format!("{{\"v\":1,\"pad\":\"{}\"}}", "x".repeat(100_000));
    let payloads = [good.as_str(), "", "kim@example.com", &unusable, "{\"v\":2}", &long];
    options.put(payloads).await;
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, false);
    until("commits", SOON, || options.lag() == 0).await;
    assert_eq!(sink.seen().keys().copied().collect::<Vec<_>>(), [7, 1_000_001]);
    let letters = options.read(&options.dlq_topic);
    let mut reasons: Vec<_> = letters
        .iter()
        .map(|letter| (letter.key.as_deref().unwrap(), letter.headers["monthend-reason"].as_str()))
        .collect();
    reasons.sort_unstable();
    let expected = [
        ("1", "the message is empty"),
        ("2", "the message is not valid JSON: syntax error in line 1, column 1"),
        ("3", "no such member"),
        ("4", "`v` is not 1, the only supported version"),
        ("5", "the message has 100016 bytes, more than the maximum of 1024"),
    ];
    assert_eq!(reasons, expected);
    for letter in &letters {
        let index: usize = letter.key.as_deref().unwrap().parse().unwrap();
        assert!(payloads[index].starts_with(&letter.payload));
        let cut = letter.headers.get("monthend-bytes-cut").map_or(0, |cut| cut.parse().unwrap());
        assert_eq!(letter.payload.len() + cut, payloads[index].len());
        assert!(letter.headers["monthend-source"].starts_with(&options.topic), "{:?}", letter.headers);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumer_waits_for_an_engine_without_room() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=3000)).await;
    let sink = Sink::default();
    let running = RunningConsumer::start(&options, &sink, true);
    until("a batch", SOON, || sink.distinct() > 0).await;
    // Longer than the consumer waits before it pauses its partitions.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // On a busy machine a batch can be full of time before it is full of messages.
    assert!(sink.distinct() <= 2 * BATCH, "{}", sink.distinct());
    running.hold.send_replace(false);
    until("the rest", SOON, || sink.distinct() == 3000 && options.lag() == 0).await;
    assert!(sink.seen().values().all(|times| *times == 1), "what was fetched twice is submitted once");
    running.stop().await;
}
