//! Keeps what is in hand: renews leases, and tells that this consumer lives and what troubles it.

use std::sync::Arc;
use std::time::Duration;

use store::notice::{self, ConsumerId, InHand};
use tokio::time::Instant;

use super::link::{Link, LinkError, insist};
use super::session::Shared;

/// How often others are told that this consumer lives, well within the half minute after which it counts as gone.
const BETWEEN_BEATS: Duration = Duration::from_secs(3);
/// Between the end of a mail in the database and in memory; far more than it takes.
const TO_LET_GO: Duration = Duration::from_millis(50);
/// Leases that are renewed at once.
const AT_ONCE: usize = 1000;

pub(super) struct Heartbeat {
    pub(super) link: Link,
    pub(super) consumer: ConsumerId,
    pub(super) lease: Duration,
    pub(super) shared: Arc<Shared>,
}

impl Heartbeat {
    /// Until it is dropped.
    pub(super) async fn beat(mut self) -> Result<(), LinkError> {
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
            let facts = insist!(self.link, |connection| async {
                notice::alive(connection, consumer, trouble.as_deref()).await?;
                if runs.is_empty() { Ok(Vec::new()) } else { notice::runs(connection, &runs).await }
            })?;
            self.shared.pace.note(&facts);
        }
    }

    async fn renew(&mut self) -> Result<(), LinkError> {
        let (consumer, lease) = (self.consumer, self.lease);
        let mut lost = 0;
        for part in self.shared.hands.all().chunks(AT_ONCE) {
            let mut kept = insist!(self.link, |connection| notice::renew(connection, consumer, lease, part))?;
            kept.sort_unstable_by_key(order);
            // What has just ended is not renewed either, and about to be let go.
            tokio::time::sleep(TO_LET_GO).await;
            let gone = |hand: &&InHand| kept.binary_search_by_key(&order(hand), order).is_err();
            let gone: Vec<&InHand> =
                part.iter().filter(gone).filter(|hand| self.shared.hands.hold(hand)).collect();
            lost += gone.len();
            self.shared.hands.let_go(gone);
        }
        if lost > 0 {
            tracing::warn!(lost, "leases ran out; others may have the bills");
        }
        Ok(())
    }
}

fn order(hand: &InHand) -> (i64, i64, i64, i32) {
    (hand.run.0, hand.key.member.get(), i64::from(hand.key.revision.get()), hand.attempt)
}
