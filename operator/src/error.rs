//! The errors of the reconcile loop: each names the operation and the object, and has a class for
//! metrics.

use std::time::Duration;

use logging::chain;
use store::billing::BillingError;
use store::error::{DatabaseError, StoreError};
use store::notification::NotificationError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot {operation}")]
    Kubernetes { operation: String, source: kube::Error },
    #[error("cannot {operation}")]
    Billing { operation: String, source: BillingError },
    #[error("cannot {operation}")]
    Notification { operation: String, source: NotificationError },
    #[error("cannot {operation}")]
    Store { operation: String, source: StoreError },
    /// Names its operation itself.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot {operation} within {} s", limit.as_secs())]
    TimedOut { operation: String, limit: Duration },
    #[error("cannot {operation}: it was changed since it was read")]
    Outdated { operation: String },
    #[error("cannot {operation}: the patch is invalid")]
    Patch { operation: String, source: serde_json::Error },
    #[error("a {0} has no {1}, which the API server sets on every object")]
    Incomplete(&'static str, &'static str),
}

/// The class of an error. A closed set, as metrics are labelled with it.
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
            // Somebody else changed the object since it was read.
            Self::Kubernetes { source: kube::Error::Api(answer), .. } if answer.code == 409 => {
                ErrorClass::Conflict
            }
            Self::Outdated { .. } => ErrorClass::Conflict,
            Self::Kubernetes { .. } | Self::TimedOut { .. } => ErrorClass::Kubernetes,
            Self::Billing { .. } | Self::Notification { .. } | Self::Store { .. } | Self::Database(_) => {
                ErrorClass::Database
            }
            Self::Incomplete(..) | Self::Patch { .. } => ErrorClass::Internal,
        }
    }

    /// Whether the API server, a quota or an admission policy refused the request, so that the same
    /// request is refused again until somebody changes something.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Kubernetes { source: kube::Error::Api(answer), .. } => {
                matches!(answer.code, 400..=403 | 405..=407 | 412..=428)
            }
            _ => false,
        }
    }

    /// The error with its causes, for a condition: of the API server's answer, its message only.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Kubernetes { operation, source: kube::Error::Api(answer) }
                if !answer.message.is_empty() =>
            {
                format!("cannot {operation}: {}", answer.message)
            }
            error => chain(error),
        }
    }
}

/// Adds the operation that failed to an error.
pub(crate) trait Doing<T> {
    /// `operation` completes the sentence "cannot …", and names the object.
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError>;
}

impl<T> Doing<T> for Result<T, kube::Error> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError> {
        self.map_err(|source| RunError::Kubernetes { operation: operation(), source })
    }
}

impl<T> Doing<T> for Result<T, StoreError> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError> {
        self.map_err(|source| RunError::Store { operation: operation(), source })
    }
}

impl<T> Doing<T> for Result<T, BillingError> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError> {
        self.map_err(|source| RunError::Billing { operation: operation(), source })
    }
}

impl<T> Doing<T> for Result<T, NotificationError> {
    fn doing(self, operation: impl FnOnce() -> String) -> Result<T, RunError> {
        self.map_err(|source| RunError::Notification { operation: operation(), source })
    }
}
