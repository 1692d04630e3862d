//! The emails that the mail server deferred, until their next try. When that is,
//! `smtp::retry_policy` decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::Instant;

use super::claimed_email::ClaimedEmail;
use super::in_flight::InFlight;
use super::lock::lock;
use super::send_queue::SendQueue;

#[derive(Default)]
pub(super) struct RetryQueue {
    waiting: Mutex<Waiting>,
    len: watch::Sender<usize>,
}

/// Emails by the time of their next try. The number distinguishes emails of the same time.
#[derive(Default)]
struct Waiting {
    emails: BTreeMap<(Instant, u64), ClaimedEmail>,
    next_number: u64,
}

impl RetryQueue {
    pub(super) fn push(&self, email: ClaimedEmail, due: Instant) {
        let len = {
            let mut waiting = lock(&self.waiting);
            let number = waiting.next_number;
            waiting.next_number += 1;
            waiting.emails.insert((due, number), email);
            waiting.emails.len()
        };
        self.len.send_replace(len);
    }

    /// Waits until fewer than `max` emails are here, as each of them takes memory.
    pub(super) async fn wait_for_room(&self, max: usize) {
        // The sender lives as long as this queue.
        drop(self.len.subscribe().wait_for(|len| *len < max).await);
    }

    pub(super) fn drain(&self) -> Vec<ClaimedEmail> {
        let emails = std::mem::take(&mut lock(&self.waiting).emails);
        self.len.send_replace(0);
        emails.into_values().collect()
    }

    /// Moves emails to the send queue when they are due. Never returns.
    pub(super) async fn move_due_emails(self: Arc<Self>, queue: Arc<SendQueue>, in_flight: Arc<InFlight>) {
        let mut changes = self.len.subscribe();
        loop {
            let next = lock(&self.waiting).emails.keys().next().map(|(due, _)| *due);
            let due = async {
                match next {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                _ = changes.changed() => {}
            }
            while let Some(email) = self.pop_due(Instant::now()) {
                if in_flight.contains(&email.delivery) {
                    queue.push_front(email);
                }
            }
        }
    }

    fn pop_due(&self, now: Instant) -> Option<ClaimedEmail> {
        let (email, len) = {
            let mut waiting = lock(&self.waiting);
            let first = waiting.emails.first_entry()?;
            if first.key().0 > now {
                return None;
            }
            let email = first.remove();
            (email, waiting.emails.len())
        };
        self.len.send_replace(len);
        Some(email)
    }
}
