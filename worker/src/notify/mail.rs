//! A mail on its way, what is in this process's hands, and the batches that wait for it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use email::Email;
use store::notification::ClaimedDelivery;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::engine::BatchDone;

/// A claimed bill with its composed mail.
pub(super) struct Mail {
    pub(super) hand: ClaimedDelivery,
    pub(super) email: Email,
    /// How often a server has put it off.
    pub(super) tries: i32,
    pub(super) first_try: Option<Instant>,
    pub(super) ticket: Ticket,
}

/// A message's place in its batch. Dropped unsettled, it leaves the batch undone for ever.
#[derive(Default)]
pub(super) struct Ticket(Option<Arc<Batch>>);

/// A batch in hand. It keeps its room until the last of its tickets is gone.
pub(super) struct Batch {
    unsettled: AtomicUsize,
    done: Mutex<Option<(BatchDone, oneshot::Sender<BatchDone>)>>,
    _room: OwnedSemaphorePermit,
}

impl Batch {
    /// Of so many messages, each of which gets a ticket.
    pub(super) fn new(
        messages: usize,
        done: oneshot::Sender<BatchDone>,
        room: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        let done = Mutex::new(Some((BatchDone::default(), done)));
        Arc::new(Self { unsettled: AtomicUsize::new(messages), done, _room: room })
    }

    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        Ticket(Some(self.clone()))
    }

    /// Settles a message that no run can use.
    pub(super) fn unusable(self: &Arc<Self>, place: usize, reason: String) {
        if let Some((done, _)) = locked(&self.done).as_mut() {
            done.unusable.push((place, reason));
        }
        self.ticket().settle();
    }
}

impl Ticket {
    /// The message needs no more care: its offset may be committed. Once; more often is the same.
    pub(super) fn settle(&mut self) {
        let Some(batch) = self.0.take() else { return };
        if batch.unsettled.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some((done, told)) = locked(&batch.done).take()
        {
            // Nobody may be waiting any more.
            drop(told.send(done));
        }
    }
}

/// Everything under this process's lease, and whether it is handed over: that lease is not renewed.
#[derive(Default)]
pub(super) struct Hands(Mutex<HashMap<ClaimedDelivery, bool>>);

impl Hands {
    pub(super) fn take(&self, hands: impl IntoIterator<Item = ClaimedDelivery>) {
        locked(&self.0).extend(hands.into_iter().map(|hand| (hand, false)));
    }

    /// False: the lease was lost, and the mail is somebody else's affair.
    pub(super) fn hold(&self, hand: &ClaimedDelivery) -> bool {
        locked(&self.0).contains_key(hand)
    }

    /// What is claimed is handed over, or the other way round.
    pub(super) fn hand_over<'a>(
        &self,
        hands: impl IntoIterator<Item = &'a ClaimedDelivery>,
        handed_over: bool,
    ) {
        let mut held = locked(&self.0);
        for hand in hands {
            if let Some(state) = held.get_mut(hand) {
                *state = handed_over;
            }
        }
    }

    pub(super) fn let_go<'a>(&self, hands: impl IntoIterator<Item = &'a ClaimedDelivery>) {
        let mut held = locked(&self.0);
        for hand in hands {
            held.remove(hand);
        }
    }

    /// What is claimed and not handed over.
    pub(super) fn claimed(&self) -> Vec<ClaimedDelivery> {
        locked(&self.0).iter().filter(|(_, handed_over)| !**handed_over).map(|(hand, _)| *hand).collect()
    }

    pub(super) fn is_claimed(&self, hand: &ClaimedDelivery) -> bool {
        locked(&self.0).get(hand) == Some(&false)
    }

    pub(super) fn count(&self) -> usize {
        locked(&self.0).len()
    }
}

/// Mails that wait for a session, first come, first served.
pub(super) struct Queue {
    mails: Mutex<VecDeque<Mail>>,
    waiting: Semaphore,
}

impl Default for Queue {
    fn default() -> Self {
        Self { mails: Mutex::default(), waiting: Semaphore::new(0) }
    }
}

impl Queue {
    pub(super) fn put(&self, mails: impl IntoIterator<Item = Mail>) {
        let added = {
            let mut queue = locked(&self.mails);
            let before = queue.len();
            queue.extend(mails);
            queue.len() - before
        };
        self.waiting.add_permits(added);
    }

    /// Before all others: it has waited already.
    pub(super) fn put_first(&self, mail: Mail) {
        locked(&self.mails).push_front(mail);
        self.waiting.add_permits(1);
    }

    pub(super) async fn take(&self) -> Mail {
        loop {
            if let Ok(permit) = self.waiting.acquire().await {
                permit.forget();
            }
            if let Some(mail) = locked(&self.mails).pop_front() {
                return mail;
            }
        }
    }

    /// What is left when nobody takes any more.
    pub(super) fn drain(&self) -> Vec<Mail> {
        locked(&self.mails).drain(..).collect()
    }
}

/// What a panic left behind is whole: nothing is awaited or fails under these locks.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn batch(messages: usize) -> (Arc<Batch>, Arc<Semaphore>, oneshot::Receiver<BatchDone>) {
        let room = Arc::new(Semaphore::new(1));
        let (done, told) = oneshot::channel();
        let batch = Batch::new(messages, done, room.clone().acquire_owned().await.unwrap());
        (batch, room, told)
    }

    #[tokio::test]
    async fn a_batch_is_done_when_every_message_is_settled() {
        let (batch, room, mut told) = batch(3).await;
        batch.unusable(1, "no such run".to_owned());
        let (mut first, mut last) = (batch.ticket(), batch.ticket());
        drop(batch);
        first.settle();
        first.settle();
        assert!(told.try_recv().is_err());
        assert_eq!(room.available_permits(), 0);
        last.settle();
        assert_eq!(told.await.unwrap().unusable, [(1, "no such run".to_owned())]);
        assert_eq!(room.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_batch_with_a_ticket_lost_is_never_done() {
        let (batch, room, told) = batch(2).await;
        batch.ticket().settle();
        drop(batch);
        assert!(told.await.is_err());
        assert_eq!(room.available_permits(), 1);
    }
}
