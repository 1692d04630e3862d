//! `maxPerSecond` of a run, over all consumers: the database reserves time slots, a few at once,
//! and each email waits for its own slot.

use std::collections::HashMap;
use std::sync::Mutex as SyncMutex;
use std::time::Duration;

use store::notification::{self, NotificationId, RunFacts, SendSlots};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::lock::lock;
use crate::database_retry::{RetryError, RetryingConnection, retry};

/// How often a second slots are reserved, at full rate. Slots that a process reserved before it
/// died stay unused.
const RESERVATIONS_PER_SECOND: u32 = 10;

/// The limits of the runs that are being sent, and the slots that are reserved and not used yet.
pub(super) struct RateLimiter {
    runs: SyncMutex<HashMap<NotificationId, RunLimit>>,
    reservations: Mutex<Reservations>,
}

struct RunLimit {
    run: String,
    max_per_second: Option<u32>,
}

struct Reservations {
    database: RetryingConnection,
    slots: HashMap<NotificationId, ReservedSlots>,
}

/// Slots at regular intervals.
struct ReservedSlots {
    next: Instant,
    interval: Duration,
    left: u32,
}

impl ReservedSlots {
    /// A slot whose time has passed is not made up for.
    fn is_usable(&self, now: Instant) -> bool {
        self.left > 0 && self.next + self.interval >= now
    }
}

impl RateLimiter {
    pub(super) fn new(database: RetryingConnection) -> Self {
        let reservations = Mutex::new(Reservations { database, slots: HashMap::new() });
        Self { runs: SyncMutex::default(), reservations }
    }

    /// Takes over the limits of runs, which may change while a run is being sent.
    pub(super) fn update<'a>(&self, facts: impl IntoIterator<Item = &'a RunFacts>) {
        let mut runs = lock(&self.runs);
        for run in facts {
            if run.state.is_over() {
                runs.remove(&run.id);
            } else {
                let max_per_second = run.max_per_second.and_then(|limit| u32::try_from(limit).ok());
                runs.insert(run.id, RunLimit { run: run.run.clone(), max_per_second });
            }
        }
    }

    /// The runs that are not known to be over.
    pub(super) fn runs(&self) -> Vec<String> {
        lock(&self.runs).values().map(|limit| limit.run.clone()).collect()
    }

    /// When the run's next email may be sent; none: at once. `connections` limits how many slots
    /// are reserved at once.
    pub(super) async fn next_slot(
        &self,
        run: NotificationId,
        connections: u32,
    ) -> Result<Option<Instant>, RetryError> {
        let Some(limit) = lock(&self.runs).get(&run).and_then(|limit| limit.max_per_second) else {
            return Ok(None);
        };
        let mut reservations = self.reservations.lock().await;
        let Reservations { database, slots } = &mut *reservations;
        let now = Instant::now();
        let reserved = match slots.get_mut(&run).filter(|reserved| reserved.is_usable(now)) {
            Some(reserved) => reserved,
            None => {
                let left = (limit / RESERVATIONS_PER_SECOND).clamp(1, connections);
                let SendSlots { first_in, interval } =
                    retry!(*database, |connection| notification::reserve_send_slots(connection, run, left))?;
                if interval.is_zero() {
                    slots.remove(&run);
                    return Ok(None);
                }
                slots.retain(|_, reserved| reserved.is_usable(now));
                let reserved = ReservedSlots { next: Instant::now() + first_in, interval, left };
                slots.entry(run).insert_entry(reserved).into_mut()
            }
        };
        let slot = reserved.next;
        reserved.next += reserved.interval;
        reserved.left -= 1;
        Ok(Some(slot))
    }
}
