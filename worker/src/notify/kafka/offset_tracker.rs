//! Tracks which messages are unfinished, and up to where each partition's offset may be committed.
//! Pure.
//!
//! Batches finish in any order; an offset may be committed once everything before it is done. A
//! partition that was removed is forgotten: what finishes later of it has no effect.

use std::collections::{BTreeMap, VecDeque};

/// The number of a batch. Batches are counted from 0, in the order of their first messages.
pub(super) type BatchNumber = u64;

/// The partitions that are assigned to this consumer.
#[derive(Debug, Default)]
pub(super) struct OffsetTracker {
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    /// The batches with messages of this partition that are not done, or follow one that is not, by
    /// ascending offset.
    pending: VecDeque<PendingBatch>,
    /// The next offset to read, once anything is done.
    done: Option<i64>,
    /// The last offset whose commit was started.
    committed: Option<i64>,
    /// The partition is to be given up: no more of its messages are accepted.
    revoked: bool,
}

#[derive(Debug)]
struct PendingBatch {
    batch: BatchNumber,
    /// The offset after the batch's last message of this partition.
    next: i64,
    done: bool,
}

impl OffsetTracker {
    pub(super) fn assign(&mut self, partition: i32) {
        self.partitions.insert(partition, Partition::default());
    }

    pub(super) fn remove(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Accepts no more messages of a partition.
    pub(super) fn revoke(&mut self, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.revoked = true;
        }
    }

    /// Adds a message to a batch. False if the partition is not assigned, or revoked: the message
    /// must be dropped.
    #[must_use]
    pub(super) fn add(&mut self, batch: BatchNumber, partition: i32, offset: i64) -> bool {
        let Some(partition) = self.partitions.get_mut(&partition).filter(|partition| !partition.revoked)
        else {
            return false;
        };
        // Offsets that start again are those of a topic that was created again: nothing of the old
        // one counts.
        let expected = partition.pending.back().map(|last| last.next).or(partition.done);
        if expected.is_some_and(|expected| offset < expected) {
            *partition = Partition::default();
        }
        let next = offset + 1;
        match partition.pending.back_mut().filter(|last| last.batch == batch) {
            Some(last) => last.next = next,
            None => partition.pending.push_back(PendingBatch { batch, next, done: false }),
        }
        true
    }

    /// Marks a batch as done.
    pub(super) fn finish(&mut self, batch: BatchNumber) {
        for partition in self.partitions.values_mut() {
            if let Some(pending) = partition.pending.iter_mut().find(|pending| pending.batch == batch) {
                pending.done = true;
            }
            while let Some(front) = partition.pending.front().filter(|front| front.done) {
                partition.done = Some(front.next);
                partition.pending.pop_front();
            }
        }
    }

    /// The partitions and offsets to commit. From now on they count as committed.
    pub(super) fn start_commit(&mut self) -> Vec<(i32, i64)> {
        let moved = self.partitions.iter_mut().filter(|(_, partition)| partition.done != partition.committed);
        moved
            .filter_map(|(number, partition)| {
                partition.committed = partition.done;
                partition.done.map(|next| (*number, next))
            })
            .collect()
    }

    /// Whether any offset is to be committed.
    pub(super) fn has_uncommitted(&self) -> bool {
        self.partitions.values().any(|partition| partition.done != partition.committed)
    }

    /// The commit of a partition's offset failed: it is to be committed again.
    pub(super) fn commit_failed(&mut self, partition: i32) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.committed = None;
        }
    }

    /// Whether anything of the partition is unfinished.
    pub(super) fn is_pending(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_some_and(|partition| !partition.pending.is_empty())
    }

    /// The partitions that are assigned and not revoked.
    pub(super) fn assigned(&self) -> impl Iterator<Item = i32> + '_ {
        self.partitions.iter().filter(|(_, partition)| !partition.revoked).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(partitions: &[i32]) -> OffsetTracker {
        let mut tracker = OffsetTracker::default();
        partitions.iter().for_each(|partition| tracker.assign(*partition));
        tracker
    }

    #[test]
    fn an_offset_is_committed_once_everything_before_it_is_done() {
        let mut tracker = tracker(&[0, 1]);
        for (batch, partition, offset) in [(0, 0, 5), (0, 0, 6), (0, 1, 9), (1, 0, 7), (1, 0, 9), (2, 0, 10)]
        {
            assert!(tracker.add(batch, partition, offset));
        }
        tracker.finish(1);
        assert_eq!(tracker.start_commit(), []);
        tracker.finish(0);
        assert_eq!(tracker.start_commit(), [(0, 10), (1, 10)]);
        assert!(!tracker.has_uncommitted() && tracker.is_pending(0) && !tracker.is_pending(1));
        tracker.finish(2);
        assert_eq!(tracker.start_commit(), [(0, 11)]);
        assert_eq!(tracker.start_commit(), []);
    }

    #[test]
    fn a_removed_partition_is_not_committed() {
        let mut tracker = tracker(&[0, 1]);
        assert!(tracker.add(0, 0, 1) && tracker.add(0, 1, 1));
        tracker.remove(0);
        tracker.finish(0);
        assert_eq!(tracker.start_commit(), [(1, 2)]);
        assert!(!tracker.add(1, 0, 2), "another consumer has the partition");
        // It is assigned again, after the other consumer has read further.
        tracker.assign(0);
        tracker.finish(0);
        assert_eq!(tracker.start_commit(), []);
        assert!(tracker.add(1, 0, 50));
    }

    #[test]
    fn a_revoked_partition_accepts_no_more_messages() {
        let mut tracker = tracker(&[0]);
        assert!(tracker.add(0, 0, 1));
        tracker.revoke(0);
        assert!(!tracker.add(1, 0, 2));
        assert!(tracker.is_pending(0));
        tracker.finish(0);
        assert!(!tracker.is_pending(0));
        assert_eq!(tracker.start_commit(), [(0, 2)]);
    }

    #[test]
    fn an_offset_whose_commit_failed_is_committed_again() {
        let mut tracker = tracker(&[0]);
        assert!(tracker.add(0, 0, 1));
        tracker.finish(0);
        assert_eq!(tracker.start_commit(), [(0, 2)]);
        tracker.commit_failed(0);
        assert!(tracker.has_uncommitted());
        assert_eq!(tracker.start_commit(), [(0, 2)]);
        tracker.commit_failed(7);
    }

    #[test]
    fn a_topic_that_is_created_again_starts_at_its_first_offset() {
        let mut tracker = tracker(&[0]);
        assert!(tracker.add(0, 0, 100) && tracker.add(0, 0, 101));
        assert!(tracker.add(1, 0, 0));
        tracker.finish(0);
        assert_eq!(tracker.start_commit(), [], "that was of the deleted topic");
        tracker.finish(1);
        assert_eq!(tracker.start_commit(), [(0, 1)]);
        assert!(tracker.add(2, 0, 1));
        tracker.finish(2);
        assert_eq!(tracker.start_commit(), [(0, 2)]);
        assert!(tracker.add(3, 0, 0), "deleted again, with nothing unfinished");
        assert!(tracker.add(4, 0, 0), "and again, with the first message unfinished");
        tracker.finish(3);
        assert_eq!(tracker.start_commit(), []);
        tracker.finish(4);
        assert_eq!(tracker.start_commit(), [(0, 1)]);
    }
}
