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
pub(crate) struct Mail {
    pub(crate) hand: ClaimedDelivery,
    pub(crate) email: Email,
    /// How often a server has put it off.
    pub(crate) tries: i32,
    pub(crate) first_try: Option<Instant>,
    pub(crate) ticket: Ticket,
}

/// A message's place in its batch. Dropped unsettled, it leaves the batch undone for ever.
#[derive(Default)]
pub(crate) struct Ticket(Option<Arc<Batch>>);

/// A batch in hand. It keeps its room until the last of its tickets is gone.
pub(crate) struct Batch {
    unsettled: AtomicUsize,
    done: Mutex<Option<(BatchDone, oneshot::Sender<BatchDone>)>>,
    _room: OwnedSemaphorePermit,
}

impl Batch {
    /// Of so many messages, each of which gets a ticket.
    pub(crate) fn new(
        messages: usize,
        done: oneshot::Sender<BatchDone>,
        room: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        let done = Mutex::new(Some((BatchDone::default(), done)));
        Arc::new(Self { unsettled: AtomicUsize::new(messages), done, _room: room })
    }

    pub(crate) fn ticket(self: &Arc<Self>) -> Ticket {
        Ticket(Some(self.clone()))
    }

    /// Settles a message that no run can use.
    pub(crate) fn unusable(self: &Arc<Self>, place: usize, reason: String) {
        if let Some((done, _)) = locked(&self.done).as_mut() {
            done.unusable.push((place, reason));
        }
        self.ticket().settle();
    }
}

impl Ticket {
    /// The message needs no more care: its offset may be committed. Once; more often is the same.
    pub(crate) fn settle(&mut self) {
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
pub(crate) struct Hands(Mutex<HashMap<ClaimedDelivery, bool>>);

impl Hands {
    pub(crate) fn take(&self, hands: impl IntoIterator<Item = ClaimedDelivery>) {
        locked(&self.0).extend(hands.into_iter().map(|hand| (hand, false)));
    }

    /// False: the lease was lost, and the mail is somebody else's affair.
    pub(crate) fn hold(&self, hand: &ClaimedDelivery) -> bool {
        locked(&self.0).contains_key(hand)
    }

    /// What is claimed is handed over, or the other way round.
    pub(crate) fn hand_over<'a>(
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

    pub(crate) fn let_go<'a>(&self, hands: impl IntoIterator<Item = &'a ClaimedDelivery>) {
        let mut held = locked(&self.0);
        for hand in hands {
            held.remove(hand);
        }
    }

    /// What is claimed and not handed over.
    pub(crate) fn claimed(&self) -> Vec<ClaimedDelivery> {
        locked(&self.0).iter().filter(|(_, handed_over)| !**handed_over).map(|(hand, _)| *hand).collect()
    }

    pub(crate) fn is_claimed(&self, hand: &ClaimedDelivery) -> bool {
        locked(&self.0).get(hand) == Some(&false)
    }

    pub(crate) fn count(&self) -> usize {
        locked(&self.0).len()
    }
}

/// Mails that wait for a session, first come, first served.
pub(crate) struct Queue {
    mails: Mutex<VecDeque<Mail>>,
    waiting: Semaphore,
}

impl Default for Queue {
    fn default() -> Self {
        Self { mails: Mutex::default(), waiting: Semaphore::new(0) }
    }
}

impl Queue {
    pub(crate) fn put(&self, mails: impl IntoIterator<Item = Mail>) {
        let added = {
            let mut queue = locked(&self.mails);
            let before = queue.len();
            queue.extend(mails);
            queue.len() - before
        };
        self.waiting.add_permits(added);
    }

    /// Before all others: it has waited already.
    pub(crate) fn put_first(&self, mail: Mail) {
        locked(&self.mails).push_front(mail);
        self.waiting.add_permits(1);
    }

    pub(crate) async fn take(&self) -> Mail {
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
    pub(crate) fn drain(&self) -> Vec<Mail> {
        locked(&self.mails).drain(..).collect()
    }
}

/// What a panic left behind is whole: nothing is awaited or fails under these locks.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
