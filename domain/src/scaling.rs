//! How many consumers a topic's lag asks for: [`decide`] is a function of one look at the topic and of what the looks
//! before it left behind. Where lag is read from, and what is scaled, is not its concern.
//!
//! Needs are held for the cool-down: the answer is the greatest need seen within it, so it rises at once and falls late.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Looks in a row at a partition that has work and doesn't move, after which it is left out of the count. A consumer
/// commits a batch as a whole, which takes a while with a slow mail server; this is well beyond that.
pub const STUCK_AFTER: u32 = 30;

/// How one group of consumers is to be scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    lag_per_replica: u64,
    min: u32,
    max: u32,
    cooldown: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("a consumer that takes a lag of 0 would be one too many: set at least 1")]
    NoLagPerReplica,
    #[error("at most 0 consumers would never send: set a maximum of at least 1")]
    NoReplicas,
    #[error("the minimum of {min} is above the maximum of {max}")]
    MinAboveMax { min: u32, max: u32 },
}

impl Settings {
    pub fn new(lag_per_replica: u64, min: u32, max: u32, cooldown: Duration) -> Result<Self, SettingsError> {
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
}

/// One partition of a topic as its brokers and its group's coordinator see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    pub id: i32,
    /// None where the group has committed nothing, or nothing that is still kept.
    pub committed: Option<i64>,
    pub low: i64,
    pub high: i64,
}

impl Partition {
    /// Where a consumer would go on reading. An offset that is no longer, or not yet, in the log sends it to the start.
    #[must_use]
    pub fn position(&self) -> i64 {
        match self.committed {
            Some(committed) if (self.low..=self.high).contains(&committed) => committed,
            _ => self.low,
        }
    }

    #[must_use]
    pub fn lag(&self) -> u64 {
        u64::try_from(self.high.saturating_sub(self.position())).unwrap_or(0)
    }
}

#[must_use]
pub fn total_lag(partitions: &[Partition]) -> u64 {
    partitions.iter().fold(0, |sum, partition| sum.saturating_add(partition.lag()))
}

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// None: the lag could not be read.
    pub lag: Option<&'a [Partition]>,
    /// As they are asked for now.
    pub replicas: u32,
    /// Those of them that could move an offset.
    pub ready: u32,
    /// Whether a run sends, or may be sending.
    pub sending: bool,
}

/// What a look leaves behind for the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Needs within the cool-down, each later one smaller than the ones before it: the first is the greatest.
    needs: VecDeque<(Duration, u32)>,
    standing: BTreeMap<i32, Standing>,
    known: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    position: i64,
    looks: u32,
}

impl History {
    /// Takes note that the replicas are now as was decided. What somebody else sets counts as a need.
    pub fn scaled_to(&mut self, replicas: u32) {
        self.known = Some(replicas);
    }

    fn forget(&mut self, now: Duration, cooldown: Duration) {
        while self.needs.front().is_some_and(|(at, _)| at.saturating_add(cooldown) <= now) {
            self.needs.pop_front();
        }
    }

    fn need(&mut self, now: Duration, replicas: u32) {
        while self.needs.back().is_some_and(|(_, smaller)| *smaller <= replicas) {
            self.needs.pop_back();
        }
        self.needs.push_back((now, replicas));
    }

    fn greatest_need(&self) -> u32 {
        self.needs.front().map_or(0, |(_, replicas)| *replicas)
    }

    /// Counts the looks at which a partition stood still. Without a consumer none of them could have moved.
    fn follow(&mut self, partitions: &[Partition], ready: u32) {
        let before = std::mem::take(&mut self.standing);
        self.standing = partitions
            .iter()
            .filter(|partition| partition.lag() > 0)
            .map(|partition| {
                let position = partition.position();
                let looks = match before.get(&partition.id) {
                    Some(seen) if seen.position == position => seen.looks.saturating_add(ready.min(1)),
                    _ => 0,
                };
                (partition.id, Standing { position, looks })
            })
            .collect();
    }

    fn is_stuck(&self, partition: &Partition) -> bool {
        self.standing.get(&partition.id).is_some_and(|standing| standing.looks >= STUCK_AFTER)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub replicas: u32,
    pub basis: Basis,
}

/// What a decision rests on, to be told to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The lag could not be read: the replicas stay.
    Unreadable,
    Lag {
        /// Of all partitions.
        total: u64,
        /// Partitions that have work and move.
        working: u32,
        /// Partitions that have work and haven't moved for [`STUCK_AFTER`] looks.
        stuck: u32,
        /// What the lag asks for now, without what the cool-down still holds.
        need: u32,
    },
}

/// `now` is the time since any moment that stays the same for one history.
#[must_use]
pub fn decide(
    settings: &Settings,
    snapshot: &Snapshot<'_>,
    mut history: History,
    now: Duration,
) -> (Decision, History) {
    if history.known != Some(snapshot.replicas) {
        // The first look, or a change that isn't ours: both are given the cool-down before they are taken back.
        history.need(now, snapshot.replicas);
        history.known = Some(snapshot.replicas);
    }
    let Some(partitions) = snapshot.lag else {
        // What can't be seen may be needed.
        history.need(now, snapshot.replicas);
        return (Decision { replicas: snapshot.replicas, basis: Basis::Unreadable }, history);
    };
    history.forget(now, settings.cooldown);
    history.follow(partitions, snapshot.ready);

    let (stuck, moving): (Vec<&Partition>, Vec<&Partition>) =
        partitions.iter().filter(|partition| partition.lag() > 0).partition(|one| history.is_stuck(one));
    let lag = moving.iter().fold(0_u64, |sum, partition| sum.saturating_add(partition.lag()));
    let working = u32::try_from(moving.len()).unwrap_or(u32::MAX);
    let asked = u32::try_from(lag.div_ceil(settings.lag_per_replica)).unwrap_or(u32::MAX);
    let least = settings.min.max(u32::from(snapshot.sending || !stuck.is_empty()));
    let need = asked.min(working).min(settings.max).max(least);
    history.need(now, need);

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
