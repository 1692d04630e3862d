//! Mails that a server put off, until their next try.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::Instant;

use super::mail::{Hands, Mail, Queue, locked};

/// Mails by the time of their next try; the number tells those of one moment apart.
#[derive(Default)]
pub(super) struct Parked {
    mails: Mutex<(u64, BTreeMap<(Instant, u64), Mail>)>,
    changed: watch::Sender<usize>,
}

impl Parked {
    pub(super) fn park(&self, mail: Mail, due: Instant) {
        let count = {
            let mut parked = locked(&self.mails);
            let (number, mails) = &mut *parked;
            *number += 1;
            mails.insert((due, *number), mail);
            mails.len()
        };
        self.changed.send_replace(count);
    }

    /// Waits until fewer than `most` are here: each of them is memory.
    pub(super) async fn room(&self, most: usize) {
        // The sender lives as long as this does.
        drop(self.changed.subscribe().wait_for(|parked| *parked < most).await);
    }

    pub(super) fn drain(&self) -> Vec<Mail> {
        let mails = std::mem::take(&mut locked(&self.mails).1);
        self.changed.send_replace(0);
        mails.into_values().collect()
    }

    /// Moves mails to the queue when they are due, for ever.
    pub(super) async fn release(self: Arc<Self>, queue: Arc<Queue>, hands: Arc<Hands>) {
        let mut changes = self.changed.subscribe();
        loop {
            let next = locked(&self.mails).1.keys().next().map(|(due, _)| *due);
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
            while let Some(mail) = self.take_due(Instant::now()) {
                if hands.hold(&mail.hand) {
                    queue.put_first(mail);
                }
            }
        }
    }

    fn take_due(&self, now: Instant) -> Option<Mail> {
        let (mail, count) = {
            let mut parked = locked(&self.mails);
            let first = parked.1.first_entry()?;
            if first.key().0 > now {
                return None;
            }
            let mail = first.remove();
            (mail, parked.1.len())
        };
        self.changed.send_replace(count);
        Some(mail)
    }
}
