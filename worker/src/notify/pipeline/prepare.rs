//! From messages to emails: for each run of a batch one claim, one read, and rendering on all
//! cores. A message that needs no email is acknowledged here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::notification_message::NotificationMessage;
use store::notification::{
    self, BillKey, ClaimResult, ClaimedDelivery, ConsumerId, DeliveryOutcome, GrantedClaim,
    NotificationState, Outcome, RunFacts, reasons,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ack::{Ack, BatchProgress};
use super::claimed_email::ClaimedEmail;
use super::intake::SubmittedBatch;
use super::recorder::{RecorderHandle, WriteRequest};
use super::retry_queue::RetryQueue;
use super::shared_state::SharedState;
use crate::database_retry::{RetryError, RetryingConnection, retry};
use crate::notify::metrics::MessageOutcome;
use crate::render::{ComposerCache, Rendered, render_all};

pub(super) struct Preparer {
    pub(super) batches: mpsc::UnboundedReceiver<SubmittedBatch>,
    pub(super) database: RetryingConnection,
    pub(super) consumer: ConsumerId,
    pub(super) lease: Duration,
    pub(super) composers: ComposerCache,
    pub(super) shared: Arc<SharedState>,
    pub(super) recorder: RecorderHandle,
    pub(super) retry_queue: Arc<RetryQueue>,
    /// With so many emails in the retry queue, no batch is prepared.
    pub(super) max_retries_waiting: usize,
}

impl Preparer {
    /// Prepares batches until it is stopped, or the intake is dropped.
    pub(super) async fn run(mut self) -> Result<(), RetryError> {
        let stop = self.shared.stop.clone();
        loop {
            let next = async {
                self.retry_queue.wait_for_room(self.max_retries_waiting).await;
                self.batches.recv().await
            };
            let submitted = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                submitted = next => submitted,
            };
            let Some(SubmittedBatch { messages, done, capacity }) = submitted else { return Ok(()) };
            self.shared.metrics.batch_size(messages.len());
            let batch = BatchProgress::new(messages.len(), done, capacity);
            match self.prepare(&batch, messages).await {
                // The batch is never done. What was claimed of it is released, or its lease
                // expires.
                Err(RetryError::Stopped) => return Ok(()),
                prepared => prepared?,
            }
        }
    }

    async fn prepare(
        &mut self,
        batch: &Arc<BatchProgress>,
        messages: Vec<NotificationMessage>,
    ) -> Result<(), RetryError> {
        let mut by_run: BTreeMap<String, Vec<(usize, NotificationMessage)>> = BTreeMap::new();
        for (index, message) in messages.into_iter().enumerate() {
            match by_run.get_mut(&message.run) {
                Some(of_run) => of_run.push((index, message)),
                None => drop(by_run.insert(message.run.clone(), vec![(index, message)])),
            }
        }
        let names: Vec<String> = by_run.keys().cloned().collect();
        let facts = retry!(self.database, |connection| notification::read_latest_runs(connection, &names))?;
        self.shared.rate_limiter.update(&facts);
        let facts: HashMap<&str, &RunFacts> = facts.iter().map(|run| (run.run.as_str(), run)).collect();
        for (name, of_run) in by_run {
            let run = facts.get(name.as_str()).copied();
            self.prepare_run(batch, run, of_run).await?;
        }
        Ok(())
    }

    async fn prepare_run(
        &mut self,
        batch: &Arc<BatchProgress>,
        run: Option<&RunFacts>,
        messages: Vec<(usize, NotificationMessage)>,
    ) -> Result<(), RetryError> {
        let indexes_of = |messages: &[(usize, NotificationMessage)]| -> Vec<usize> {
            messages.iter().map(|(index, _)| *index).collect()
        };
        let Some(run) = run else {
            self.reject(batch, indexes_of(&messages), "there is no run of this name");
            return Ok(());
        };
        if run.rehearsal {
            self.reject(batch, indexes_of(&messages), "the run is a rehearsal, which sends nothing");
            return Ok(());
        }
        let (messages, other_month): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|(_, message)| message.month == run.month);
        self.reject(batch, indexes_of(&other_month), "the run is for another month");
        if run.state != NotificationState::Open {
            self.acknowledge(MessageOutcome::NotOpen, messages.iter().map(|_| batch.ack()));
            return Ok(());
        }
        let mut indexes: HashMap<BillKey, usize> = HashMap::with_capacity(messages.len());
        for (index, message) in messages {
            let key = BillKey { member: message.member, revision: message.revision };
            if indexes.insert(key, index).is_some() {
                self.acknowledge(MessageOutcome::Held, [batch.ack()]);
            }
        }
        if indexes.is_empty() {
            return Ok(());
        }
        let mut keys: Vec<BillKey> = indexes.keys().copied().collect();
        keys.sort_unstable();
        let (consumer, lease) = (self.consumer, self.lease);
        let ClaimResult { claimed, unavailable, not_targets } =
            retry!(self.database, |connection| notification::claim_deliveries(
                connection, run, consumer, lease, &keys
            ))?;
        self.shared.in_flight.add(claimed.iter().map(|claimed| claimed.delivery));
        let ended = keys.len() - claimed.len() - unavailable.len() - not_targets.len();
        self.acknowledge(MessageOutcome::Held, unavailable.iter().map(|_| batch.ack()));
        self.acknowledge(MessageOutcome::Ended, (0..ended).map(|_| batch.ack()));
        let not_targets = not_targets.iter().filter_map(|key| indexes.get(key).copied());
        self.reject(batch, not_targets, "the bill is no target of the run");
        self.shared.metrics.message(MessageOutcome::Claimed, claimed.len());
        self.render(batch, run, claimed).await
    }

    async fn render(
        &mut self,
        batch: &Arc<BatchProgress>,
        run: &RunFacts,
        claimed: Vec<GrantedClaim>,
    ) -> Result<(), RetryError> {
        if claimed.is_empty() {
            return Ok(());
        }
        let Self { database, composers, .. } = self;
        let keys: Vec<BillKey> = claimed.iter().map(|claimed| claimed.delivery.key).collect();
        let read = retry!(*database, |connection| async {
            let rows = notification::read_bills_for_email(connection, run, &keys).await?;
            let context = composers.batch_context(connection, run, &rows).await?;
            Ok((context, rows))
        });
        let (context, rows) = match read {
            Ok(read) => read,
            Err(error) => {
                for GrantedClaim { delivery, .. } in claimed {
                    self.recorder.write(WriteRequest::Release { delivery, ack: None });
                }
                return Err(error);
            }
        };
        let mut claims: HashMap<BillKey, GrantedClaim> =
            claimed.into_iter().map(|claimed| (claimed.delivery.key, claimed)).collect();
        let now = Instant::now();
        let mut emails = Vec::with_capacity(rows.len());
        for (key, rendered) in render_all(&context, rows).await {
            let Some(GrantedClaim { delivery, tries, since_first_try }) = claims.remove(&key) else {
                continue;
            };
            let ack = batch.ack();
            match rendered {
                Rendered::Email(email) => {
                    let first_try = since_first_try.and_then(|ago| now.checked_sub(ago));
                    emails.push(ClaimedEmail { delivery, email, tries, first_try, ack });
                }
                Rendered::NoAddress => {
                    self.end(delivery, Outcome::Skipped, reasons::NO_ADDRESS.to_owned(), ack);
                }
                Rendered::ZeroAmount => {
                    self.end(delivery, Outcome::Skipped, reasons::ZERO_AMOUNT.to_owned(), ack);
                }
                Rendered::Failed(reason) => self.end(delivery, Outcome::Failed, reason, ack),
            }
        }
        for GrantedClaim { delivery, .. } in claims.into_values() {
            let reason = "NO_BILL: the bill or its member is not in the database".to_owned();
            self.end(delivery, Outcome::Failed, reason, batch.ack());
        }
        self.shared.queue.push(emails);
        Ok(())
    }

    fn end(&self, delivery: ClaimedDelivery, outcome: Outcome, reason: String, ack: Ack) {
        let ended = DeliveryOutcome { delivery, outcome, reason: Some(reason) };
        self.recorder.write(WriteRequest::End { ended, ack });
    }

    fn acknowledge(&self, outcome: MessageOutcome, acks: impl IntoIterator<Item = Ack>) {
        let mut messages = 0;
        for mut ack in acks {
            ack.acknowledge();
            messages += 1;
        }
        self.shared.metrics.message(outcome, messages);
    }

    fn reject(&self, batch: &Arc<BatchProgress>, indexes: impl IntoIterator<Item = usize>, reason: &str) {
        let mut messages = 0;
        for index in indexes {
            batch.reject(index, reason.to_owned());
            messages += 1;
        }
        self.shared.metrics.message(MessageOutcome::Unusable, messages);
    }
}
