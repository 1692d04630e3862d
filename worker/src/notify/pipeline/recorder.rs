//! What becomes of the mails in hand, on its way into the database. One task writes for all sessions: as much at once as
//! is waiting, in one transaction, so that sessions wait for each other's commit instead of each for its own.
//!
//! A session asks for its next hand-over after it has told the last one's outcome; as both are written in that order or
//! together, no session ever has two mails handed over.

use std::sync::Arc;
use std::time::Duration;

use store::notification::{
    self, ClaimedDelivery, ConsumerId, DeliveryOutcome, HandOverResult, Outcome, Postponement,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::in_flight::{Hands, Mail, Ticket};
use super::retry_queue::Parked;
use crate::database_retry::{RetryError, RetryingConnection, retry};
use crate::notify::metrics::Metrics;

/// What is written at once at most.
const AT_ONCE: usize = 1000;

/// How long the first to ask waits for the other sessions: a transaction costs about as much for one as for all of them.
const GATHER: Duration = Duration::from_millis(5);

/// What a session wants written.
pub(crate) enum Entry {
    /// May this be handed over now?
    HandOver {
        hand: ClaimedDelivery,
        grant: oneshot::Sender<bool>,
    },
    End {
        ended: DeliveryOutcome,
        ticket: Ticket,
    },
    /// To be tried again at `due`. `counts`: the server was asked.
    PutOff {
        mail: Box<Mail>,
        counts: bool,
        due: Instant,
    },
    /// Somebody else may have it. Settled: this time by another message.
    GiveBack {
        hand: ClaimedDelivery,
        ticket: Option<Ticket>,
    },
}

impl Entry {
    fn is_hand_over(&self) -> bool {
        matches!(self, Self::HandOver { .. })
    }
}

/// Where entries go. The ledger ends when the last of these is gone.
#[derive(Clone)]
pub(crate) struct Pen(mpsc::UnboundedSender<Entry>);

impl Pen {
    /// Whether the mail may go. False as well when nobody can say any more.
    pub(crate) async fn hand_over(&self, hand: ClaimedDelivery) -> bool {
        let (grant, granted) = oneshot::channel();
        self.write(Entry::HandOver { hand, grant });
        granted.await.unwrap_or(false)
    }

    pub(crate) fn end(&self, mail: Mail, outcome: Outcome, reason: Option<String>) {
        self.write(Entry::End {
            ended: DeliveryOutcome { delivery: mail.hand, outcome, reason },
            ticket: mail.ticket,
        });
    }

    pub(crate) fn write(&self, entry: Entry) {
        // Without a ledger the engine is ending, and its leases tell the rest.
        drop(self.0.send(entry));
    }
}

pub(crate) struct Ledger {
    entries: mpsc::UnboundedReceiver<Entry>,
    /// Who can ask for a hand-over.
    sessions: usize,
    database: RetryingConnection,
    consumer: ConsumerId,
    lease: Duration,
    hands: Arc<Hands>,
    parked: Arc<Parked>,
    metrics: Metrics,
}

/// Entries by what is done with them.
#[derive(Default)]
struct Page {
    hand_overs: Vec<(ClaimedDelivery, oneshot::Sender<bool>)>,
    ended: Vec<DeliveryOutcome>,
    tickets: Vec<Ticket>,
    put_off: Vec<(Box<Mail>, bool, Instant)>,
    given_back: Vec<(ClaimedDelivery, Option<Ticket>)>,
}

impl Ledger {
    pub(crate) fn new(
        database: RetryingConnection,
        sessions: usize,
        consumer: ConsumerId,
        lease: Duration,
        hands: Arc<Hands>,
        parked: Arc<Parked>,
        metrics: Metrics,
    ) -> (Self, Pen) {
        let (pen, entries) = mpsc::unbounded_channel();
        (Self { entries, sessions, database, consumer, lease, hands, parked, metrics }, Pen(pen))
    }

    /// Writes until all pens are gone and everything is written.
    pub(crate) async fn keep(mut self) -> Result<(), RetryError> {
        let mut waiting = Vec::with_capacity(AT_ONCE);
        loop {
            if self.entries.recv_many(&mut waiting, AT_ONCE).await == 0 {
                return Ok(());
            }
            self.gather(&mut waiting).await;
            let mut page = Page::default();
            for entry in waiting.drain(..) {
                page.add(entry);
            }
            self.write(page).await?;
        }
    }

    /// Until every session has asked, there is a page full, or the first has waited long enough.
    async fn gather(&mut self, waiting: &mut Vec<Entry>) {
        let until = Instant::now() + GATHER;
        let asked = |waiting: &[Entry]| waiting.iter().filter(|entry| entry.is_hand_over()).count();
        while waiting.len() < AT_ONCE && asked(waiting) < self.sessions {
            let more = self.entries.recv_many(waiting, AT_ONCE - waiting.len());
            if tokio::time::timeout_at(until, more).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    async fn write(&mut self, page: Page) -> Result<(), RetryError> {
        let Page { hand_overs, ended, tickets, put_off, given_back } = page;
        // A session has let its last mail go before the next one counts as handed over.
        if !put_off.is_empty() {
            self.put_off(put_off).await?;
        }
        if !given_back.is_empty() {
            self.give_back(given_back).await?;
        }
        self.advance(hand_overs, ended, tickets).await
    }

    async fn advance(
        &mut self,
        hand_overs: Vec<(ClaimedDelivery, oneshot::Sender<bool>)>,
        ended: Vec<DeliveryOutcome>,
        tickets: Vec<Ticket>,
    ) -> Result<(), RetryError> {
        if hand_overs.is_empty() && ended.is_empty() {
            return Ok(());
        }
        let (consumer, lease) = (self.consumer, self.lease);
        let asked: Vec<ClaimedDelivery> = hand_overs.iter().map(|(hand, _)| *hand).collect();
        self.hands.hand_over(&asked, true);
        let HandOverResult { mut granted, recorded, lost, .. } =
            retry!(self.database, |connection| notification::hand_over_and_record(
                connection, consumer, lease, &asked, &ended
            ))?;
        granted.sort_unstable_by_key(order);
        for (hand, grant) in hand_overs {
            let may = granted.binary_search_by_key(&order(&hand), order).is_ok();
            // A session that is gone sends nothing, and its hand-over becomes an unknown outcome.
            let _ = grant.send(may);
        }
        if !lost.is_empty() {
            tracing::warn!(
                lost = lost.len(),
                "outcomes came after their leases had run out, and do not count"
            );
        }
        for ended in ended.iter().filter(|ended| !lost.contains(&ended.delivery)) {
            self.metrics.sent(ended.outcome);
        }
        self.hands.let_go(recorded.iter().chain(&lost));
        for mut ticket in tickets {
            ticket.settle();
        }
        Ok(())
    }

    async fn put_off(&mut self, mails: Vec<(Box<Mail>, bool, Instant)>) -> Result<(), RetryError> {
        let (consumer, lease) = (self.consumer, self.lease);
        let asked: Vec<Postponement> = mails
            .iter()
            .map(|(mail, counts, _)| Postponement { delivery: mail.hand, counts_as_try: *counts })
            .collect();
        let held = retry!(self.database, |connection| notification::postpone_deliveries(
            connection, consumer, lease, &asked
        ))?;
        let now = Instant::now();
        for (mut mail, _, due) in mails {
            mail.ticket.settle();
            match held.iter().find(|held| held.delivery == mail.hand) {
                Some(held) => {
                    self.hands.hand_over([&mail.hand], false);
                    mail.tries = held.tries;
                    mail.first_try = held.since_first_try.and_then(|ago| now.checked_sub(ago));
                    self.metrics.put_off();
                    self.parked.park(*mail, due);
                }
                None => self.hands.let_go([&mail.hand]),
            }
        }
        Ok(())
    }

    async fn give_back(&mut self, given: Vec<(ClaimedDelivery, Option<Ticket>)>) -> Result<(), RetryError> {
        let consumer = self.consumer;
        let hands: Vec<ClaimedDelivery> = given.iter().map(|(hand, _)| *hand).collect();
        self.hands.let_go(&hands);
        for part in hands.chunks(AT_ONCE) {
            retry!(self.database, |connection| notification::release_claims(connection, consumer, part))?;
        }
        for mut ticket in given.into_iter().filter_map(|(_, ticket)| ticket) {
            ticket.settle();
        }
        Ok(())
    }
}

impl Page {
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::HandOver { hand, grant } => self.hand_overs.push((hand, grant)),
            Entry::End { ended, ticket } => {
                self.ended.push(ended);
                self.tickets.push(ticket);
            }
            Entry::PutOff { mail, counts, due } => self.put_off.push((mail, counts, due)),
            Entry::GiveBack { hand, ticket } => self.given_back.push((hand, ticket)),
        }
    }
}

fn order(hand: &ClaimedDelivery) -> (i64, i64) {
    (hand.run.0, hand.key.member.get())
}
