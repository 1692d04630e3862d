//! From messages to mails: for each run of a batch one claim, one reading, and composing on all cores. What needs no
//! mail is settled here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::notification_message::NotificationMessage;
use store::notification::{
    self, BillKey, ClaimResult, ClaimedDelivery, ConsumerId, DeliveryOutcome, GrantedClaim,
    NotificationState, Outcome, RunFacts,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::BatchDone;
use super::in_flight::{Batch, Mail, Ticket};
use super::recorder::{Entry, Pen};
use super::retry_queue::Parked;
use super::sender::Shared;
use crate::database_retry::{RetryError, RetryingConnection, retry};
use crate::notify::metrics::Taken;
use crate::render::{ComposerCache, Rendered, render_all};

/// A batch as it is handed in.
pub(crate) struct Handed {
    pub(crate) messages: Vec<NotificationMessage>,
    pub(crate) done: oneshot::Sender<BatchDone>,
    pub(crate) room: OwnedSemaphorePermit,
}

pub(crate) struct Preparer {
    pub(crate) batches: mpsc::UnboundedReceiver<Handed>,
    pub(crate) database: RetryingConnection,
    pub(crate) consumer: ConsumerId,
    pub(crate) lease: Duration,
    pub(crate) composers: ComposerCache,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pen: Pen,
    pub(crate) parked: Arc<Parked>,
    /// Parked mails beyond which no batch is taken up.
    pub(crate) most_parked: usize,
    pub(crate) stop: CancellationToken,
}

impl Preparer {
    /// Until it is told to stop, or nobody hands in any more.
    pub(crate) async fn run(mut self) -> Result<(), RetryError> {
        let stop = self.stop.clone();
        loop {
            let next = async {
                self.parked.room(self.most_parked).await;
                self.batches.recv().await
            };
            let handed = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                handed = next => handed,
            };
            let Some(Handed { messages, done, room }) = handed else { return Ok(()) };
            self.shared.metrics.batch(messages.len());
            let batch = Batch::new(messages.len(), done, room);
            match self.prepare(&batch, messages).await {
                // The batch stays undone; what was claimed of it is given back, or runs out.
                Err(RetryError::Stopped) => return Ok(()),
                prepared => prepared?,
            }
        }
    }

    async fn prepare(
        &mut self,
        batch: &Arc<Batch>,
        messages: Vec<NotificationMessage>,
    ) -> Result<(), RetryError> {
        let mut by_run: BTreeMap<String, Vec<(usize, NotificationMessage)>> = BTreeMap::new();
        for (place, message) in messages.into_iter().enumerate() {
            match by_run.get_mut(&message.run) {
                Some(own) => own.push((place, message)),
                None => drop(by_run.insert(message.run.clone(), vec![(place, message)])),
            }
        }
        let names: Vec<String> = by_run.keys().cloned().collect();
        let facts = retry!(self.database, |connection| notification::read_latest_runs(connection, &names))?;
        self.shared.pace.note(&facts);
        let facts: HashMap<&str, &RunFacts> = facts.iter().map(|run| (run.run.as_str(), run)).collect();
        for (name, own) in by_run {
            let run = facts.get(name.as_str()).copied();
            self.prepare_run(batch, run, own).await?;
        }
        Ok(())
    }

    async fn prepare_run(
        &mut self,
        batch: &Arc<Batch>,
        run: Option<&RunFacts>,
        messages: Vec<(usize, NotificationMessage)>,
    ) -> Result<(), RetryError> {
        let Some(run) = run else {
            self.refuse(batch, messages.iter().map(|(place, _)| *place), "no run of this name is known");
            return Ok(());
        };
        if run.rehearsal {
            self.refuse(
                batch,
                messages.iter().map(|(place, _)| *place),
                "the run is a rehearsal, which sends nothing",
            );
            return Ok(());
        }
        let (own, others): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|(_, message)| message.month == run.month);
        self.refuse(batch, others.iter().map(|(place, _)| *place), "the run is about another month");
        if run.state != NotificationState::Open {
            self.settle(Taken::NotOpen, own.iter().map(|_| batch.ticket()));
            return Ok(());
        }
        let mut places: HashMap<BillKey, usize> = HashMap::with_capacity(own.len());
        for (place, message) in own {
            let key = BillKey { member: message.member, revision: message.revision };
            if places.insert(key, place).is_some() {
                self.settle(Taken::Held, [batch.ticket()]);
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let mut keys: Vec<BillKey> = places.keys().copied().collect();
        keys.sort_unstable();
        let (consumer, lease) = (self.consumer, self.lease);
        let ClaimResult { claimed, unavailable, not_targets } =
            retry!(self.database, |connection| notification::claim_deliveries(
                connection, run, consumer, lease, &keys
            ))?;
        self.shared.hands.take(claimed.iter().map(|claimed| claimed.delivery));
        let ended = keys.len() - claimed.len() - unavailable.len() - not_targets.len();
        self.settle(Taken::Held, unavailable.iter().map(|_| batch.ticket()));
        self.settle(Taken::Ended, (0..ended).map(|_| batch.ticket()));
        let places = not_targets.iter().filter_map(|key| places.get(key).copied());
        self.refuse(batch, places, "the bill is no target of the run");
        self.shared.metrics.taken(Taken::Claimed, claimed.len());
        self.compose(batch, run, claimed).await
    }

    async fn compose(
        &mut self,
        batch: &Arc<Batch>,
        run: &RunFacts,
        claimed: Vec<GrantedClaim>,
    ) -> Result<(), RetryError> {
        if claimed.is_empty() {
            return Ok(());
        }
        let Self { database, composers, .. } = self;
        let keys: Vec<BillKey> = claimed.iter().map(|claimed| claimed.delivery.key).collect();
        let read = retry!(*database, |connection| async {
            let rows = notification::read_bills_for_email(connection, run.month, &keys).await?;
            let context = composers.batch_context(connection, run, &rows).await?;
            Ok((context, rows))
        });
        let (context, rows) = match read {
            Ok(read) => read,
            Err(error) => {
                for GrantedClaim { delivery: hand, .. } in claimed {
                    self.pen.write(Entry::GiveBack { hand, ticket: None });
                }
                return Err(error);
            }
        };
        let mut claims: HashMap<BillKey, GrantedClaim> =
            claimed.into_iter().map(|claimed| (claimed.delivery.key, claimed)).collect();
        let now = Instant::now();
        let mut mails = Vec::with_capacity(rows.len());
        for (key, rendered) in render_all(&context, rows).await {
            let Some(GrantedClaim { delivery: hand, tries, since_first_try }) = claims.remove(&key) else {
                continue;
            };
            let ticket = batch.ticket();
            match rendered {
                Rendered::Email(email) => {
                    let first_try = since_first_try.and_then(|ago| now.checked_sub(ago));
                    mails.push(Mail { hand, email, tries, first_try, ticket });
                }
                Rendered::NoAddress => self.end(hand, Outcome::Skipped, "NO_ADDRESS".to_owned(), ticket),
                Rendered::Failed(reason) => self.end(hand, Outcome::Failed, reason, ticket),
            }
        }
        for GrantedClaim { delivery: hand, .. } in claims.into_values() {
            let reason = "NO_BILL: the bill or its member is not in the database".to_owned();
            self.end(hand, Outcome::Failed, reason, batch.ticket());
        }
        self.shared.queue.put(mails);
        Ok(())
    }

    fn end(&self, hand: ClaimedDelivery, outcome: Outcome, reason: String, ticket: Ticket) {
        self.pen.write(Entry::End {
            ended: DeliveryOutcome { delivery: hand, outcome, reason: Some(reason) },
            ticket,
        });
    }

    fn settle(&self, taken: Taken, tickets: impl IntoIterator<Item = Ticket>) {
        let mut settled = 0;
        for mut ticket in tickets {
            ticket.settle();
            settled += 1;
        }
        self.shared.metrics.taken(taken, settled);
    }

    fn refuse(&self, batch: &Arc<Batch>, places: impl Iterator<Item = usize>, reason: &str) {
        let mut refused = 0;
        for place in places {
            batch.unusable(place, reason.to_owned());
            refused += 1;
        }
        self.shared.metrics.taken(Taken::Unusable, refused);
    }
}
