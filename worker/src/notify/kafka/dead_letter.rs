//! The dead-letter topic: messages that can't be used, as they came, with the reason in a header. A message is here
//! before its offset is committed, or not committed at all.

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
/// Where the message was: `TOPIC/PARTITION/OFFSET`.
const SOURCE: &str = "monthend-source";
/// How many bytes of its payload are not here, if any.
const CUT: &str = "monthend-bytes-cut";

const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where dead letters go.
#[derive(Clone)]
pub(super) struct DeadLetters {
    producer: FutureProducer<LastError>,
    topic: Arc<str>,
    source: Arc<str>,
    /// Told when the topic is missing.
    topic_away: Arc<Notify>,
}

impl DeadLetters {
    /// # Errors
    /// The client library refuses the options.
    pub(super) fn new(options: &KafkaArgs, topic_away: Arc<Notify>) -> KafkaResult<Self> {
        Ok(Self {
            producer: kafka::producer_config(options).create_with_context(LastError::default())?,
            topic: options.dlq_topic.as_str().into(),
            source: options.topic.as_str().into(),
            topic_away,
        })
    }

    /// Puts all of them on the topic, however long that takes.
    pub(super) async fn bury(&self, letters: Vec<DeadLetter>) {
        let mut left = letters;
        while !left.is_empty() {
            let sent = join_all(left.iter().map(|letter| self.send(letter))).await;
            let mut failure = None;
            let mut kept = sent.into_iter().map(|sent| sent.map_err(|error| failure = Some(error)).is_err());
            left.retain(|letter| {
                let again = kept.next().unwrap_or(true);
                if !again {
                    let (partition, offset) = (letter.original.partition, letter.original.offset);
                    tracing::warn!(
                        partition,
                        offset,
                        reason = letter.reason,
                        "put a message to the dead letters"
                    );
                }
                again
            });
            drop(kept);
            if let Some(error) = failure {
                if kafka::is_topic_missing(&error) {
                    self.topic_away.notify_one();
                }
                tracing::warn!(
                    topic = &*self.topic,
                    messages = left.len(),
                    "no dead letters can be written: {error}"
                );
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    async fn send(&self, letter: &DeadLetter) -> Result<(), KafkaError> {
        let original = &letter.original;
        let source = format!("{}/{}/{}", self.source, original.partition, original.offset);
        let mut headers = OwnedHeaders::new()
            .insert(Header { key: REASON, value: Some(&letter.reason) })
            .insert(Header { key: SOURCE, value: Some(&source) });
        if original.cut > 0 {
            headers = headers.insert(Header { key: CUT, value: Some(&original.cut.to_string()) });
        }
        let record = FutureRecord {
            topic: &self.topic,
            partition: None,
            payload: original.payload.as_deref(),
            key: original.key.as_deref(),
            timestamp: None,
            headers: Some(headers),
        };
        self.producer.send(record, Timeout::Never).await.map(|_| ()).map_err(|(error, _)| error)
    }
}
