//! The topics: created if they are missing, and checked each time before they are used. The only
//! change to an existing topic is that partitions are added.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use worker_cli::KafkaArgs;

use super::client_config::admin_config;
use super::client_context::LastError;

/// Time-out of one request to the brokers. A request can block a thread for this long, and with it
/// the end of the process.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Topics must keep messages at least this long: a run may wait for its mail server overnight.
const MIN_RETENTION_MS: i64 = 24 * 3_600_000;

/// Why the topics cannot be used. Trying again helps, at the latest when somebody has done what the
/// error says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    #[error("cannot {operation} at {brokers}")]
    Unavailable { operation: String, brokers: String, source: Box<KafkaError> },
    #[error(
        "the brokers do not create topic {topic} with {partitions} partitions and {replication} replicas: {code}"
    )]
    NotCreated { topic: String, partitions: i32, replication: i32, code: RDKafkaErrorCode },
    #[error("the brokers do not add partitions to topic {topic}, which has {found} of {wanted}: {code}")]
    PartitionsNotAdded { topic: String, found: usize, wanted: i32, code: RDKafkaErrorCode },
    #[error(
        "topic {topic} keeps messages for only {hours} h, and a run may take longer: set its retention.ms to 86400000 or more"
    )]
    Retention { topic: String, hours: i64 },
}

/// Both topics, and a client for them.
pub(crate) struct Topics {
    admin: Arc<AdminClient<LastError>>,
    kafka: KafkaArgs,
}

impl Topics {
    /// # Errors
    /// The client library does not accept the addresses.
    pub(crate) fn new(kafka: &KafkaArgs) -> Result<Self, KafkaError> {
        let admin = admin_config(kafka).create_with_context(LastError::default())?;
        Ok(Self { admin: Arc::new(admin), kafka: kafka.clone() })
    }

    /// Creates the topics that are missing, adds partitions that are missing, and checks the
    /// retention.
    ///
    /// # Errors
    /// See [`TopicError`].
    pub(crate) async fn ensure(&self) -> Result<(), TopicError> {
        let wanted = [self.kafka.topic.as_str(), self.kafka.dlq_topic.as_str()];
        let found = self.partitions().await?;
        for topic in wanted {
            match found.iter().find(|(name, _)| name == topic) {
                None => self.create(topic).await?,
                Some((_, partitions)) => self.add_partitions(topic, *partitions).await?,
            }
        }
        self.check_retention(&wanted).await
    }

    /// How many partitions each topic has. Asks for all topics, because asking for a single one can
    /// create it.
    async fn partitions(&self) -> Result<Vec<(String, usize)>, TopicError> {
        const OPERATION: &str = "read the list of topics";
        let admin = Arc::clone(&self.admin);
        let asked = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(None, REQUEST_TIMEOUT)?;
            let existing = metadata.topics().iter().filter(|topic| topic.error().is_none());
            Ok(existing.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
        });
        let asked = asked.await.unwrap_or(Err(KafkaError::Canceled));
        asked.map_err(|source| self.unavailable(OPERATION.to_owned(), source))
    }

    async fn create(&self, topic: &str) -> Result<(), TopicError> {
        let KafkaArgs { partitions, replication, retention_hours, .. } = self.kafka;
        let retention = (retention_hours * 3_600_000).to_string();
        let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication))
            .set("retention.ms", &retention)
            .set("cleanup.policy", "delete");
        let made = self.admin.create_topics([&wanted], &admin_options()).await;
        match self.only(format!("create topic {topic}"), made)? {
            Ok(_) => tracing::info!(topic, partitions, replication, retention_hours, "created the topic"),
            // Another process has just created it.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => {
                return Err(TopicError::NotCreated {
                    topic: topic.to_owned(),
                    partitions,
                    replication,
                    code,
                });
            }
        }
        Ok(())
    }

    async fn add_partitions(&self, topic: &str, found: usize) -> Result<(), TopicError> {
        let wanted = self.kafka.partitions;
        let Some(more) = usize::try_from(wanted).ok().filter(|wanted| *wanted > found) else { return Ok(()) };
        let made = self.admin.create_partitions([&NewPartitions::new(topic, more)], &admin_options()).await;
        match self.only(format!("add partitions to topic {topic}"), made)? {
            Ok(_) => tracing::warn!(topic, found, wanted, "added partitions to the topic"),
            // Another process has added them, or is adding them.
            Err((_, RDKafkaErrorCode::InvalidPartitions | RDKafkaErrorCode::ReassignmentInProgress)) => {}
            Err((_, code)) => {
                return Err(TopicError::PartitionsNotAdded { topic: topic.to_owned(), found, wanted, code });
            }
        }
        Ok(())
    }

    async fn check_retention(&self, topics: &[&str]) -> Result<(), TopicError> {
        const OPERATION: &str = "read the retention of the topics";
        let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let configured = self.admin.describe_configs(&asked, &admin_options()).await;
        let configured = configured.map_err(|source| self.unavailable(OPERATION.to_owned(), source))?;
        for (topic, configured) in topics.iter().zip(configured) {
            // Without the permission to read it, the retention is not checked.
            let Ok(configured) = configured else { continue };
            let retention = configured.get("retention.ms").and_then(|entry| entry.value.as_deref());
            let Some(retention) = retention.and_then(|value| value.parse::<i64>().ok()) else { continue };
            if (0..MIN_RETENTION_MS).contains(&retention) {
                return Err(TopicError::Retention {
                    topic: (*topic).to_owned(),
                    hours: retention / 3_600_000,
                });
            }
        }
        Ok(())
    }

    /// The result of a request about one topic.
    fn only<T>(&self, operation: String, asked: Result<Vec<T>, KafkaError>) -> Result<T, TopicError> {
        let mut answers = asked.map_err(|source| self.unavailable(operation.clone(), source))?;
        answers.pop().ok_or_else(|| self.unavailable(operation, KafkaError::Canceled))
    }

    fn unavailable(&self, operation: String, source: KafkaError) -> TopicError {
        TopicError::Unavailable { operation, brokers: self.kafka.brokers.clone(), source: Box::new(source) }
    }
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}
