//! The consumer's side of its group: notes what the brokers assign, take away and answer, for the loop to act on.
//!
//! A partition that is to be another's is not let go here, but by the loop, once what is in hand of it is settled.

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
pub(super) enum Event {
    Assigned(Vec<i32>),
    /// To be let go by the loop.
    Revoked(Vec<i32>),
    /// Gone already: another may have them.
    Lost(Vec<i32>),
    /// The answer to a commit of these partitions' offsets.
    Committed {
        partitions: Vec<i32>,
        refusal: Option<KafkaError>,
    },
}

/// What the client library calls back.
#[derive(Debug, Default)]
pub(super) struct Group {
    events: Mutex<VecDeque<Event>>,
    news: Notify,
    closing: AtomicBool,
}

impl Group {
    /// What happened since the last time.
    pub(super) fn events(&self) -> VecDeque<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something has happened.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// From now on partitions are let go at once: the loop is over.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.news.notify_one();
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka::log(level, facility, line);
    }

    // The loop gets it from the stream as well.
    fn error(&self, _: KafkaError, said: &str) {
        tracing::debug!("{said}");
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers = numbers(partitions);
        let done = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.note(Event::Assigned(numbers));
                consumer.incremental_assign(partitions)
            }
            _ if self.closing.load(Ordering::SeqCst) => consumer.incremental_unassign(partitions),
            _ if consumer.assignment_lost() => {
                self.note(Event::Lost(numbers));
                consumer.incremental_unassign(partitions)
            }
            _ => {
                self.note(Event::Revoked(numbers));
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!("cannot take or let go of partitions: {error}");
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions.elements().iter().map(|element| element.partition()).collect()
}
