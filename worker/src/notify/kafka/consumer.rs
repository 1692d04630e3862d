//! The consumer from start to stop: one client of the group after another, each with its poll loop.
//!
//! It never gives up: it waits for brokers that are down, creates a topic that is missing, and
//! starts at the beginning when offsets were deleted. A message may therefore come twice, which is
//! harmless: the database decides what is sent.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use worker_cli::KafkaArgs;

use super::dead_letter::DeadLetterPublisher;
use super::group_client::GroupClient;
use super::poll_loop::{PollLoop, PollLoopConfig, PollLoopEnd};
use super::topic_ensurer::TopicEnsurer;
use crate::kafka::Topics;
use crate::notify::pipeline::Intake;
use crate::shutdown::stopped_within;

/// Between the end of one client and the start of the next.
const RECREATE_DELAY: Duration = Duration::from_secs(1);

/// The configuration of a consumer.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerConfig {
    pub(crate) kafka: KafkaArgs,
    /// Messages in one batch, at most.
    pub(crate) max_batch: usize,
    /// How long unfinished batches are waited for after the stop.
    pub(crate) drain_timeout: Duration,
}

/// Consumes until `stop` is cancelled, and then until the unfinished batches are done, within the
/// drain timeout.
///
/// # Errors
/// The client library rejects the options. Nothing else ends it.
pub(crate) async fn consume(
    config: &ConsumerConfig,
    intake: &Intake,
    stop: &CancellationToken,
) -> Result<(), KafkaError> {
    let ConsumerConfig { kafka, max_batch, drain_timeout } = config;
    let topic_missing = Arc::new(Notify::new());
    let dead_letters = DeadLetterPublisher::new(kafka, Arc::clone(&topic_missing))?;
    let mut ensurer = TopicEnsurer::start(Topics::new(kafka)?, topic_missing);
    // Subscribing to a missing topic takes longer than creating it first.
    tokio::select! {
        () = ensurer.first_check() => {}
        () = stop.cancelled() => return Ok(()),
    }
    loop {
        let client = GroupClient::new(kafka)?;
        let poll_loop = PollLoop::new(PollLoopConfig {
            kafka,
            max_batch: *max_batch,
            drain_timeout: *drain_timeout,
            client: &client,
            intake,
            dead_letters: &dead_letters,
            topic_missing: ensurer.topic_missing(),
        });
        let end = poll_loop.run(stop).await;
        client.leave().await;
        match end {
            PollLoopEnd::Stopped => return Ok(()),
            PollLoopEnd::Fatal(error) => {
                tracing::warn!("the Kafka consumer cannot go on and is recreated: {error}");
            }
            PollLoopEnd::Stalled => {
                tracing::warn!(
                    "the Kafka consumer receives none of the messages on the topic and is recreated"
                );
            }
        }
        if stopped_within(RECREATE_DELAY, stop).await {
            return Ok(());
        }
    }
}
