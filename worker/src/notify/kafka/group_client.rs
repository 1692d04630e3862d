//! A client in its consumer group, from joining to leaving, and a thread that commits for it: the
//! client library reports the result of a commit only to a caller that blocks.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::oneshot;
use worker_cli::KafkaArgs;

use super::rebalance::{GroupContext, GroupEvent};
use crate::kafka::consumer_config;

/// How long leaving the group may take. A member that does not leave is removed after the session
/// timeout.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Partitions, and the next offset to read in each.
type Offsets = Vec<(i32, i64)>;

/// Leaves its group when it is dropped.
pub(super) struct GroupClient {
    /// None once it has left.
    parts: Option<Parts>,
}

struct Parts {
    consumer: Arc<StreamConsumer<GroupContext>>,
    commits: mpsc::Sender<Offsets>,
    commit_thread: JoinHandle<()>,
}

impl GroupClient {
    /// # Errors
    /// The client library rejects the options.
    pub(super) fn new(options: &KafkaArgs) -> KafkaResult<Self> {
        let consumer: StreamConsumer<GroupContext> =
            consumer_config(options).create_with_context(GroupContext::default())?;
        consumer.subscribe(&[&options.topic])?;
        let consumer = Arc::new(consumer);
        let (commits, requests) = mpsc::channel();
        let (client, topic) = (Arc::clone(&consumer), options.topic.clone());
        let commit_thread = std::thread::spawn(move || commit_all(&client, &topic, &requests));
        Ok(Self { parts: Some(Parts { consumer, commits, commit_thread }) })
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("the parts exist until the client leaves")
    }

    pub(super) fn consumer(&self) -> &StreamConsumer<GroupContext> {
        &self.parts().consumer
    }

    /// Commits offsets. The result comes as a [`GroupEvent::Committed`].
    pub(super) fn commit(&self, offsets: Offsets) {
        // The thread lives as long as the sender.
        self.parts().commits.send(offsets).ok();
    }

    /// Leaves the group, within a time-out.
    pub(super) async fn leave(mut self) {
        if tokio::time::timeout(LEAVE_TIMEOUT, self.start_leaving()).await.is_err() {
            tracing::warn!("could not leave the consumer group in time; the brokers will remove the member");
        }
    }

    /// Leaves on a thread of its own, as the library may block on brokers that are down.
    fn start_leaving(&mut self) -> oneshot::Receiver<()> {
        let (left, result) = oneshot::channel();
        if let Some(Parts { consumer, commits, commit_thread }) = self.parts.take() {
            consumer.context().close();
            drop(commits);
            std::thread::spawn(move || {
                // It leaves even if the commit thread panicked or nobody waits for the result.
                commit_thread.join().ok();
                drop(consumer);
                left.send(()).ok();
            });
        }
        result
    }
}

impl Drop for GroupClient {
    fn drop(&mut self) {
        drop(self.start_leaving());
    }
}

fn commit_all(consumer: &StreamConsumer<GroupContext>, topic: &str, requests: &mpsc::Receiver<Offsets>) {
    for offsets in requests {
        let error = commit(consumer, topic, &offsets).err();
        let partitions = offsets.into_iter().map(|(partition, _)| partition).collect();
        consumer.context().push(GroupEvent::Committed { partitions, error });
    }
}

fn commit(consumer: &StreamConsumer<GroupContext>, topic: &str, offsets: &Offsets) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, next) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}
