//! Keeps this consumer's claims alive: renews leases, and reports to the database that the consumer
//! lives and why it may not be sending. Fails if the database was migrated to another schema.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use store::migrate;
use store::notification::{self, ClaimedDelivery, ConsumerId};
use tokio::time::{Instant, MissedTickBehavior};

use super::shared_state::SharedState;
use crate::database_retry::{RetryError, RetryingConnection, retry};

/// A consumer counts as gone after half a minute without a heartbeat.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
/// How long a change takes, at most, from the database to this process's memory.
const RECHECK_DELAY: Duration = Duration::from_millis(50);
const LEASES_PER_STATEMENT: usize = 1000;

pub(super) struct Heartbeat {
    pub(super) database: RetryingConnection,
    pub(super) consumer: ConsumerId,
    pub(super) lease: Duration,
    pub(super) shared: Arc<SharedState>,
}

impl Heartbeat {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) -> Result<(), RetryError> {
        let renewal_interval = self.lease / 3;
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL.min(renewal_interval / 2));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        loop {
            ticks.tick().await;
            // The next tick would be too late.
            if renewed.elapsed() + ticks.period() > renewal_interval {
                renewed = Instant::now();
                self.renew_leases().await?;
            }
            let trouble = self.shared.circuit_breaker.open_reason();
            self.shared.metrics.transport_and_leases(trouble.is_none(), self.shared.in_flight.len());
            let (consumer, runs) = (self.consumer, self.shared.rate_limiter.runs());
            let facts = retry!(self.database, |connection| async {
                migrate::check_version(connection).await?;
                notification::record_heartbeat(connection, consumer, trouble.as_deref()).await?;
                if runs.is_empty() {
                    Ok(Vec::new())
                } else {
                    notification::read_latest_runs(connection, &runs).await
                }
            })?;
            self.shared.rate_limiter.update(&facts);
        }
    }

    async fn renew_leases(&mut self) -> Result<(), RetryError> {
        let claimed = self.shared.in_flight.claimed();
        let not_renewed = self.renew(&claimed).await?;
        if not_renewed.is_empty() {
            return Ok(());
        }
        // A delivery that has just been handed over or has ended is not renewed either. Memory
        // shows that a moment later.
        tokio::time::sleep(RECHECK_DELAY).await;
        let still_claimed: Vec<ClaimedDelivery> =
            not_renewed.into_iter().filter(|delivery| self.shared.in_flight.is_claimed(delivery)).collect();
        let lost = self.renew(&still_claimed).await?;
        if !lost.is_empty() {
            tracing::warn!(lost = lost.len(), "leases expired; other consumers may claim the bills");
            self.shared.in_flight.remove(&lost);
        }
        Ok(())
    }

    /// Returns the deliveries whose leases were not renewed.
    async fn renew(&mut self, deliveries: &[ClaimedDelivery]) -> Result<Vec<ClaimedDelivery>, RetryError> {
        let (consumer, lease) = (self.consumer, self.lease);
        let mut not_renewed = Vec::new();
        for part in deliveries.chunks(LEASES_PER_STATEMENT) {
            let renewed = retry!(self.database, |connection| notification::renew_leases(
                connection, consumer, lease, part
            ))?;
            let renewed: HashSet<ClaimedDelivery> = renewed.into_iter().collect();
            not_renewed.extend(part.iter().filter(|delivery| !renewed.contains(delivery)));
        }
        Ok(not_renewed)
    }
}
