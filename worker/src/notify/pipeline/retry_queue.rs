//! Mails that a server put off, until their next try.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::Instant;

use super::in_flight::{Hands, Mail, Queue, locked};

#[derive(Default)]
pub(crate) struct Parked {
    places: Mutex<Places>,
    changed: watch::Sender<usize>,
}

/// Mails by the time of their next try; the number tells those of one moment apart.
#[derive(Default)]
struct Places {
    mails: BTreeMap<(Instant, u64), Mail>,
    next: u64,
}

impl Parked {
    pub(crate) fn park(&self, mail: Mail, due: Instant) {
        let count = {
            let mut places = locked(&self.places);
            let number = places.next;
            places.next += 1;
            places.mails.insert((due, number), mail);
            places.mails.len()
        };
        self.changed.send_replace(count);
    }

    /// Waits until fewer than `most` are here: each of them is memory.
    pub(crate) async fn room(&self, most: usize) {
        // The sender lives as long as this does.
        drop(self.changed.subscribe().wait_for(|parked| *parked < most).await);
    }

    pub(crate) fn drain(&self) -> Vec<Mail> {
        let mails = std::mem::take(&mut locked(&self.places).mails);
        self.changed.send_replace(0);
        mails.into_values().collect()
    }

    /// Moves mails to the queue when they are due, for ever.
    pub(crate) async fn release(self: Arc<Self>, queue: Arc<Queue>, hands: Arc<Hands>) {
        let mut changes = self.changed.subscribe();
        loop {
            let next = locked(&self.places).mails.keys().next().map(|(due, _)| *due);
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
            let mut places = locked(&self.places);
            let first = places.mails.first_entry()?;
            if first.key().0 > now {
                return None;
            }
            let mail = first.remove();
            (mail, places.mails.len())
        };
        self.changed.send_replace(count);
        Some(mail)
    }
}
