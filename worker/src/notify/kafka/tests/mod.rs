//! The consumer on a real broker, with a test in the engine's place that decides when a batch has ended.

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
use crate::notify::pipeline::engine::{BatchDone, Intake};

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

/// Where batches of any number of consumers end.
#[derive(Clone, Default)]
struct Desk {
    /// How often each member's message has come.
    seen: Arc<Mutex<BTreeMap<i64, usize>>>,
    largest: Arc<Mutex<usize>>,
}

impl Desk {
    fn seen(&self) -> BTreeMap<i64, usize> {
        self.seen.lock().unwrap().clone()
    }

    fn distinct(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn note(&self, messages: &[NotificationMessage]) {
        let mut seen = self.seen.lock().unwrap();
        for message in messages {
            *seen.entry(message.member.get()).or_default() += 1;
        }
        let mut largest = self.largest.lock().unwrap();
        *largest = (*largest).max(messages.len());
    }
}

/// A consumer that runs.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// While true, batches are taken and do not end.
    hold: watch::Sender<bool>,
}

impl Running {
    fn start(options: &KafkaArgs, desk: &Desk, held: bool) -> Self {
        let (batches, taken) = mpsc::channel(1);
        let (hold, held) = watch::channel(held);
        let stop = CancellationToken::new();
        tokio::spawn(end_batches(taken, desk.clone(), held, stop.clone()));
        let config = ConsumerConfig { kafka: options.clone(), batch: BATCH, grace: Duration::from_secs(10) };
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

    /// Ends it on the spot: what is in hand is not waited for, nothing is committed.
    fn abandon(self) {
        self.task.abort();
    }
}

/// An engine that has two batches in hand at once, finds members above 1,000,000 unusable, and on a stop keeps what is
/// held.
async fn end_batches(
    mut taken: mpsc::Receiver<(Vec<NotificationMessage>, oneshot::Sender<BatchDone>)>,
    desk: Desk,
    held: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let room = Arc::new(tokio::sync::Semaphore::new(2));
    loop {
        let place = Arc::clone(&room).acquire_owned().await.unwrap();
        let Some((messages, done)) = taken.recv().await else { return };
        desk.note(&messages);
        let (mut held, stop) = (held.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                released = held.wait_for(|held| !held) => {
                    // Dropping the sender says that the batch never ends.
                    let Ok(_) = released else { return };
                }
                () = stop.cancelled() => return,
            }
            let place_of = |(at, message): (usize, &NotificationMessage)| {
                (message.member.get() > 1_000_000).then(|| (at, "nobody like this".to_owned()))
            };
            done.send(BatchDone { unusable: messages.iter().enumerate().filter_map(place_of).collect() })
                .ok();
            drop(place);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_comes_and_is_committed() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=2000)).await;
    let desk = Desk::default();
    let running = Running::start(&options, &desk, false);
    until("all messages", SOON, || desk.distinct() == 2000).await;
    until("their commits", SOON, || options.lag() == 0).await;
    assert!(desk.seen().values().all(|times| *times == 1), "none came twice");
    assert_eq!(*desk.largest.lock().unwrap(), BATCH);
    // A few that come alone don't wait for others.
    options.put(messages(2001..=2003)).await;
    until("the last few", SOON, || desk.distinct() == 2003 && options.lag() == 0).await;
    running.stop().await;
    assert_eq!(options.members(), 0, "it has left the group");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_before_its_batch_has_ended() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=150)).await;
    let desk = Desk::default();
    let first = Running::start(&options, &desk, true);
    until("two batches", SOON, || desk.distinct() == 150).await;
    assert_eq!(options.committed(), BTreeMap::new());
    first.stop().await;
    assert_eq!(options.committed(), BTreeMap::new(), "nor at the end");
    // Another gets all of it again.
    let second = Running::start(&options, &desk, false);
    until("commits", SOON, || options.lag() == 0).await;
    assert!(desk.seen().values().all(|times| *times == 2), "{:?}", desk.seen());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_after_the_stop_is_committed() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=150)).await;
    let (batches, mut taken) = mpsc::channel(2);
    let config = ConsumerConfig { kafka: options.clone(), batch: 1000, grace: Duration::from_secs(10) };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let task = tokio::spawn(async move { consume(&config, &Intake::to(batches), &stopped).await.unwrap() });
    let (mut open, mut came) = (Vec::new(), 0);
    while came < 150 {
        let (messages, done): (Vec<NotificationMessage>, oneshot::Sender<BatchDone>) =
            taken.recv().await.unwrap();
        came += messages.len();
        open.push(done);
    }
    stop.cancel();
    until("the end of gathering", SOON, || taken.is_closed() || taken.is_empty()).await;
    assert!(!task.is_finished());
    open.into_iter().for_each(|done| done.send(BatchDone::default()).unwrap());
    task.await.unwrap();
    assert_eq!(options.lag(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_no_use_goes_to_the_dead_letters() {
    let options = options();
    options.make_topics().await;
    let good = String::from_utf8(message(7).format()).unwrap();
    let unusable = String::from_utf8(message(1_000_001).format()).unwrap();
    let long = format!("{{\"v\":1,\"pad\":\"{}\"}}", "x".repeat(100_000));
    let payloads = [good.as_str(), "", "kim@example.com", &unusable, "{\"v\":2}", &long];
    options.put(payloads).await;
    let desk = Desk::default();
    let running = Running::start(&options, &desk, false);
    until("commits", SOON, || options.lag() == 0).await;
    assert_eq!(desk.seen().keys().copied().collect::<Vec<_>>(), [7, 1_000_001]);
    let dead = options.read(&options.dlq_topic);
    let mut reasons: Vec<_> = dead
        .iter()
        .map(|dead| (dead.key.as_deref().unwrap(), dead.headers["monthend-reason"].as_str()))
        .collect();
    reasons.sort_unstable();
    let expected = [
        ("1", "the message is empty"),
        ("2", "the message is not valid JSON: syntax error in line 1, column 1"),
        ("3", "nobody like this"),
        ("4", "`v` is not 1, the only supported version"),
        ("5", "the message has 100016 bytes, more than the maximum of 1024"),
    ];
    assert_eq!(reasons, expected);
    for letter in &dead {
        let at: usize = letter.key.as_deref().unwrap().parse().unwrap();
        assert!(payloads[at].starts_with(&letter.payload));
        let cut = letter.headers.get("monthend-bytes-cut").map_or(0, |cut| cut.parse().unwrap());
        assert_eq!(letter.payload.len() + cut, payloads[at].len());
        assert!(letter.headers["monthend-source"].starts_with(&options.topic), "{:?}", letter.headers);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_room_is_waited_for() {
    let options = options();
    options.make_topics().await;
    options.put(messages(1..=3000)).await;
    let desk = Desk::default();
    let running = Running::start(&options, &desk, true);
    until("a full engine", SOON, || desk.distinct() == 2 * BATCH).await;
    // Longer than the consumer waits before it pauses.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(desk.distinct(), 2 * BATCH);
    running.hold.send_replace(false);
    until("the rest", SOON, || desk.distinct() == 3000 && options.lag() == 0).await;
    assert!(desk.seen().values().all(|times| *times == 1), "what was fetched twice is handed in once");
    running.stop().await;
}
