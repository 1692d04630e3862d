//! Why a publication could not continue.

use rdkafka::error::KafkaError;
use store::error::{DatabaseError, StoreError};
use store::notification::NotificationError;
use tokio::task::JoinError;

use crate::database_retry::Retryable;

/// Why the publisher has to start again, or cannot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error(transparent)]
    Notification(#[from] NotificationError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka or its topics are unavailable. The run's status shows this text.
    #[error("{0}")]
    KafkaUnavailable(String),
    #[error("the Kafka client library does not accept the options")]
    KafkaOptions(#[from] KafkaError),
    #[error("a task of the publisher ended unexpectedly")]
    TaskFailed(#[from] JoinError),
}

impl From<DatabaseError> for PublishError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

impl PublishError {
    /// Whether the database has another schema version than this program.
    pub(super) fn is_other_schema(&self) -> bool {
        match self {
            Self::Notification(error) => error.is_other_schema(),
            Self::Store(error) => error.is_other_schema(),
            Self::KafkaUnavailable(_) | Self::KafkaOptions(_) | Self::TaskFailed(_) => false,
        }
    }
}

impl Retryable for PublishError {
    fn is_transient(&self) -> bool {
        match self {
            // Another publisher was faster; the next attempt reads what is left to do.
            Self::Notification(NotificationError::Overtaken { .. }) => true,
            Self::Notification(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::KafkaUnavailable(_) => true,
            Self::KafkaOptions(_) | Self::TaskFailed(_) => false,
        }
    }
}
