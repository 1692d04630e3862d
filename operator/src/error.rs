//! What can go wrong in the loop, each with the operation and the object, and the class that metrics count it under.

use store::{billing::BillingError, error::StoreError, notification::NotificationError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot {operation}")]
    Kubernetes { operation: String, source: kube::Error },
    #[error("cannot {operation}")]
    Billing { operation: String, source: BillingError },
    #[error("cannot {operation}")]
    Notice { operation: String, source: NotificationError },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0} has no {1}; only objects from the API server are reconciled")]
    Incomplete(String, &'static str),
}

/// Closed set: metrics are labelled with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorClass {
    Conflict,
    Kubernetes,
    Database,
    Internal,
}

impl ErrorClass {
    pub(crate) const ALL: [Self; 4] = [Self::Conflict, Self::Kubernetes, Self::Database, Self::Internal];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Kubernetes => "kubernetes",
            Self::Database => "database",
            Self::Internal => "internal",
        }
    }
}

impl RunError {
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            // Somebody else changed the object in between: look again.
            Self::Kubernetes { source: kube::Error::Api(answer), .. } if answer.code == 409 => {
                ErrorClass::Conflict
            }
            Self::Kubernetes { .. } => ErrorClass::Kubernetes,
            Self::Billing { .. } | Self::Notice { .. } | Self::Store(_) => ErrorClass::Database,
            Self::Incomplete(..) => ErrorClass::Internal,
        }
    }
}

/// Names the operation that failed.
pub(crate) trait Doing<T> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError> {
        self.map_err(|source| RunError::Kubernetes { operation: operation(), source })
    }
}

impl<T> Doing<T> for Result<T, BillingError> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError> {
        self.map_err(|source| RunError::Billing { operation: operation(), source })
    }
}

impl<T> Doing<T> for Result<T, NotificationError> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError> {
        self.map_err(|source| RunError::Notice { operation: operation(), source })
    }
}
