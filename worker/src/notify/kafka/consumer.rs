//! The Kafka side of `monthend notify`: takes messages off the topic in batches, hands them to the engine and commits an
//! offset once everything up to it has ended. Knows nothing of bills or mail.
//!
//! It never gives up: brokers that are away, a topic that is gone, offsets that were deleted are waited for, or begun again
//! with. What comes twice is harmless, as the database decides what is sent.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use worker_cli::KafkaArgs;

use super::dead_letter::DeadLetters;
use super::group_client::Client;
use super::poll_loop::{Desk, Left};
use super::topic_ensurer::Keeper;
use crate::kafka::Topics;
use crate::notify::pipeline::engine::Intake;
use crate::shutdown::stopped_within;

/// Between the end of a client that can't go on and the beginning of the next.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a consumer works with.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerConfig {
    pub(crate) kafka: KafkaArgs,
    /// Messages that a batch has at most.
    pub(crate) batch: usize,
    /// From the stop on, how long batches in hand are waited for.
    pub(crate) grace: Duration,
}

/// Consumes until `stop` is cancelled, and then until what is in hand has ended, within the grace.
///
/// # Errors
/// The client library refuses the options. Nothing else ends it.
pub(crate) async fn consume(
    config: &ConsumerConfig,
    intake: &Intake,
    stop: &CancellationToken,
) -> Result<(), KafkaError> {
    let topic_away = Arc::new(Notify::new());
    let dead_letters = DeadLetters::new(&config.kafka, Arc::clone(&topic_away))?;
    let mut keeper = Keeper::start(Topics::new(&config.kafka)?, topic_away);
    // Subscribing to a topic that is not there yet takes longer than making it first.
    tokio::select! {
        () = keeper.first_look() => {}
        () = stop.cancelled() => return Ok(()),
    }
    loop {
        let client = Client::new(&config.kafka)?;
        let left = Desk::new(config, &client, intake, &dead_letters, keeper.topic_away()).work(stop).await;
        client.leave().await;
        match left {
            Left::Stopped => return Ok(()),
            Left::Fatal(error) => {
                tracing::warn!("the client can't go on, another takes its place: {error}");
            }
            Left::Still => {
                tracing::warn!(
                    "the client brings none of the messages that there are, another takes its place"
                );
            }
        }
        if stopped_within(AGAIN_AFTER, stop).await {
            return Ok(());
        }
    }
}
