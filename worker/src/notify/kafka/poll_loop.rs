//! The loop over one client: gathers messages, submits batches, commits offsets and gives up
//! revoked partitions.
//!
//! The client is polled all the time, even while the pipeline has no room: its partitions are then
//! paused, so that the group never waits for a mail server.

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
use worker_cli::KafkaArgs;

use super::batch::Batch;
use super::dead_letter::DeadLetterPublisher;
use super::group_client::GroupClient;
use super::offset_tracker::{BatchNumber, OffsetTracker};
use super::rebalance::{GroupContext, GroupEvent};
use super::stall_detector;
use crate::kafka;
use crate::notify::pipeline::{EngineClosed, Intake, PendingBatch};

/// Batches that are not done. The pipeline has two of them; the rest wait for their dead letters.
const MAX_UNFINISHED_BATCHES: usize = 8;
/// How long there is no room before the partitions are paused: what the client has fetched by then
/// is fetched again.
const PAUSE_AFTER: Duration = Duration::from_millis(500);
/// From the first offset that can be committed to the commit.
const COMMIT_DELAY: Duration = Duration::from_millis(200);
const COMMIT_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a revoked partition is kept until its unfinished batches are done.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the reply to a last commit is waited for.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two log lines about the same error.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What a poll loop works with.
pub(super) struct PollLoopConfig<'a> {
    pub(super) kafka: &'a KafkaArgs,
    /// Messages in one batch, at most.
    pub(super) max_batch: usize,
    /// How long unfinished batches are waited for after the stop.
    pub(super) drain_timeout: Duration,
    pub(super) client: &'a GroupClient,
    pub(super) intake: &'a Intake,
    pub(super) dead_letters: &'a DeadLetterPublisher,
    pub(super) topic_missing: &'a Notify,
}

/// Why the loop ended.
#[derive(Debug)]
pub(super) enum PollLoopEnd {
    Stopped,
    /// The client cannot go on; a new one can.
    Fatal(KafkaError),
    /// The client receives nothing, though there are messages.
    Stalled,
}

type FinishedBatch = (BatchNumber, Result<(), EngineClosed>);

/// Partitions that are to be given up.
struct Revocation {
    partitions: Vec<i32>,
    deadline: Instant,
    /// Set when the offsets were committed: until when the reply is waited for.
    commit_deadline: Option<Instant>,
}

pub(super) struct PollLoop<'a> {
    config: PollLoopConfig<'a>,
    consumer: &'a StreamConsumer<GroupContext>,
    offsets: OffsetTracker,
    gathering: Batch,
    /// A batch that waits for room in the pipeline.
    submitting: Option<BoxFuture<'static, (Batch, Result<PendingBatch, EngineClosed>)>>,
    unfinished: FuturesUnordered<BoxFuture<'static, FinishedBatch>>,
    revocations: Vec<Revocation>,
    full_since: Option<Instant>,
    paused: bool,
    commit_at: Option<Instant>,
    unanswered_commits: usize,
    last_error: Option<(String, Instant)>,
    /// Since when nothing has been received, with nothing unfinished. Each stall check restarts it.
    idle_since: Instant,
    /// Resolves to whether there are messages that the client does not receive.
    stall_check: Option<BoxFuture<'static, bool>>,
}

impl<'a> PollLoop<'a> {
    pub(super) fn new(config: PollLoopConfig<'a>) -> Self {
        Self {
            consumer: config.client.consumer(),
            offsets: OffsetTracker::default(),
            gathering: Batch::new(0, config.max_batch),
            submitting: None,
            unfinished: FuturesUnordered::new(),
            revocations: Vec::new(),
            full_since: None,
            paused: false,
            commit_at: None,
            unanswered_commits: 0,
            last_error: None,
            idle_since: Instant::now(),
            stall_check: None,
            config,
        }
    }

    /// Runs until `stop` is cancelled and the unfinished batches are done, or the client cannot go
    /// on.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> PollLoopEnd {
        let mut stream = self.consumer.stream();
        let group = self.consumer.context();
        while !stop.is_cancelled() {
            self.submit_if_due();
            self.give_up_revoked();
            self.pause_or_resume();
            self.start_stall_check_if_due();
            let wake_at = self.next_wake_up();
            let receiving = !self.is_full() || self.paused;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = group.changed() => self.handle_group_events(),
                Some((batch, result)) = self.unfinished.next(), if !self.unfinished.is_empty() => {
                    self.on_finished(batch, result);
                }
                (batch, result) = resolved(&mut self.submitting) => self.on_submitted(batch, result),
                () = tokio::time::sleep_until(wake_at) => self.commit_if_due(),
                has_messages = resolved(&mut self.stall_check) => {
                    self.stall_check = None;
                    // Messages may have been received meanwhile.
                    if has_messages && self.is_stall_check_due() {
                        return PollLoopEnd::Stalled;
                    }
                    self.idle_since = Instant::now();
                }
                message = stream.next(), if receiving => {
                    if let Err(error) = self.receive(message, &mut stream) {
                        return PollLoopEnd::Fatal(error);
                    }
                }
            }
        }
        self.drain(&mut stream).await
    }

    /// Accepts nothing more, waits for the unfinished batches, and commits.
    async fn drain(mut self, stream: &mut MessageStream<'_, GroupContext>) -> PollLoopEnd {
        let deadline = Instant::now() + self.config.drain_timeout;
        // A batch that is not submitted is left to the next consumer.
        self.gathering = Batch::new(BatchNumber::MAX, 0);
        self.submitting = None;
        self.paused = true;
        self.pause(&self.assigned());
        let group = self.consumer.context();
        let mut last_commit_deadline: Option<Instant> = None;
        loop {
            self.give_up_revoked();
            if self.unfinished.is_empty() {
                let commit_deadline =
                    *last_commit_deadline.get_or_insert_with(|| Instant::now() + LAST_COMMIT_TIMEOUT);
                self.commit();
                let committed = self.unanswered_commits == 0 && !self.offsets.has_uncommitted();
                if committed || Instant::now() >= commit_deadline {
                    return PollLoopEnd::Stopped;
                }
            }
            let wake_at = self.next_wake_up().min(last_commit_deadline.unwrap_or(deadline)).min(deadline);
            tokio::select! {
                biased;
                () = group.changed() => self.handle_group_events(),
                Some((batch, result)) = self.unfinished.next(), if !self.unfinished.is_empty() => {
                    self.on_finished(batch, result);
                }
                () = tokio::time::sleep_until(wake_at) => self.commit_if_due(),
                // Polled for the group's events only: the messages are left to the next consumer.
                _ = stream.next() => {}
            }
            if Instant::now() >= deadline {
                tracing::warn!(
                    batches = self.unfinished.len(),
                    "stopped with unfinished batches; their messages will be delivered again"
                );
                return PollLoopEnd::Stopped;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.gathering.len() >= self.config.max_batch
    }

    /// Submits the gathered batch once it is full or has waited long enough.
    fn submit_if_due(&mut self) {
        let due = self.is_full() || self.gathering.due.is_some_and(|due| Instant::now() >= due);
        if !due || self.submitting.is_some() || self.unfinished.len() >= MAX_UNFINISHED_BATCHES {
            return;
        }
        let next = Batch::new(self.gathering.number + 1, self.config.max_batch);
        let mut batch = std::mem::replace(&mut self.gathering, next);
        if batch.messages.is_empty() {
            self.track(batch, None);
            return;
        }
        let (intake, messages) = (self.config.intake.clone(), std::mem::take(&mut batch.messages));
        self.submitting = Some(Box::pin(async move { (batch, intake.submit(messages).await) }));
    }

    fn on_submitted(&mut self, batch: Batch, result: Result<PendingBatch, EngineClosed>) {
        self.submitting = None;
        match result {
            Ok(pending) => self.track(batch, Some(pending)),
            // The consumer is stopping. The batch is never committed.
            Err(EngineClosed) => tracing::debug!(batch = batch.number, "the engine accepts no more batches"),
        }
    }

    /// Waits for a batch to be done in the pipeline, and publishes its dead letters.
    fn track(&mut self, mut batch: Batch, pending: Option<PendingBatch>) {
        let dead_letters = self.config.dead_letters.clone();
        self.unfinished.push(Box::pin(async move {
            if let Some(pending) = pending {
                match pending.await {
                    Ok(done) => batch.reject(done.unusable),
                    Err(closed) => return (batch.number, Err(closed)),
                }
            }
            dead_letters.publish(batch.dead_letters).await;
            (batch.number, Ok(()))
        }));
    }

    fn on_finished(&mut self, batch: BatchNumber, result: Result<(), EngineClosed>) {
        self.idle_since = Instant::now();
        if result.is_ok() {
            self.offsets.finish(batch);
            if self.offsets.has_uncommitted() {
                self.commit_at.get_or_insert_with(|| Instant::now() + COMMIT_DELAY);
            }
        }
    }

    /// Receives a message, and whatever else the client has fetched already.
    fn receive(
        &mut self,
        message: Option<KafkaResult<BorrowedMessage<'_>>>,
        stream: &mut MessageStream<'_, GroupContext>,
    ) -> KafkaResult<()> {
        let mut next = message;
        while let Some(message) = next {
            match message {
                Ok(message) => {
                    self.last_error = None;
                    self.idle_since = Instant::now();
                    if self.offsets.add(self.gathering.number, message.partition(), message.offset()) {
                        self.gathering.add(&message);
                    }
                }
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(error),
                Err(error) => {
                    self.log_error(&error);
                    // The library cannot follow a topic that is created again: it takes the new
                    // leader epochs, which start again, for outdated ones. And the offsets of
                    // unfinished messages belong to the old topic.
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

    /// Everything that was received is done, and there is room for more.
    fn is_idle(&self) -> bool {
        !self.paused
            && self.gathering.len() == 0
            && self.submitting.is_none()
            && self.unfinished.is_empty()
            && self.unanswered_commits == 0
            && !self.offsets.has_uncommitted()
    }

    fn is_stall_check_due(&self) -> bool {
        self.is_idle() && self.idle_since.elapsed() >= stall_detector::IDLE_BEFORE_CHECK
    }

    fn start_stall_check_if_due(&mut self) {
        if self.stall_check.is_some() || !self.is_stall_check_due() {
            return;
        }
        let (options, partitions) = (self.config.kafka.clone(), self.assigned());
        let check = tokio::task::spawn_blocking(move || {
            stall_detector::has_uncommitted_messages(&options, &partitions)
        });
        self.stall_check = Some(Box::pin(async move { check.await.unwrap_or(false) }));
    }

    fn log_error(&mut self, error: &KafkaError) {
        if kafka::is_topic_missing(error) {
            self.config.topic_missing.notify_one();
        }
        let text = error.to_string();
        let is_new =
            self.last_error.as_ref().is_none_or(|(last, at)| *last != text || at.elapsed() > LOG_INTERVAL);
        if is_new {
            tracing::warn!(topic = self.config.kafka.topic, "waiting for Kafka: {text}");
            self.last_error = Some((text, Instant::now()));
        }
    }

    fn handle_group_events(&mut self) {
        for event in self.consumer.context().take_events() {
            match event {
                GroupEvent::Assigned(partitions) => {
                    tracing::info!(?partitions, "took over partitions");
                    self.idle_since = Instant::now();
                    partitions.iter().for_each(|partition| self.offsets.assign(*partition));
                    // A partition that was assigned before may still be paused.
                    let set = if self.paused { Consumer::pause } else { Consumer::resume };
                    if let Err(error) = set(self.consumer, &self.list(&partitions)) {
                        tracing::warn!("cannot pause or resume partitions: {error}");
                    }
                }
                GroupEvent::Revoked(partitions) => {
                    partitions.iter().for_each(|partition| self.offsets.revoke(*partition));
                    self.pause(&partitions);
                    let deadline = Instant::now() + REVOKE_TIMEOUT;
                    self.revocations.push(Revocation { partitions, deadline, commit_deadline: None });
                }
                GroupEvent::Lost(partitions) => {
                    tracing::warn!(
                        ?partitions,
                        "lost partitions; their unfinished messages are not committed"
                    );
                    partitions.iter().for_each(|partition| self.offsets.remove(*partition));
                }
                GroupEvent::Committed { partitions, error } => {
                    self.unanswered_commits = self.unanswered_commits.saturating_sub(1);
                    if let Some(error) = error {
                        tracing::warn!(?partitions, "cannot commit offsets: {error}");
                        partitions.iter().for_each(|partition| self.offsets.commit_failed(*partition));
                    }
                    if self.offsets.has_uncommitted() {
                        self.commit_at.get_or_insert_with(|| Instant::now() + COMMIT_RETRY_DELAY);
                    }
                }
            }
        }
    }

    /// Gives up revoked partitions whose batches are done and committed, or whose time is up.
    fn give_up_revoked(&mut self) {
        let now = Instant::now();
        let Some(mut revocation) = self.revocations.pop() else { return };
        let pending = revocation.partitions.iter().any(|partition| self.offsets.is_pending(*partition));
        if pending && now < revocation.deadline {
            self.revocations.push(revocation);
            return;
        }
        let commit_deadline = *revocation.commit_deadline.get_or_insert_with(|| {
            self.commit();
            now + LAST_COMMIT_TIMEOUT
        });
        if self.unanswered_commits > 0 && now < commit_deadline {
            self.revocations.push(revocation);
            return;
        }
        let partitions = &revocation.partitions;
        tracing::info!(?partitions, pending, "gave up partitions");
        if let Err(error) = self.consumer.incremental_unassign(&self.list(partitions)) {
            tracing::warn!("cannot give up partitions: {error}");
        }
        partitions.iter().for_each(|partition| self.offsets.remove(*partition));
    }

    fn commit_if_due(&mut self) {
        if self.commit_at.is_some_and(|at| Instant::now() >= at) {
            self.commit();
        }
    }

    fn commit(&mut self) {
        self.commit_at = None;
        let offsets = self.offsets.start_commit();
        if !offsets.is_empty() {
            self.unanswered_commits += 1;
            self.config.client.commit(offsets);
        }
    }

    fn pause_or_resume(&mut self) {
        if !self.is_full() {
            self.full_since = None;
            if std::mem::take(&mut self.paused)
                && let Err(error) = self.consumer.resume(&self.list(&self.assigned()))
            {
                tracing::warn!("cannot resume partitions: {error}");
            }
            return;
        }
        let full_since = *self.full_since.get_or_insert_with(Instant::now);
        if !self.paused && full_since.elapsed() >= PAUSE_AFTER {
            self.paused = true;
            self.pause(&self.assigned());
        }
    }

    fn pause(&self, partitions: &[i32]) {
        if let Err(error) = self.consumer.pause(&self.list(partitions)) {
            tracing::warn!("cannot pause partitions: {error}");
        }
    }

    /// The partitions that are assigned and not revoked.
    fn assigned(&self) -> Vec<i32> {
        self.offsets.assigned().collect()
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.config.kafka.topic, *partition);
        }
        list
    }

    /// When the loop has something to do at the latest.
    fn next_wake_up(&self) -> Instant {
        let can_submit = self.submitting.is_none() && self.unfinished.len() < MAX_UNFINISHED_BATCHES;
        let submit_at = self.gathering.due.filter(|_| can_submit);
        let pause_at = self.full_since.filter(|_| !self.paused).map(|since| since + PAUSE_AFTER);
        let give_up_at = self.revocations.last().map(|last| last.commit_deadline.unwrap_or(last.deadline));
        let check_at = Some(self.idle_since + stall_detector::IDLE_BEFORE_CHECK);
        let check_at = check_at.filter(|_| self.stall_check.is_none() && self.is_idle());
        let times = [submit_at, pause_at, give_up_at, self.commit_at, check_at];
        times.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + LOG_INTERVAL)
    }
}

/// The result of a future, once there is one.
async fn resolved<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
