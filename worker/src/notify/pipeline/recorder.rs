//! Records in the database what happens to the deliveries in flight. One task writes for all
//! senders: everything that is waiting goes into one transaction, so that senders share a commit
//! instead of each waiting for its own.
//!
//! A sender asks for its next hand-over after it has reported the last outcome. Both are written in
//! that order or together, so no sender ever has two deliveries handed over.

use std::sync::Arc;
use std::time::Duration;

use store::notification::{
    self, ClaimedDelivery, ConsumerId, DeliveryOutcome, HandOverResult, Outcome, Postponement,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::ack::Ack;
use super::claimed_email::ClaimedEmail;
use super::in_flight::InFlight;
use super::retry_queue::RetryQueue;
use crate::database_retry::{RetryError, RetryingConnection, retry};
use crate::notify::metrics::Metrics;

/// Requests that are written together, at most.
const MAX_REQUESTS: usize = 1000;

/// How long the first request waits for those of other senders: a transaction costs about as much
/// for one as for all.
const GATHER_TIMEOUT: Duration = Duration::from_millis(5);

/// What a sender wants recorded.
pub(super) enum WriteRequest {
    /// Asks whether the content may be sent now.
    HandOver { delivery: ClaimedDelivery, granted: oneshot::Sender<bool> },
    /// The delivery has an outcome.
    End { ended: DeliveryOutcome, ack: Ack },
    /// The delivery is tried again at `due`. `counts`: the try counts, as the server was asked.
    Defer { email: Box<ClaimedEmail>, counts: bool, due: Instant },
    /// The delivery is free for other consumers. With an `ack`, another message will lead to it.
    Release { delivery: ClaimedDelivery, ack: Option<Ack> },
}

impl WriteRequest {
    fn is_hand_over(&self) -> bool {
        matches!(self, Self::HandOver { .. })
    }
}

/// Where requests are sent. The recorder ends when the last of these is dropped.
#[derive(Clone)]
pub(super) struct RecorderHandle(mpsc::UnboundedSender<WriteRequest>);

impl RecorderHandle {
    /// Whether the content may be sent. False as well when the recorder has ended.
    pub(super) async fn hand_over(&self, delivery: ClaimedDelivery) -> bool {
        let (granted, answer) = oneshot::channel();
        self.write(WriteRequest::HandOver { delivery, granted });
        answer.await.unwrap_or(false)
    }

    pub(super) fn end(&self, email: ClaimedEmail, outcome: Outcome, reason: Option<String>) {
        let ended = DeliveryOutcome { delivery: email.delivery, outcome, reason };
        self.write(WriteRequest::End { ended, ack: email.ack });
    }

    pub(super) fn write(&self, request: WriteRequest) {
        // Without a recorder the engine is ending, and the leases decide about the deliveries.
        drop(self.0.send(request));
    }
}

pub(super) struct Recorder {
    requests: mpsc::UnboundedReceiver<WriteRequest>,
    /// How many senders can ask for a hand-over.
    senders: usize,
    database: RetryingConnection,
    consumer: ConsumerId,
    lease: Duration,
    in_flight: Arc<InFlight>,
    retry_queue: Arc<RetryQueue>,
    metrics: Metrics,
}

/// Requests that are written together, sorted by kind.
#[derive(Default)]
struct WriteBatch {
    hand_overs: Vec<(ClaimedDelivery, oneshot::Sender<bool>)>,
    ended: Vec<DeliveryOutcome>,
    acks: Vec<Ack>,
    deferred: Vec<(Box<ClaimedEmail>, bool, Instant)>,
    released: Vec<(ClaimedDelivery, Option<Ack>)>,
}

impl Recorder {
    pub(super) fn new(
        database: RetryingConnection,
        senders: usize,
        consumer: ConsumerId,
        lease: Duration,
        in_flight: Arc<InFlight>,
        retry_queue: Arc<RetryQueue>,
        metrics: Metrics,
    ) -> (Self, RecorderHandle) {
        let (handle, requests) = mpsc::unbounded_channel();
        let recorder = Self { requests, senders, database, consumer, lease, in_flight, retry_queue, metrics };
        (recorder, RecorderHandle(handle))
    }

    /// Writes until all handles are dropped and everything is written.
    pub(super) async fn run(mut self) -> Result<(), RetryError> {
        let mut waiting = Vec::with_capacity(MAX_REQUESTS);
        loop {
            if self.requests.recv_many(&mut waiting, MAX_REQUESTS).await == 0 {
                return Ok(());
            }
            self.gather(&mut waiting).await;
            let mut batch = WriteBatch::default();
            for request in waiting.drain(..) {
                batch.add(request);
            }
            self.write(batch).await?;
        }
    }

    /// Waits until every sender has asked, the batch is full, or the timeout has passed.
    async fn gather(&mut self, waiting: &mut Vec<WriteRequest>) {
        let deadline = Instant::now() + GATHER_TIMEOUT;
        let hand_overs =
            |waiting: &[WriteRequest]| waiting.iter().filter(|request| request.is_hand_over()).count();
        while waiting.len() < MAX_REQUESTS && hand_overs(waiting) < self.senders {
            let more = self.requests.recv_many(waiting, MAX_REQUESTS - waiting.len());
            if tokio::time::timeout_at(deadline, more).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    async fn write(&mut self, batch: WriteBatch) -> Result<(), RetryError> {
        let WriteBatch { hand_overs, ended, acks, deferred, released } = batch;
        // A sender's last delivery must not be handed over any more when its next one is.
        if !deferred.is_empty() {
            self.defer(deferred).await?;
        }
        if !released.is_empty() {
            self.release(released).await?;
        }
        self.advance(hand_overs, ended, acks).await
    }

    async fn advance(
        &mut self,
        hand_overs: Vec<(ClaimedDelivery, oneshot::Sender<bool>)>,
        ended: Vec<DeliveryOutcome>,
        acks: Vec<Ack>,
    ) -> Result<(), RetryError> {
        if hand_overs.is_empty() && ended.is_empty() {
            return Ok(());
        }
        let (consumer, lease) = (self.consumer, self.lease);
        let asked: Vec<ClaimedDelivery> = hand_overs.iter().map(|(delivery, _)| *delivery).collect();
        self.in_flight.set_handed_over(&asked, true);
        let HandOverResult { mut granted, recorded, lost, .. } =
            retry!(self.database, |connection| notification::hand_over_and_record(
                connection, consumer, lease, &asked, &ended
            ))?;
        granted.sort_unstable_by_key(sort_key);
        for (delivery, sender) in hand_overs {
            let may_send = granted.binary_search_by_key(&sort_key(&delivery), sort_key).is_ok();
            // A sender that is gone sends nothing, and its hand-over becomes an unknown outcome.
            let _ = sender.send(may_send);
        }
        if !lost.is_empty() {
            tracing::warn!(
                lost = lost.len(),
                "outcomes came after their leases had expired, and do not count"
            );
        }
        for ended in ended.iter().filter(|ended| !lost.contains(&ended.delivery)) {
            self.metrics.recorded(ended.outcome);
        }
        self.in_flight.remove(recorded.iter().chain(&lost));
        for mut ack in acks {
            ack.acknowledge();
        }
        Ok(())
    }

    async fn defer(&mut self, emails: Vec<(Box<ClaimedEmail>, bool, Instant)>) -> Result<(), RetryError> {
        let (consumer, lease) = (self.consumer, self.lease);
        let asked: Vec<Postponement> = emails
            .iter()
            .map(|(email, counts, _)| Postponement { delivery: email.delivery, counts_as_try: *counts })
            .collect();
        let held = retry!(self.database, |connection| notification::postpone_deliveries(
            connection, consumer, lease, &asked
        ))?;
        let now = Instant::now();
        for (mut email, _, due) in emails {
            email.ack.acknowledge();
            match held.iter().find(|held| held.delivery == email.delivery) {
                Some(held) => {
                    self.in_flight.set_handed_over([&email.delivery], false);
                    email.tries = held.tries;
                    email.first_try = held.since_first_try.and_then(|ago| now.checked_sub(ago));
                    self.metrics.deferred();
                    self.retry_queue.push(*email, due);
                }
                None => self.in_flight.remove([&email.delivery]),
            }
        }
        Ok(())
    }

    async fn release(&mut self, released: Vec<(ClaimedDelivery, Option<Ack>)>) -> Result<(), RetryError> {
        let consumer = self.consumer;
        let deliveries: Vec<ClaimedDelivery> = released.iter().map(|(delivery, _)| *delivery).collect();
        self.in_flight.remove(&deliveries);
        for part in deliveries.chunks(MAX_REQUESTS) {
            retry!(self.database, |connection| notification::release_claims(connection, consumer, part))?;
        }
        for mut ack in released.into_iter().filter_map(|(_, ack)| ack) {
            ack.acknowledge();
        }
        Ok(())
    }
}

impl WriteBatch {
    fn add(&mut self, request: WriteRequest) {
        match request {
            WriteRequest::HandOver { delivery, granted } => self.hand_overs.push((delivery, granted)),
            WriteRequest::End { ended, ack } => {
                self.ended.push(ended);
                self.acks.push(ack);
            }
            WriteRequest::Defer { email, counts, due } => self.deferred.push((email, counts, due)),
            WriteRequest::Release { delivery, ack } => self.released.push((delivery, ack)),
        }
    }
}

fn sort_key(delivery: &ClaimedDelivery) -> (i64, i64) {
    (delivery.run.0, delivery.key.member.get())
}
