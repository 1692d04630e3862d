//! The publishing pipeline: while one page of targets is read, the one before it is given to the
//! Kafka client, and the ones before that wait for their delivery reports. The checkpoint moves
//! past a page when each of its messages is acknowledged. Ends when Kafka fails; creates no topics
//! and repeats nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::MemberId;
use domain::notification_message::NotificationMessageWriter;
use rdkafka::error::{KafkaError, KafkaResult};
use secrecy::SecretString;
use sqlx::PgConnection;
use store::migrate;
use store::notification::{self, BillKey, NotificationState, Publication, RunFacts};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use worker_cli::PublishArgs;

use super::page_reader::PageReader;
use super::producer::{Page, Producer};
use super::publish_error::PublishError;
use super::wait_reporter::WaitReporter;
use crate::database_retry::DatabaseRetryPolicy;
use crate::kafka::is_topic_missing;

/// Pages that wait for delivery reports at the same time: together fewer messages than the client's
/// queue holds.
const PAGES_IN_FLIGHT: usize = 6;
/// Time between two looks whether any message was acknowledged.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// After this long without an acknowledgement, the run says that it waits for Kafka.
const REPORT_WAIT_AFTER: Duration = Duration::from_secs(3);

/// How a pipeline ends that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PipelineEnd {
    /// Every message is acknowledged.
    Complete,
    Stopped,
    Suspended,
    /// The run has ended.
    RunOver,
}

/// A page whose messages the client has.
struct PageInFlight {
    page: Arc<Page>,
    /// Id of the last member before the page.
    from: i64,
    /// The page's last member.
    to: MemberId,
}

/// A thread that gives a page to the client; it returns the writer for the next page.
type Producing = JoinHandle<(NotificationMessageWriter, Result<PageInFlight, PublishError>)>;

/// What one run of the pipeline works with.
pub(super) struct Pipeline<'a> {
    pub(super) args: &'a PublishArgs,
    pub(super) run: &'a RunFacts,
    pub(super) policy: DatabaseRetryPolicy,
    pub(super) connection: &'a mut PgConnection,
    pub(super) waits: &'a mut WaitReporter,
    pub(super) stop: &'a CancellationToken,
}

impl Pipeline<'_> {
    /// Publishes the targets after the publication's checkpoint that are open. The client forgets
    /// the messages that are not acknowledged when it ends.
    ///
    /// # Errors
    /// Kafka or the database fails.
    pub(super) async fn run(
        mut self,
        database: &SecretString,
        publication: &Publication,
    ) -> Result<PipelineEnd, PublishError> {
        let reader = PageReader::start(database, self.policy, self.run, publication.published_to);
        let producer = Producer::new(&self.args.kafka)?;
        let ended = self.run_with(&producer, reader, publication).await;
        producer.purge();
        // Dropping the client joins its thread, which blocks.
        tokio::task::spawn_blocking(move || drop(producer)).await?;
        ended
    }

    async fn run_with(
        &mut self,
        producer: &Producer,
        mut reader: PageReader,
        publication: &Publication,
    ) -> Result<PipelineEnd, PublishError> {
        let mut wait_is_stored = publication.waiting.is_some();
        let mut progress = (producer.acknowledged(), Instant::now());
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut writer = Some(NotificationMessageWriter::new(self.run.month, &self.run.run));
        let mut producing: Option<Producing> = None;
        let mut in_flight: VecDeque<PageInFlight> = VecDeque::with_capacity(PAGES_IN_FLIGHT);
        let mut read_to = publication.published_to;
        let mut all_read = false;
        // Stops the producing thread when this function ends.
        let stop = self.stop.child_token();
        let _stop_on_drop = stop.clone().drop_guard();
        loop {
            if all_read && producing.is_none() && in_flight.is_empty() {
                if wait_is_stored {
                    self.waits.clear(self.connection, self.run.id).await?;
                }
                return Ok(PipelineEnd::Complete);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(PipelineEnd::Stopped),
                delivered = delivered(in_flight.front()), if !in_flight.is_empty() => {
                    delivered.map_err(|error| self.delivery_failure(&error))?;
                    let Some(done) = in_flight.pop_front() else { continue };
                    let state = self.checkpoint(&done).await?;
                    self.waits.record_success();
                    if let Some(ended) = ended_by(state) {
                        return Ok(ended);
                    }
                }
                produced = joined(producing.as_mut()), if producing.is_some() => {
                    producing = None;
                    let (own_writer, page) = produced?;
                    writer = Some(own_writer);
                    in_flight.push_back(page?);
                }
                page = reader.next(),
                    if !all_read && producing.is_none() && in_flight.len() < PAGES_IN_FLIGHT =>
                {
                    let Some(page) = page? else {
                        all_read = true;
                        continue;
                    };
                    let (Some(last), Some(own_writer)) = (page.last(), writer.take()) else { continue };
                    let (from, to) = (read_to, last.member);
                    read_to = to.get();
                    producing = Some(produce(producer, own_writer, page, from, to, stop.clone()));
                }
                _ = ticks.tick() => {
                    let acknowledged = producer.acknowledged();
                    let idle = producing.is_none() && in_flight.is_empty();
                    if acknowledged != progress.0 || idle {
                        progress = (acknowledged, Instant::now());
                        if wait_is_stored {
                            self.waits.clear(self.connection, self.run.id).await?;
                            wait_is_stored = false;
                            tracing::info!("Kafka acknowledges messages again");
                        }
                    } else if progress.1.elapsed() > REPORT_WAIT_AFTER {
                        let text = self.no_acknowledgement(producer.last_error());
                        let state = self.waits.report(self.connection, self.run.id, &text).await?;
                        wait_is_stored = true;
                        if let Some(ended) = ended_by(state) {
                            return Ok(ended);
                        }
                        progress.1 = Instant::now();
                    }
                }
            }
        }
    }

    /// Fails if the database was migrated since the last page.
    async fn checkpoint(&mut self, done: &PageInFlight) -> Result<NotificationState, PublishError> {
        let PageInFlight { page, from, to } = done;
        let messages = i64::try_from(page.messages).unwrap_or(i64::MAX);
        let (id, round, policy) = (self.run.id, self.args.round, self.policy);
        let checkpoint = async {
            migrate::check_version(self.connection).await?;
            notification::save_checkpoint(self.connection, id, round, *from, *to, messages).await
        };
        Ok(policy.within_timeout(checkpoint).await?)
    }

    fn no_acknowledgement(&self, last_error: Option<String>) -> String {
        let why = last_error.map(|text| format!(": {text}")).unwrap_or_default();
        format!("Kafka at {} does not acknowledge messages{why}", self.args.kafka.brokers)
    }

    fn delivery_failure(&self, error: &KafkaError) -> PublishError {
        let topic = &self.args.kafka.topic;
        PublishError::KafkaUnavailable(if is_topic_missing(error) {
            format!("topic {topic} does not exist any more; creating it again")
        } else {
            format!(
                "Kafka at {} does not accept messages for topic {topic}: {error}",
                self.args.kafka.brokers
            )
        })
    }
}

fn ended_by(state: NotificationState) -> Option<PipelineEnd> {
    match state {
        NotificationState::Open => None,
        NotificationState::Suspended => Some(PipelineEnd::Suspended),
        NotificationState::Finished | NotificationState::Cancelled | NotificationState::Failed => {
            Some(PipelineEnd::RunOver)
        }
    }
}

async fn delivered(front: Option<&PageInFlight>) -> KafkaResult<()> {
    match front {
        Some(in_flight) => in_flight.page.delivered().await,
        None => std::future::pending().await,
    }
}

async fn joined<T>(task: Option<&mut JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// Gives a page to the client, on a thread that may block.
fn produce(
    producer: &Producer,
    mut writer: NotificationMessageWriter,
    page: Vec<BillKey>,
    from: i64,
    to: MemberId,
    stop: CancellationToken,
) -> Producing {
    let producer = producer.clone();
    tokio::task::spawn_blocking(move || {
        let sent = producer.send(&mut writer, &page, &stop).map(|page| PageInFlight { page, from, to });
        let sent = sent.map_err(|error| {
            PublishError::KafkaUnavailable(format!("the Kafka client accepts no messages: {error}"))
        });
        (writer, sent)
    })
}
