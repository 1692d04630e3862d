//! The topics: made when they are missing, checked each time they are about to be used. Changes nothing of a topic that
//! is there but the number of its partitions, upwards.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use worker_cli::KafkaArgs;

use super::client_config::admin_config;
use super::client_context::LastError;

/// For one question to the brokers. A thread may be held for as long, and the end of the process with it.
const PATIENCE: Duration = Duration::from_secs(5);
/// A run may wait for its mail server overnight.
const SHORTEST_RETENTION_MS: i64 = 24 * 3_600_000;

/// Why the topics are not as they have to be. Each passes by itself, or once somebody has done what it says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    #[error("cannot {operation} at {brokers}")]
    Away { operation: String, brokers: String, source: Box<KafkaError> },
    #[error(
        "the brokers don't make topic {topic} with {replication} copies of {partitions} partitions: {code}"
    )]
    NotMade { topic: String, partitions: i32, replication: i32, code: RDKafkaErrorCode },
    #[error("the brokers don't add partitions to topic {topic}, which has {found} of {wanted}: {code}")]
    NotWidened { topic: String, found: usize, wanted: i32, code: RDKafkaErrorCode },
    #[error(
        "topic {topic} keeps messages for {hours} h only, which a run may outlast: set its retention.ms to 86400000 or more"
    )]
    Retention { topic: String, hours: i64 },
}

/// The topics and the client that asks for them.
pub(crate) struct Topics {
    admin: Arc<AdminClient<LastError>>,
    kafka: KafkaArgs,
}

impl Topics {
    /// # Errors
    /// The client library refuses the addresses.
    pub(crate) fn new(kafka: &KafkaArgs) -> Result<Self, KafkaError> {
        let admin = admin_config(kafka).create_with_context(LastError::default())?;
        Ok(Self { admin: Arc::new(admin), kafka: kafka.clone() })
    }

    /// Makes what is missing and checks what is there.
    ///
    /// # Errors
    /// The brokers can't be asked, or a topic is not as it has to be.
    pub(crate) async fn ensure(&self) -> Result<(), TopicError> {
        let wanted = [self.kafka.topic.as_str(), self.kafka.dlq_topic.as_str()];
        let found = self.partitions().await?;
        for topic in wanted {
            match found.iter().find(|(name, _)| name == topic) {
                None => self.make(topic).await?,
                Some((_, partitions)) => self.widen(topic, *partitions).await?,
            }
        }
        self.check_retention(&wanted).await
    }

    /// How many partitions each topic has. A question for all topics: one for a single topic may make it.
    async fn partitions(&self) -> Result<Vec<(String, usize)>, TopicError> {
        const OPERATION: &str = "ask for the topics";
        let admin = Arc::clone(&self.admin);
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
            let there = metadata.topics().iter().filter(|topic| topic.error().is_none());
            Ok(there.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
        });
        let asked = asked.await.unwrap_or(Err(KafkaError::Canceled));
        asked.map_err(|source| self.away(OPERATION.to_owned(), source))
    }

    async fn make(&self, topic: &str) -> Result<(), TopicError> {
        let KafkaArgs { partitions, replication, retention_hours, .. } = self.kafka;
        let retention = (retention_hours * 3_600_000).to_string();
        let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication))
            .set("retention.ms", &retention)
            .set("cleanup.policy", "delete");
        let made = self.admin.create_topics([&wanted], &patience()).await;
        match self.only(format!("make topic {topic}"), made)? {
            Ok(_) => tracing::info!(topic, partitions, replication, retention_hours, "made the topic"),
            // By another, in this moment.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                return Err(TopicError::NotMade { topic: topic.to_owned(), partitions, replication, code });
            }
        }
        Ok(())
    }

    async fn widen(&self, topic: &str, found: usize) -> Result<(), TopicError> {
        let wanted = self.kafka.partitions;
        let Some(more) = usize::try_from(wanted).ok().filter(|wanted| *wanted > found) else { return Ok(()) };
        let made = self.admin.create_partitions([&NewPartitions::new(topic, more)], &patience()).await;
        match self.only(format!("add partitions to topic {topic}"), made)? {
            Ok(_) => tracing::warn!(topic, found, wanted, "added partitions to the topic"),
            // Another did, or does.
            Err((_, RDKafkaErrorCode::InvalidPartitions | RDKafkaErrorCode::ReassignmentInProgress)) => {}
            Err((_, code)) => {
                return Err(TopicError::NotWidened { topic: topic.to_owned(), found, wanted, code });
            }
        }
        Ok(())
    }

    async fn check_retention(&self, topics: &[&str]) -> Result<(), TopicError> {
        const OPERATION: &str = "ask for the topics' retention";
        let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let configured = self.admin.describe_configs(&asked, &patience()).await;
        let configured = configured.map_err(|source| self.away(OPERATION.to_owned(), source))?;
        for (topic, configured) in topics.iter().zip(configured) {
            // Not being allowed to look is no reason not to send.
            let Ok(configured) = configured else { continue };
            let retention = configured.get("retention.ms").and_then(|entry| entry.value.as_deref());
            let Some(retention) = retention.and_then(|value| value.parse::<i64>().ok()) else { continue };
            if (0..SHORTEST_RETENTION_MS).contains(&retention) {
                return Err(TopicError::Retention {
                    topic: (*topic).to_owned(),
                    hours: retention / 3_600_000,
                });
            }
        }
        Ok(())
    }

    /// The answer to a question that was asked for one topic.
    fn only<T>(&self, operation: String, asked: Result<Vec<T>, KafkaError>) -> Result<T, TopicError> {
        let mut answers = asked.map_err(|source| self.away(operation.clone(), source))?;
        answers.pop().ok_or_else(|| self.away(operation, KafkaError::Canceled))
    }

    fn away(&self, operation: String, source: KafkaError) -> TopicError {
        TopicError::Away { operation, brokers: self.kafka.brokers.clone(), source: Box::new(source) }
    }
}

fn patience() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}
