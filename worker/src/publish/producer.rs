//! The Kafka producer: idempotent, acknowledged by all replicas, with a thread of its own for the
//! delivery reports. Counts the reports by page: nothing is awaited or allocated for a single
//! message.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::notification_message::NotificationMessageWriter;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use store::notification::BillKey;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use worker_cli::KafkaArgs;

use crate::kafka::{LastError, log, producer_config, reason};

/// How long to wait for room when the client's queue is full.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(10);

/// The delivery reports of a page's messages.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) messages: usize,
    unreported: AtomicUsize,
    failure: Mutex<Option<KafkaError>>,
    complete: Notify,
}

impl Page {
    fn of(messages: usize) -> Arc<Self> {
        let failure = Mutex::new(None);
        Arc::new(Self { messages, unreported: AtomicUsize::new(messages), failure, complete: Notify::new() })
    }

    fn report(&self, failure: Option<KafkaError>) {
        if let Some(failure) = failure {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
        if self.unreported.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete.notify_one();
        }
    }

    /// Waits for the last report.
    ///
    /// # Errors
    /// The first delivery that failed.
    pub(super) async fn delivered(&self) -> KafkaResult<()> {
        while self.unreported.load(Ordering::Acquire) > 0 {
            self.complete.notified().await;
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// The client's callbacks.
#[derive(Debug, Default)]
struct Reports {
    last_error: LastError,
    acknowledged: AtomicU64,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, said: &str) {
        self.last_error.set(reason(&error, said));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Page>;

    fn delivery(&self, result: &DeliveryResult<'_>, page: Arc<Page>) {
        let failure = result.as_ref().err().map(|(error, _)| error.clone());
        if failure.is_none() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        page.report(failure);
    }
}

/// Writes to one topic.
#[derive(Clone)]
pub(super) struct Producer {
    client: ThreadedProducer<Reports>,
    topic: Arc<str>,
}

impl Producer {
    /// # Errors
    /// The client library does not accept the options.
    pub(super) fn new(options: &KafkaArgs) -> KafkaResult<Self> {
        let client = producer_config(options).create_with_context(Reports::default())?;
        Ok(Self { client, topic: options.topic.as_str().into() })
    }

    /// Gives all messages of a page to the client. Blocks while its queue is full, so it needs a
    /// thread that may block.
    ///
    /// # Errors
    /// The client accepts no more messages, or `stop` was cancelled while its queue was full.
    pub(super) fn send(
        &self,
        writer: &mut NotificationMessageWriter,
        keys: &[BillKey],
        stop: &CancellationToken,
    ) -> KafkaResult<Arc<Page>> {
        let page = Page::of(keys.len());
        for bill in keys {
            let (key, payload) = writer.message(bill.member, bill.revision);
            let mut record =
                BaseRecord::with_opaque_to(&self.topic, Arc::clone(&page)).key(key).payload(payload);
            while let Err((error, refused)) = self.client.send(record) {
                let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                if !full || stop.is_cancelled() {
                    return Err(error);
                }
                self.client.poll(QUEUE_FULL_WAIT);
                record = refused;
            }
        }
        Ok(page)
    }

    /// Messages acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.client.client().context().acknowledged.load(Ordering::Relaxed)
    }

    /// The client's last error.
    pub(super) fn last_error(&self) -> Option<String> {
        self.client.client().context().last_error.last()
    }

    /// Discards what is not acknowledged, so that dropping the producer does not wait for it.
    pub(super) fn purge(&self) {
        self.client.purge(PurgeConfig::default().queue().inflight());
    }
}
