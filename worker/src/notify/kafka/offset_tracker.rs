//! Which messages are in hand and how far each partition is settled: what may be committed, and nothing beyond. Pure.
//!
//! Batches end in any order; an offset may be committed once everything before it has ended. A partition that went away
//! is forgotten: whatever of it ends later says nothing.

use std::collections::{BTreeMap, VecDeque};

/// A batch, counted from 0 in the order in which batches were begun.
pub(super) type BatchNo = u64;

/// The partitions that are this consumer's.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    /// What was taken and is not settled to the front yet, by ascending offset.
    taken: VecDeque<Taken>,
    /// The offset to go on from, once anything is settled.
    settled: Option<i64>,
    /// What of it the brokers were told.
    told: Option<i64>,
    /// It is about to be another's: nothing more is taken of it.
    leaving: bool,
}

#[derive(Debug)]
struct Taken {
    batch: BatchNo,
    /// The offset after the batch's last of this partition.
    next: i64,
    ended: bool,
}

impl Ledger {
    pub(super) fn assign(&mut self, partition: i32) {
        self.partitions.insert(partition, Partition::default());
    }

    pub(super) fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Lets nothing more be taken of a partition.
    pub(super) fn leave(&mut self, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.leaving = true;
        }
    }

    /// Notes a message as part of a batch. Not so, and not to be worked on, when the partition is not, or not much longer,
    /// this consumer's.
    #[must_use]
    pub(super) fn take(&mut self, batch: BatchNo, partition: i32, offset: i64) -> bool {
        let Some(partition) = self.partitions.get_mut(&partition).filter(|partition| !partition.leaving)
        else {
            return false;
        };
        // Offsets that begin again are those of a topic made anew: what was known of the old one is void.
        let expected = partition.taken.back().map(|last| last.next).or(partition.settled);
        if expected.is_some_and(|expected| offset < expected) {
            *partition = Partition::default();
        }
        let next = offset + 1;
        match partition.taken.back_mut().filter(|last| last.batch == batch) {
            Some(last) => last.next = next,
            None => partition.taken.push_back(Taken { batch, next, ended: false }),
        }
        true
    }

    /// Notes that a batch has come to its end.
    pub(super) fn end(&mut self, batch: BatchNo) {
        for partition in self.partitions.values_mut() {
            if let Some(taken) = partition.taken.iter_mut().find(|taken| taken.batch == batch) {
                taken.ended = true;
            }
            while let Some(front) = partition.taken.front().filter(|front| front.ended) {
                partition.settled = Some(front.next);
                partition.taken.pop_front();
            }
        }
    }

    /// What is settled and the brokers were not told yet. From now on it counts as told.
    pub(super) fn tell(&mut self) -> Vec<(i32, i64)> {
        let moved = self.partitions.iter_mut().filter(|(_, partition)| partition.settled != partition.told);
        moved
            .filter_map(|(number, partition)| {
                partition.told = partition.settled;
                partition.settled.map(|next| (*number, next))
            })
            .collect()
    }

    /// Whether there is anything to tell.
    pub(super) fn has_news(&self) -> bool {
        self.partitions.values().any(|partition| partition.settled != partition.told)
    }

    /// Takes back that the brokers know of a partition's offset.
    pub(super) fn not_told(&mut self, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.told = None;
        }
    }

    /// Whether anything of the partition is in hand.
    pub(super) fn is_busy(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_some_and(|partition| !partition.taken.is_empty())
    }

    /// The partitions that are this consumer's and not about to leave.
    pub(super) fn staying(&self) -> impl Iterator<Item = i32> + '_ {
        self.partitions.iter().filter(|(_, partition)| !partition.leaving).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(partitions: &[i32]) -> Ledger {
        let mut ledger = Ledger::default();
        partitions.iter().for_each(|partition| ledger.assign(*partition));
        ledger
    }

    #[test]
    fn nothing_is_told_before_everything_ahead_of_it_has_ended() {
        let mut ledger = ledger(&[0, 1]);
        for (batch, partition, offset) in [(0, 0, 5), (0, 0, 6), (0, 1, 9), (1, 0, 7), (1, 0, 9), (2, 0, 10)]
        {
            assert!(ledger.take(batch, partition, offset));
        }
        ledger.end(1);
        assert_eq!(ledger.tell(), []);
        ledger.end(0);
        assert_eq!(ledger.tell(), [(0, 10), (1, 10)]);
        assert!(!ledger.has_news() && ledger.is_busy(0) && !ledger.is_busy(1));
        ledger.end(2);
        assert_eq!(ledger.tell(), [(0, 11)]);
        assert_eq!(ledger.tell(), []);
    }

    #[test]
    fn a_partition_that_went_away_is_not_spoken_of() {
        let mut ledger = ledger(&[0, 1]);
        assert!(ledger.take(0, 0, 1) && ledger.take(0, 1, 1));
        ledger.forget(0);
        ledger.end(0);
        assert_eq!(ledger.tell(), [(1, 2)]);
        assert!(!ledger.take(1, 0, 2), "it is another's");
        // It comes back, and the other has gone further meanwhile.
        ledger.assign(0);
        ledger.end(0);
        assert_eq!(ledger.tell(), []);
        assert!(ledger.take(1, 0, 50));
    }

    #[test]
    fn of_a_partition_that_leaves_nothing_more_is_taken() {
        let mut ledger = ledger(&[0]);
        assert!(ledger.take(0, 0, 1));
        ledger.leave(0);
        assert!(!ledger.take(1, 0, 2));
        assert!(ledger.is_busy(0));
        ledger.end(0);
        assert!(!ledger.is_busy(0));
        assert_eq!(ledger.tell(), [(0, 2)]);
    }

    #[test]
    fn what_could_not_be_told_is_told_again() {
        let mut ledger = ledger(&[0]);
        assert!(ledger.take(0, 0, 1));
        ledger.end(0);
        assert_eq!(ledger.tell(), [(0, 2)]);
        ledger.not_told(0);
        assert!(ledger.has_news());
        assert_eq!(ledger.tell(), [(0, 2)]);
        ledger.not_told(7);
    }

    #[test]
    fn a_topic_that_is_made_anew_begins_again() {
        let mut ledger = ledger(&[0]);
        assert!(ledger.take(0, 0, 100) && ledger.take(0, 0, 101));
        assert!(ledger.take(1, 0, 0));
        ledger.end(0);
        assert_eq!(ledger.tell(), [], "that was of the topic that is gone");
        ledger.end(1);
        assert_eq!(ledger.tell(), [(0, 1)]);
        assert!(ledger.take(2, 0, 1));
        ledger.end(2);
        assert_eq!(ledger.tell(), [(0, 2)]);
        assert!(ledger.take(3, 0, 0), "gone again, with nothing in hand");
        assert!(ledger.take(4, 0, 0), "and again, with the first message in hand");
        ledger.end(3);
        assert_eq!(ledger.tell(), []);
        ledger.end(4);
        assert_eq!(ledger.tell(), [(0, 1)]);
    }
}
