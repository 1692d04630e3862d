//! A client of the brokers in its group, from joining to leaving, and the thread that commits for it: the library answers
//! a commit only to those who wait for it.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;
use worker_cli::KafkaArgs;

use super::rebalance::{Event, Group};
use crate::kafka::consumer_config;

/// For saying good-bye to the group. Whoever doesn't is missed after the session's time-out.
const TO_LEAVE: Duration = Duration::from_secs(5);

/// Partitions, and the offset to go on from in each.
type Offsets = Vec<(i32, i64)>;

/// Leaves its group when it goes, whatever the reason.
pub(super) struct Client {
    parts: Option<Parts>,
}

struct Parts {
    consumer: Arc<StreamConsumer<Group>>,
    commits: mpsc::Sender<Offsets>,
    committer: JoinHandle<()>,
}

impl Client {
    /// # Errors
    /// The client library refuses the options.
    pub(super) fn new(options: &KafkaArgs) -> KafkaResult<Self> {
        let consumer: StreamConsumer<Group> =
            consumer_config(options).create_with_context(Group::default())?;
        consumer.subscribe(&[&options.topic])?;
        let consumer = Arc::new(consumer);
        let (commits, asked) = mpsc::channel();
        let (client, topic) = (Arc::clone(&consumer), options.topic.clone());
        let committer = std::thread::spawn(move || commit_all(&client, &topic, &asked));
        Ok(Self { parts: Some(Parts { consumer, commits, committer }) })
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("the parts are there until the client goes")
    }

    pub(super) fn consumer(&self) -> &StreamConsumer<Group> {
        &self.parts().consumer
    }

    /// Commits offsets; the group's events tell what became of it.
    pub(super) fn commit(&self, offsets: Offsets) {
        // The thread is there as long as this is.
        self.parts().commits.send(offsets).ok();
    }

    /// Leaves the group, if that can be done in time.
    pub(super) async fn leave(mut self) {
        if tokio::time::timeout(TO_LEAVE, self.part()).await.is_err() {
            tracing::warn!("could not leave the group in time; the group will notice");
        }
    }

    /// The library may wait for brokers that are away, so this is left to a thread that nobody has to wait for.
    fn part(&mut self) -> oneshot::Receiver<()> {
        let (left, told) = oneshot::channel();
        if let Some(Parts { consumer, commits, committer }) = self.parts.take() {
            consumer.context().close();
            drop(commits);
            std::thread::spawn(move || {
                // Neither a thread that panicked nor a listener that has gone away keeps it from leaving.
                committer.join().ok();
                drop(consumer);
                left.send(()).ok();
            });
        }
        told
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.part());
    }
}

fn commit_all(consumer: &StreamConsumer<Group>, topic: &str, asked: &mpsc::Receiver<Offsets>) {
    for offsets in asked {
        let refusal = commit(consumer, topic, &offsets).err();
        let partitions = offsets.into_iter().map(|(partition, _)| partition).collect();
        consumer.context().note(Event::Committed { partitions, refusal });
    }
}

fn commit(consumer: &StreamConsumer<Group>, topic: &str, offsets: &Offsets) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, next) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}
