//! The emails that wait for a sender, first in, first out.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::Semaphore;

use super::claimed_email::ClaimedEmail;
use super::lock::lock;

pub(super) struct SendQueue {
    emails: Mutex<VecDeque<ClaimedEmail>>,
    available: Semaphore,
}

impl Default for SendQueue {
    fn default() -> Self {
        Self { emails: Mutex::default(), available: Semaphore::new(0) }
    }
}

impl SendQueue {
    pub(super) fn push(&self, emails: impl IntoIterator<Item = ClaimedEmail>) {
        let added = {
            let mut queue = lock(&self.emails);
            let before = queue.len();
            queue.extend(emails);
            queue.len() - before
        };
        self.available.add_permits(added);
    }

    /// For an email that has waited before.
    pub(super) fn push_front(&self, email: ClaimedEmail) {
        lock(&self.emails).push_front(email);
        self.available.add_permits(1);
    }

    /// Waits for the next email.
    pub(super) async fn pop(&self) -> ClaimedEmail {
        loop {
            if let Ok(permit) = self.available.acquire().await {
                permit.forget();
            }
            if let Some(email) = lock(&self.emails).pop_front() {
                return email;
            }
        }
    }

    /// The emails that are left when all senders have stopped.
    pub(super) fn drain(&self) -> Vec<ClaimedEmail> {
        lock(&self.emails).drain(..).collect()
    }
}
