//! Publishes messages that cannot be used to the dead-letter topic, unchanged, with the reason in a
//! header. A message is there before its offset is committed.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use tokio::sync::Notify;
use worker_cli::KafkaArgs;

use super::batch::DeadLetter;
use crate::kafka::{self, LastError};

const REASON: &str = "monthend-reason";
/// Where the message came from: `TOPIC/PARTITION/OFFSET`.
const SOURCE: &str = "monthend-source";
/// How many bytes of the payload were cut off, if any.
const BYTES_CUT: &str = "monthend-bytes-cut";

const RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct DeadLetterPublisher {
    producer: FutureProducer<LastError>,
    topic: Arc<str>,
    source_topic: Arc<str>,
    /// Notified when the topic is missing.
    topic_missing: Arc<Notify>,
}

impl DeadLetterPublisher {
    /// # Errors
    /// The client library rejects the options.
    pub(super) fn new(options: &KafkaArgs, topic_missing: Arc<Notify>) -> KafkaResult<Self> {
        Ok(Self {
            producer: kafka::producer_config(options).create_with_context(LastError::default())?,
            topic: options.dlq_topic.as_str().into(),
            source_topic: options.topic.as_str().into(),
            topic_missing,
        })
    }

    /// Publishes all of them, however long that takes.
    pub(super) async fn publish(&self, letters: Vec<DeadLetter>) {
        let mut unpublished = letters;
        while !unpublished.is_empty() {
            let results = join_all(unpublished.iter().map(|letter| self.send(letter))).await;
            let mut last_error = None;
            let mut failed =
                results.into_iter().map(|sent| sent.map_err(|error| last_error = Some(error)).is_err());
            unpublished.retain(|letter| {
                let again = failed.next().unwrap_or(true);
                if !again {
                    let (partition, offset) = (letter.source.partition, letter.source.offset);
                    tracing::warn!(
                        partition,
                        offset,
                        reason = letter.reason,
                        "moved a message to the dead-letter topic"
                    );
                }
                again
            });
            drop(failed);
            if let Some(error) = last_error {
                if kafka::is_topic_missing(&error) {
                    self.topic_missing.notify_one();
                }
                tracing::warn!(
                    topic = &*self.topic,
                    messages = unpublished.len(),
                    "cannot write to the dead-letter topic: {error}"
                );
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }

    async fn send(&self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let message = &letter.source;
        let source = format!("{}/{}/{}", self.source_topic, message.partition, message.offset);
        let mut headers = OwnedHeaders::new()
            .insert(Header { key: REASON, value: Some(&letter.reason) })
            .insert(Header { key: SOURCE, value: Some(&source) });
        if message.bytes_cut > 0 {
            headers = headers.insert(Header { key: BYTES_CUT, value: Some(&message.bytes_cut.to_string()) });
        }
        let record = FutureRecord {
            topic: &self.topic,
            partition: None,
            payload: message.payload.as_deref(),
            key: message.key.as_deref(),
            timestamp: None,
            headers: Some(headers),
        };
        self.producer.send(record, Timeout::Never).await.map(|_| ()).map_err(|(error, _)| error)
    }
}
