//! The loop over one client: gathers, hands in, notes what has ended, commits, and lets partitions go.
//!
//! The client is asked all the time, whatever the engine does: with no room for more it is paused, not left alone, so that
//! the group never waits for a mail server.

use std::pin::Pin;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use rdkafka::Message as _;
use rdkafka::consumer::{Consumer, MessageStream, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::Batch;
use super::consumer::ConsumerConfig;
use super::dead_letter::DeadLetters;
use super::group_client::Client;
use super::offset_tracker::{BatchNo, Ledger};
use super::rebalance::{Event, Group};
use super::stall_detector as still;
use crate::kafka;
use crate::notify::pipeline::engine::{Closed, Intake, Submitted};

/// Batches that have not ended, of which the engine has two and the rest wait for their dead letters.
const IN_HAND: usize = 8;
/// How long there may be no room before the client is paused: what it has fetched by then it fetches again.
const PATIENCE: Duration = Duration::from_millis(500);
/// Offsets are committed this long after the first of them is settled.
const COMMIT_AFTER: Duration = Duration::from_millis(200);
/// After a commit that was refused.
const COMMIT_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a partition that is to be another's is kept until what is in hand of it has ended.
const TO_LET_GO: Duration = Duration::from_secs(20);
/// How long the answer to the last commit is waited for.
const TO_COMMIT: Duration = Duration::from_secs(3);
/// Between two lines about the same trouble.
const TELL: Duration = Duration::from_secs(60);

/// Why the loop ended.
#[derive(Debug)]
pub(super) enum Left {
    Stopped,
    /// The client can't go on; another can.
    Fatal(KafkaError),
    /// The client brings nothing, though there is something.
    Still,
}

type Ended = (BatchNo, Result<(), Closed>);

/// Partitions that are to be another's.
struct Leaving {
    partitions: Vec<i32>,
    until: Instant,
    /// What is settled of them was committed, and the answer is waited for until then.
    committed: Option<Instant>,
}

pub(super) struct Desk<'a> {
    config: &'a ConsumerConfig,
    client: &'a Client,
    consumer: &'a StreamConsumer<Group>,
    intake: &'a Intake,
    dead_letters: &'a DeadLetters,
    topic_away: &'a Notify,
    ledger: Ledger,
    gathering: Batch,
    /// A batch that the engine has no room for yet.
    handing_in: Option<BoxFuture<'static, (Batch, Result<Submitted, Closed>)>>,
    in_hand: FuturesUnordered<BoxFuture<'static, Ended>>,
    leaving: Vec<Leaving>,
    full_since: Option<Instant>,
    paused: bool,
    commit_at: Option<Instant>,
    unanswered_commits: usize,
    trouble: Option<(String, Instant)>,
    /// Since when nothing came, with nothing in hand; put off by each look.
    still_since: Instant,
    /// Whether there are messages that don't come.
    looking: Option<BoxFuture<'static, bool>>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(
        config: &'a ConsumerConfig,
        client: &'a Client,
        intake: &'a Intake,
        dead_letters: &'a DeadLetters,
        topic_away: &'a Notify,
    ) -> Self {
        Self {
            config,
            client,
            consumer: client.consumer(),
            intake,
            dead_letters,
            topic_away,
            ledger: Ledger::default(),
            gathering: Batch::new(0, config.batch),
            handing_in: None,
            in_hand: FuturesUnordered::new(),
            leaving: Vec::new(),
            full_since: None,
            paused: false,
            commit_at: None,
            unanswered_commits: 0,
            trouble: None,
            still_since: Instant::now(),
            looking: None,
        }
    }

    /// Works until `stop` is cancelled and what is in hand has ended, or the client can't go on.
    pub(super) async fn work(mut self, stop: &CancellationToken) -> Left {
        let mut stream = self.consumer.stream();
        let group = self.consumer.context();
        while !stop.is_cancelled() {
            self.hand_in();
            self.let_go();
            self.pause_or_resume();
            self.look_if_still();
            let wake_at = self.next_deadline();
            let listening = !self.is_full() || self.paused;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = group.news() => self.take_events(),
                Some((batch, ended)) = self.in_hand.next(), if !self.in_hand.is_empty() => self.ended(batch, ended),
                (batch, handed_in) = outcome(&mut self.handing_in) => self.handed_in(batch, handed_in),
                () = tokio::time::sleep_until(wake_at) => self.commit_if_due(),
                there_are_messages = outcome(&mut self.looking) => {
                    self.looking = None;
                    // Something may have come meanwhile.
                    if there_are_messages && self.is_still() {
                        return Left::Still;
                    }
                    self.still_since = Instant::now();
                }
                message = stream.next(), if listening => {
                    if let Err(error) = self.take_all(message, &mut stream) {
                        return Left::Fatal(error);
                    }
                }
            }
        }
        self.drain(&mut stream).await
    }

    /// Takes nothing more, waits for what is in hand, commits.
    async fn drain(mut self, stream: &mut MessageStream<'_, Group>) -> Left {
        let deadline = Instant::now() + self.config.grace;
        // Not handed in, so not begun: the next consumer's.
        self.gathering = Batch::new(BatchNo::MAX, 0);
        self.handing_in = None;
        self.paused = true;
        self.pause(&self.all());
        let group = self.consumer.context();
        let mut last_commit: Option<Instant> = None;
        loop {
            self.let_go();
            if self.in_hand.is_empty() {
                // What is committed now is the last.
                let until = *last_commit.get_or_insert_with(|| Instant::now() + TO_COMMIT);
                self.commit();
                if (self.unanswered_commits == 0 && !self.ledger.has_news()) || Instant::now() >= until {
                    return Left::Stopped;
                }
            }
            let wake_at = self.next_deadline().min(last_commit.unwrap_or(deadline)).min(deadline);
            tokio::select! {
                biased;
                () = group.news() => self.take_events(),
                Some((batch, ended)) = self.in_hand.next(), if !self.in_hand.is_empty() => self.ended(batch, ended),
                () = tokio::time::sleep_until(wake_at) => self.commit_if_due(),
                // Only so that events come in; messages are the next consumer's.
                _ = stream.next() => {}
            }
            if Instant::now() >= deadline {
                tracing::warn!(
                    batches = self.in_hand.len(),
                    "batches are still in hand; their messages will come again"
                );
                return Left::Stopped;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.gathering.len() >= self.config.batch
    }

    /// Gives the engine what is gathered, once it is enough or has waited long enough.
    fn hand_in(&mut self) {
        let due = self.is_full() || self.gathering.due.is_some_and(|due| Instant::now() >= due);
        if !due || self.handing_in.is_some() || self.in_hand.len() >= IN_HAND {
            return;
        }
        let next = Batch::new(self.gathering.number + 1, self.config.batch);
        let mut batch = std::mem::replace(&mut self.gathering, next);
        if batch.messages.is_empty() {
            self.finish(batch, None);
            return;
        }
        let (intake, messages) = (self.intake.clone(), std::mem::take(&mut batch.messages));
        self.handing_in = Some(Box::pin(async move { (batch, intake.submit(messages).await) }));
    }

    fn handed_in(&mut self, batch: Batch, handed_in: Result<Submitted, Closed>) {
        self.handing_in = None;
        match handed_in {
            Ok(submitted) => self.finish(batch, Some(submitted)),
            // Only when it is over with everything; never committed.
            Err(Closed) => tracing::debug!(batch = batch.number, "the engine takes no more"),
        }
    }

    /// Sees a batch to its end: what the engine has to say, and its dead letters.
    fn finish(&mut self, mut batch: Batch, submitted: Option<Submitted>) {
        let dead_letters = self.dead_letters.clone();
        self.in_hand.push(Box::pin(async move {
            if let Some(submitted) = submitted {
                match submitted.await {
                    Ok(done) => batch.bury(done.unusable),
                    Err(closed) => return (batch.number, Err(closed)),
                }
            }
            dead_letters.bury(batch.dead).await;
            (batch.number, Ok(()))
        }));
    }

    fn ended(&mut self, batch: BatchNo, ended: Result<(), Closed>) {
        self.still_since = Instant::now();
        if ended.is_ok() {
            self.ledger.end(batch);
            if self.ledger.has_news() {
                self.commit_at.get_or_insert_with(|| Instant::now() + COMMIT_AFTER);
            }
        }
    }

    /// Takes a message and whatever else is there already.
    fn take_all(
        &mut self,
        message: Option<KafkaResult<BorrowedMessage<'_>>>,
        stream: &mut MessageStream<'_, Group>,
    ) -> KafkaResult<()> {
        let mut next = message;
        while let Some(message) = next {
            match message {
                Ok(message) => {
                    self.trouble = None;
                    self.still_since = Instant::now();
                    if self.ledger.take(self.gathering.number, message.partition(), message.offset()) {
                        self.gathering.add(&message);
                    }
                }
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(error),
                Err(error) => {
                    self.tell(&error);
                    // The library follows no topic that is made anew: its leaders' terms begin again, and it takes them
                    // for the past. And what is in hand is of the old one, of which nothing can be committed.
                    if kafka::is_topic_missing(&error) {
                        return Err(error);
                    }
                }
            }
            if self.is_full() {
                break;
            }
            next = stream.next().now_or_never().flatten();
        }
        Ok(())
    }

    /// Everything that came is over with, and there is room for more.
    fn is_idle(&self) -> bool {
        !self.paused
            && self.gathering.len() == 0
            && self.handing_in.is_none()
            && self.in_hand.is_empty()
            && self.unanswered_commits == 0
            && !self.ledger.has_news()
    }

    fn is_still(&self) -> bool {
        self.is_idle() && self.still_since.elapsed() >= still::LOOK_AFTER
    }

    fn look_if_still(&mut self) {
        if self.looking.is_some() || !self.is_still() {
            return;
        }
        let (options, partitions) = (self.config.kafka.clone(), self.all());
        let look = tokio::task::spawn_blocking(move || still::has_messages(&options, &partitions));
        self.looking = Some(Box::pin(async move { look.await.unwrap_or(false) }));
    }

    fn tell(&mut self, error: &KafkaError) {
        if kafka::is_topic_missing(error) {
            self.topic_away.notify_one();
        }
        let text = error.to_string();
        if self.trouble.as_ref().is_none_or(|(said, at)| *said != text || at.elapsed() > TELL) {
            tracing::warn!(topic = self.config.kafka.topic, "waiting for Kafka: {text}");
            self.trouble = Some((text, Instant::now()));
        }
    }

    fn take_events(&mut self) {
        for event in self.consumer.context().events() {
            match event {
                Event::Assigned(partitions) => {
                    tracing::info!(?partitions, "took over partitions");
                    self.still_since = Instant::now();
                    partitions.iter().for_each(|partition| self.ledger.assign(*partition));
                    // A partition may still be paused from the last time that it was here.
                    let done = if self.paused { Consumer::pause } else { Consumer::resume };
                    if let Err(error) = done(self.consumer, &self.list(&partitions)) {
                        tracing::warn!("cannot pause or resume: {error}");
                    }
                }
                Event::Revoked(partitions) => {
                    partitions.iter().for_each(|partition| self.ledger.leave(*partition));
                    self.pause(&partitions);
                    let until = Instant::now() + TO_LET_GO;
                    self.leaving.push(Leaving { partitions, until, committed: None });
                }
                Event::Lost(partitions) => {
                    tracing::warn!(?partitions, "lost partitions; what is in hand of them is not committed");
                    partitions.iter().for_each(|partition| self.ledger.forget(*partition));
                }
                Event::Committed { partitions, refusal } => {
                    self.unanswered_commits = self.unanswered_commits.saturating_sub(1);
                    if let Some(refusal) = refusal {
                        tracing::warn!(?partitions, "offsets could not be committed: {refusal}");
                        partitions.iter().for_each(|partition| self.ledger.not_told(*partition));
                    }
                    if self.ledger.has_news() {
                        self.commit_at.get_or_insert_with(|| Instant::now() + COMMIT_AGAIN_AFTER);
                    }
                }
            }
        }
    }

    /// Lets go of partitions of which everything has ended and is committed, or that were waited for long enough.
    fn let_go(&mut self) {
        let now = Instant::now();
        let Some(mut leaving) = self.leaving.pop() else { return };
        let busy = leaving.partitions.iter().any(|partition| self.ledger.is_busy(*partition));
        if busy && now < leaving.until {
            self.leaving.push(leaving);
            return;
        }
        let answer_until = *leaving.committed.get_or_insert_with(|| {
            self.commit();
            now + TO_COMMIT
        });
        if self.unanswered_commits > 0 && now < answer_until {
            self.leaving.push(leaving);
            return;
        }
        let partitions = &leaving.partitions;
        tracing::info!(?partitions, busy, "let go of partitions");
        if let Err(error) = self.consumer.incremental_unassign(&self.list(partitions)) {
            tracing::warn!("cannot let go of partitions: {error}");
        }
        partitions.iter().for_each(|partition| self.ledger.forget(*partition));
    }

    fn commit_if_due(&mut self) {
        if self.commit_at.is_some_and(|at| Instant::now() >= at) {
            self.commit();
        }
    }

    fn commit(&mut self) {
        self.commit_at = None;
        let settled = self.ledger.tell();
        if !settled.is_empty() {
            self.unanswered_commits += 1;
            self.client.commit(settled);
        }
    }

    fn pause_or_resume(&mut self) {
        if !self.is_full() {
            self.full_since = None;
            if std::mem::take(&mut self.paused) {
                let staying: Vec<i32> = self.all();
                if let Err(error) = self.consumer.resume(&self.list(&staying)) {
                    tracing::warn!("cannot go on consuming: {error}");
                }
            }
            return;
        }
        let full_since = *self.full_since.get_or_insert_with(Instant::now);
        if !self.paused && full_since.elapsed() >= PATIENCE {
            self.paused = true;
            self.pause(&self.all());
        }
    }

    fn pause(&self, partitions: &[i32]) {
        if let Err(error) = self.consumer.pause(&self.list(partitions)) {
            tracing::warn!("cannot pause: {error}");
        }
    }

    /// The partitions that are this consumer's and stay so.
    fn all(&self) -> Vec<i32> {
        self.ledger.staying().collect()
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.config.kafka.topic, *partition);
        }
        list
    }

    /// When to look again, whatever happens.
    fn next_deadline(&self) -> Instant {
        let due = self.gathering.due.filter(|_| self.handing_in.is_none() && self.in_hand.len() < IN_HAND);
        let pause_at = self.full_since.filter(|_| !self.paused).map(|since| since + PATIENCE);
        let leave_at = self.leaving.last().map(|leaving| leaving.committed.unwrap_or(leaving.until));
        let still_at = Some(self.still_since + still::LOOK_AFTER);
        let still_at = still_at.filter(|_| self.looking.is_none() && self.is_idle());
        let soonest = [due, pause_at, leave_at, self.commit_at, still_at].into_iter().flatten().min();
        soonest.unwrap_or_else(|| Instant::now() + TELL)
    }
}

async fn outcome<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
