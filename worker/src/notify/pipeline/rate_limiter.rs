//! `maxPerSecond` over all consumers: slots are handed out by the database, a few at a time, and each mail waits for its
//! own.

use std::collections::HashMap;
use std::sync::Mutex as Lock;
use std::time::Duration;

use store::notification::{self, NotificationId, RunFacts, SendSlots};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::in_flight::locked;
use crate::database_retry::{RetryError, RetryingConnection, retry};

/// How far ahead slots are taken, as a part of a second: what a process takes with it when it dies is not made up for.
const PART_OF_A_SECOND: u32 = 10;

/// The runs that mails were claimed for with their limits, and the slots that were taken and not used yet.
pub(crate) struct Pace {
    runs: Lock<HashMap<NotificationId, (String, Option<u32>)>>,
    taken: Mutex<Taken>,
}

struct Taken {
    database: RetryingConnection,
    slots: HashMap<NotificationId, Row>,
}

/// Slots one after another.
struct Row {
    next: Instant,
    apart: Duration,
    left: u32,
}

impl Pace {
    pub(crate) fn new(database: RetryingConnection) -> Self {
        Self { runs: Lock::default(), taken: Mutex::new(Taken { database, slots: HashMap::new() }) }
    }

    /// Takes note of the limits of runs. They may change while a run goes.
    pub(crate) fn note<'a>(&self, facts: impl IntoIterator<Item = &'a RunFacts>) {
        let mut runs = locked(&self.runs);
        for run in facts {
            if run.state.is_over() {
                runs.remove(&run.id);
            } else {
                let limit = run.max_per_second.and_then(|limit| u32::try_from(limit).ok());
                runs.insert(run.id, (run.run.clone(), limit));
            }
        }
    }

    /// The runs that are not known to be over.
    pub(crate) fn runs(&self) -> Vec<String> {
        locked(&self.runs).values().map(|(run, _)| run.clone()).collect()
    }

    /// When the run's next mail may go; none: at once.
    pub(crate) async fn slot(
        &self,
        run: NotificationId,
        sessions: u32,
    ) -> Result<Option<Instant>, RetryError> {
        let Some(limit) = locked(&self.runs).get(&run).and_then(|(_, limit)| *limit) else { return Ok(None) };
        let mut taken = self.taken.lock().await;
        let Taken { database, slots } = &mut *taken;
        let now = Instant::now();
        // Slots that went by unused are not saved up.
        let usable = slots.get_mut(&run).filter(|row| row.left > 0 && row.next + row.apart >= now);
        let row = match usable {
            Some(row) => row,
            None => {
                let left = (limit / PART_OF_A_SECOND).clamp(1, sessions);
                let SendSlots { first_in, interval: apart } =
                    retry!(*database, |connection| notification::reserve_send_slots(connection, run, left))?;
                if apart.is_zero() {
                    slots.remove(&run);
                    return Ok(None);
                }
                slots.retain(|_, row| row.left > 0 && row.next + row.apart >= now);
                let row = Row { next: Instant::now() + first_in, apart, left };
                slots.entry(run).insert_entry(row).into_mut()
            }
        };
        let slot = row.next;
        row.next += row.apart;
        row.left -= 1;
        Ok(Some(slot))
    }
}
