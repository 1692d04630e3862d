//! A batch of messages before it goes to the pipeline: those that can be parsed, and those that
//! cannot, for the dead-letter topic.

use std::time::Duration;

use domain::notification_message::NotificationMessage;
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use tokio::time::Instant;

use super::offset_tracker::BatchNumber;

/// How long the first message of a batch waits for others.
const MAX_WAIT: Duration = Duration::from_millis(50);
/// A valid message is far smaller. Of a larger one, so many bytes are kept.
const MAX_DEAD_LETTER_BYTES: usize = 64 * 1024;

/// A message as Kafka delivered it.
#[derive(Debug, Clone)]
pub(super) struct SourceMessage {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Option<Vec<u8>>,
    /// How many bytes of the payload are not kept.
    pub(super) bytes_cut: usize,
}

/// A message that cannot be used, and the reason.
#[derive(Debug)]
pub(super) struct DeadLetter {
    pub(super) source: SourceMessage,
    pub(super) reason: String,
}

/// Messages that are done together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: BatchNumber,
    pub(super) messages: Vec<NotificationMessage>,
    /// In the order of `messages`.
    pub(super) sources: Vec<SourceMessage>,
    pub(super) dead_letters: Vec<DeadLetter>,
    /// When to stop waiting for more messages; none while the batch is empty.
    pub(super) due: Option<Instant>,
}

impl Batch {
    pub(super) fn new(number: BatchNumber, capacity: usize) -> Self {
        let (messages, sources) = (Vec::with_capacity(capacity), Vec::with_capacity(capacity));
        Self { number, messages, sources, dead_letters: Vec::new(), due: None }
    }

    pub(super) fn add(&mut self, message: &BorrowedMessage<'_>) {
        self.due.get_or_insert_with(|| Instant::now() + MAX_WAIT);
        let source = SourceMessage::from(message);
        match NotificationMessage::parse(message.payload().unwrap_or_default()) {
            Ok(message) => {
                self.messages.push(message);
                self.sources.push(source);
            }
            Err(error) => self.dead_letters.push(DeadLetter { source, reason: error.to_string() }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len() + self.dead_letters.len()
    }

    /// Makes dead letters of messages that the pipeline cannot use, by their index.
    pub(super) fn reject(&mut self, unusable: Vec<(usize, String)>) {
        for (index, reason) in unusable {
            if let Some(source) = self.sources.get(index) {
                self.dead_letters.push(DeadLetter { source: source.clone(), reason });
            }
        }
    }
}

impl From<&BorrowedMessage<'_>> for SourceMessage {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let payload = message.payload();
        let kept = payload.map(|payload| &payload[..payload.len().min(MAX_DEAD_LETTER_BYTES)]);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(|key| key[..key.len().min(MAX_DEAD_LETTER_BYTES)].to_vec()),
            bytes_cut: payload.map_or(0, <[u8]>::len) - kept.map_or(0, <[u8]>::len),
            payload: kept.map(<[u8]>::to_vec),
        }
    }
}
