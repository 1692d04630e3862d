//! Keeps what is in hand: renews leases, and tells that this consumer lives and what troubles it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use store::notification::{self, ClaimedDelivery, ConsumerId};
use tokio::time::Instant;

use super::sender::Shared;
use crate::database_retry::{RetryError, RetryingConnection, retry};

/// How often others are told that this consumer lives, well within the half minute after which it counts as gone.
const BETWEEN_BEATS: Duration = Duration::from_secs(3);
/// From a change in the database to the same in memory; far more than it takes.
const TO_SETTLE_DOWN: Duration = Duration::from_millis(50);
/// Leases that are renewed at once.
const AT_ONCE: usize = 1000;

pub(crate) struct Heartbeat {
    pub(crate) database: RetryingConnection,
    pub(crate) consumer: ConsumerId,
    pub(crate) lease: Duration,
    pub(crate) shared: Arc<Shared>,
}

impl Heartbeat {
    /// Until it is dropped.
    pub(crate) async fn beat(mut self) -> Result<(), RetryError> {
        let between_renewals = self.lease / 3;
        let mut ticks = tokio::time::interval(BETWEEN_BEATS.min(between_renewals / 2));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renewed = Instant::now();
        loop {
            ticks.tick().await;
            // The next tick would come too late.
            if renewed.elapsed() + ticks.period() > between_renewals {
                renewed = Instant::now();
                self.renew().await?;
            }
            let trouble = self.shared.weather.trouble();
            self.shared.metrics.state(trouble.is_none(), self.shared.hands.count());
            let (consumer, runs) = (self.consumer, self.shared.pace.runs());
            let facts = retry!(self.database, |connection| async {
                notification::record_heartbeat(connection, consumer, trouble.as_deref()).await?;
                if runs.is_empty() {
                    Ok(Vec::new())
                } else {
                    notification::read_latest_runs(connection, &runs).await
                }
            })?;
            self.shared.pace.note(&facts);
        }
    }

    async fn renew(&mut self) -> Result<(), RetryError> {
        let claimed = self.shared.hands.claimed();
        let suspected = self.renew_these(&claimed).await?;
        if suspected.is_empty() {
            return Ok(());
        }
        // What has just been handed over or has ended is not renewed either. In a moment that shows here, too.
        tokio::time::sleep(TO_SETTLE_DOWN).await;
        let suspected: Vec<ClaimedDelivery> =
            suspected.into_iter().filter(|hand| self.shared.hands.is_claimed(hand)).collect();
        let lost = self.renew_these(&suspected).await?;
        if !lost.is_empty() {
            tracing::warn!(lost = lost.len(), "leases ran out; others may have the bills");
            self.shared.hands.let_go(&lost);
        }
        Ok(())
    }

    /// Returns those that could not be renewed.
    async fn renew_these(&mut self, hands: &[ClaimedDelivery]) -> Result<Vec<ClaimedDelivery>, RetryError> {
        let (consumer, lease) = (self.consumer, self.lease);
        let mut lost = Vec::new();
        for part in hands.chunks(AT_ONCE) {
            let renewed = retry!(self.database, |connection| notification::renew_leases(
                connection, consumer, lease, part
            ))?;
            let renewed: HashSet<ClaimedDelivery> = renewed.into_iter().collect();
            lost.extend(part.iter().filter(|hand| !renewed.contains(hand)));
        }
        Ok(lost)
    }
}
