//! The consumer's side of group rebalancing: queues what the brokers assign, revoke and reply, for
//! the poll loop to handle.
//!
//! A revoked partition is not given up here. The poll loop does that, once its unfinished batches
//! are done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;

use crate::kafka;

/// What happened in the group.
#[derive(Debug)]
pub(super) enum GroupEvent {
    Assigned(Vec<i32>),
    /// To be given up by the poll loop.
    Revoked(Vec<i32>),
    /// Lost already: another consumer may have them.
    Lost(Vec<i32>),
    /// The reply to a commit of these partitions' offsets.
    Committed {
        partitions: Vec<i32>,
        error: Option<KafkaError>,
    },
}

/// The callbacks of the client library.
#[derive(Debug, Default)]
pub(super) struct GroupContext {
    events: Mutex<VecDeque<GroupEvent>>,
    changed: Notify,
    closing: AtomicBool,
}

impl GroupContext {
    /// Takes the events since the last call.
    pub(super) fn take_events(&self) -> VecDeque<GroupEvent> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for an event.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// From now on, revoked partitions are given up at once: the poll loop has ended.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn push(&self, event: GroupEvent) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.changed.notify_one();
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    // The poll loop gets the error from the stream as well.
    fn error(&self, _: KafkaError, text: &str) {
        tracing::debug!("{text}");
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers = partition_numbers(partitions);
        let result = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.push(GroupEvent::Assigned(numbers));
                consumer.incremental_assign(partitions)
            }
            _ if self.closing.load(Ordering::SeqCst) => consumer.incremental_unassign(partitions),
            _ if consumer.assignment_lost() => {
                self.push(GroupEvent::Lost(numbers));
                consumer.incremental_unassign(partitions)
            }
            _ => {
                self.push(GroupEvent::Revoked(numbers));
                Ok(())
            }
        };
        if let Err(error) = result {
            tracing::warn!("cannot take over or give up partitions: {error}");
        }
    }
}

fn partition_numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions.elements().iter().map(|element| element.partition()).collect()
}
