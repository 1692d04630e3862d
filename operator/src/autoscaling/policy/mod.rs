//! How many replicas a topic's lag asks for. [`decide`] is a pure function of one snapshot of the
//! topic and of the history of earlier snapshots. Knows neither where the lag is read nor what is
//! scaled.
//!
//! The answer is the greatest need within the cool-down, so that it rises at once and falls late.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A partition that has work, and whose position is the same in this many snapshots in a row, is no
/// longer counted. A consumer commits a batch as a whole, which takes a while with a slow mail
/// server; this limit is well above that.
pub(crate) const STUCK_AFTER: u32 = 30;

/// How one group of consumers is to be scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    lag_per_replica: u64,
    min: u32,
    max: u32,
    cooldown: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the lag per replica is 0: set at least 1")]
    NoLagPerReplica,
    #[error("the maximum is 0 replicas, which would never send: set at least 1")]
    NoReplicas,
    #[error("the minimum of {min} is above the maximum of {max}")]
    MinAboveMax { min: u32, max: u32 },
}

impl Settings {
    pub(crate) fn new(
        lag_per_replica: u64,
        min: u32,
        max: u32,
        cooldown: Duration,
    ) -> Result<Self, SettingsError> {
        if lag_per_replica == 0 {
            return Err(SettingsError::NoLagPerReplica);
        }
        if max == 0 {
            return Err(SettingsError::NoReplicas);
        }
        if min > max {
            return Err(SettingsError::MinAboveMax { min, max });
        }
        Ok(Self { lag_per_replica, min, max, cooldown })
    }

    pub(crate) fn max(&self) -> u32 {
        self.max
    }
}

/// One partition of a topic as its brokers and its group's coordinator see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) id: i32,
    /// None if the group has committed nothing, or its offset has expired.
    pub(crate) committed: Option<i64>,
    pub(crate) low: i64,
    pub(crate) high: i64,
}

impl Partition {
    /// The offset from which a consumer would read on. A committed offset outside the log sends it
    /// to the log's start.
    #[must_use]
    pub(crate) fn position(&self) -> i64 {
        match self.committed {
            Some(committed) if (self.low..=self.high).contains(&committed) => committed,
            _ => self.low,
        }
    }

    #[must_use]
    pub(crate) fn lag(&self) -> u64 {
        u64::try_from(self.high.saturating_sub(self.position())).unwrap_or(0)
    }
}

#[must_use]
pub(crate) fn total_lag(partitions: &[Partition]) -> u64 {
    partitions.iter().fold(0, |sum, partition| sum.saturating_add(partition.lag()))
}

/// What one pass observed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot<'a> {
    /// None if the lag could not be read.
    pub(crate) lag: Option<&'a [Partition]>,
    /// The replicas that the Deployment asks for now.
    pub(crate) replicas: u32,
    /// The replicas that are ready, and so could have advanced an offset.
    pub(crate) ready: u32,
    /// Whether a run is, or may be, sending.
    pub(crate) sending: bool,
}

/// What one decision leaves for the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Needs within the cool-down; each one is smaller than the one before it, so that the first is
    /// the greatest.
    needs: VecDeque<(Duration, u32)>,
    stalls: BTreeMap<i32, Stall>,
    /// The replicas after the last pass.
    replicas: Option<u32>,
}

/// How long a partition has been at the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stall {
    position: i64,
    snapshots: u32,
}

impl History {
    /// Records that the decision was applied. Replicas that somebody else sets count as a need.
    pub(crate) fn scaled_to(&mut self, replicas: u32) {
        self.replicas = Some(replicas);
    }

    fn drop_expired(&mut self, now: Duration, cooldown: Duration) {
        while self.needs.front().is_some_and(|(at, _)| at.saturating_add(cooldown) <= now) {
            self.needs.pop_front();
        }
    }

    fn add_need(&mut self, now: Duration, replicas: u32) {
        while self.needs.back().is_some_and(|(_, smaller)| *smaller <= replicas) {
            self.needs.pop_back();
        }
        self.needs.push_back((now, replicas));
    }

    fn greatest_need(&self) -> u32 {
        self.needs.front().map_or(0, |(_, replicas)| *replicas)
    }

    /// Counts the snapshots in which a partition did not advance. Without a ready consumer none
    /// could have.
    fn track_stalls(&mut self, partitions: &[Partition], ready: u32) {
        let before = std::mem::take(&mut self.stalls);
        self.stalls = partitions
            .iter()
            .filter(|partition| partition.lag() > 0)
            .map(|partition| {
                let position = partition.position();
                let snapshots = match before.get(&partition.id) {
                    Some(seen) if seen.position == position => seen.snapshots.saturating_add(ready.min(1)),
                    _ => 0,
                };
                (partition.id, Stall { position, snapshots })
            })
            .collect();
    }

    fn is_stuck(&self, partition: &Partition) -> bool {
        self.stalls.get(&partition.id).is_some_and(|stall| stall.snapshots >= STUCK_AFTER)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) replicas: u32,
    pub(crate) basis: Basis,
}

/// The reason for a decision, for Events and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis {
    /// The lag could not be read: the replicas stay as they are.
    Unreadable,
    Lag {
        /// Messages, in all partitions together.
        total: u64,
        /// Partitions that have work and advance.
        working: u32,
        /// Partitions that have work and have not advanced for [`STUCK_AFTER`] snapshots.
        stuck: u32,
        /// The replicas that the lag asks for now, whatever the cool-down still holds.
        need: u32,
    },
}

/// `now` is the time since some instant that is the same for all calls with one history.
#[must_use]
pub(crate) fn decide(
    settings: &Settings,
    snapshot: &Snapshot<'_>,
    mut history: History,
    now: Duration,
) -> (Decision, History) {
    if history.replicas != Some(snapshot.replicas) {
        // The first snapshot, or somebody else's change: neither is scaled in before the cool-down is over.
        history.add_need(now, snapshot.replicas);
        history.replicas = Some(snapshot.replicas);
    }
    let Some(partitions) = snapshot.lag else {
        // The replicas may be needed.
        history.add_need(now, snapshot.replicas);
        return (Decision { replicas: snapshot.replicas, basis: Basis::Unreadable }, history);
    };
    history.drop_expired(now, settings.cooldown);
    history.track_stalls(partitions, snapshot.ready);

    let (stuck, moving): (Vec<&Partition>, Vec<&Partition>) =
        partitions.iter().filter(|partition| partition.lag() > 0).partition(|one| history.is_stuck(one));
    let lag = moving.iter().fold(0_u64, |sum, partition| sum.saturating_add(partition.lag()));
    let working = u32::try_from(moving.len()).unwrap_or(u32::MAX);
    let asked = u32::try_from(lag.div_ceil(settings.lag_per_replica)).unwrap_or(u32::MAX);
    let least = settings.min.max(u32::from(snapshot.sending || !stuck.is_empty()));
    let need = asked.min(working).min(settings.max).max(least);
    history.add_need(now, need);

    let basis = Basis::Lag {
        total: total_lag(partitions),
        working,
        stuck: u32::try_from(stuck.len()).unwrap_or(u32::MAX),
        need,
    };
    (Decision { replicas: history.greatest_need().min(settings.max), basis }, history)
}

#[cfg(test)]
mod tests;
