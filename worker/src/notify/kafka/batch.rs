//! What is gathered before it goes to the engine: messages that can be read, and those that can't, for the dead letters.

use std::time::Duration;

use domain::notification_message::NotificationMessage;
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use tokio::time::Instant;

use super::offset_tracker::BatchNo;

/// How long the first message of a batch waits for others.
const GATHERING: Duration = Duration::from_millis(50);
/// A notice never has as much; of what has more, this much is kept.
const KEPT_OF_A_DEAD_LETTER: usize = 64 * 1024;

/// A message as it came.
#[derive(Debug, Clone)]
pub(super) struct Original {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Option<Vec<u8>>,
    /// Bytes of the payload that are not kept.
    pub(super) cut: usize,
}

/// A message that can't be used, and why.
#[derive(Debug)]
pub(super) struct DeadLetter {
    pub(super) original: Original,
    pub(super) reason: String,
}

/// Messages that end together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: BatchNo,
    pub(super) messages: Vec<NotificationMessage>,
    /// In the order of `messages`.
    pub(super) originals: Vec<Original>,
    pub(super) dead: Vec<DeadLetter>,
    /// When to wait no longer for more; none while it is empty.
    pub(super) due: Option<Instant>,
}

impl Batch {
    pub(super) fn new(number: BatchNo, size: usize) -> Self {
        let (messages, originals) = (Vec::with_capacity(size), Vec::with_capacity(size));
        Self { number, messages, originals, dead: Vec::new(), due: None }
    }

    pub(super) fn add(&mut self, message: &BorrowedMessage<'_>) {
        self.due.get_or_insert_with(|| Instant::now() + GATHERING);
        let original = Original::of(message);
        match NotificationMessage::parse(message.payload().unwrap_or_default()) {
            Ok(notice) => {
                self.messages.push(notice);
                self.originals.push(original);
            }
            Err(unusable) => self.dead.push(DeadLetter { original, reason: unusable.to_string() }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len() + self.dead.len()
    }

    /// Makes dead letters of messages that turned out to be of no use, by their place.
    pub(super) fn bury(&mut self, unusable: Vec<(usize, String)>) {
        for (place, reason) in unusable {
            if let Some(original) = self.originals.get(place) {
                self.dead.push(DeadLetter { original: original.clone(), reason });
            }
        }
    }
}

impl Original {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let payload = message.payload();
        let kept = payload.map(|payload| &payload[..payload.len().min(KEPT_OF_A_DEAD_LETTER)]);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(|key| key[..key.len().min(KEPT_OF_A_DEAD_LETTER)].to_vec()),
            cut: payload.map_or(0, <[u8]>::len) - kept.map_or(0, <[u8]>::len),
            payload: kept.map(<[u8]>::to_vec),
        }
    }
}
