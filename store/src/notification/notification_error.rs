//! Why an operation on notifications was not carried out.

use super::notification_state::NotificationState;
use crate::error::{DatabaseError, StoreError};

/// Why an operation on notifications was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotificationError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("notification {0} is not in the database")]
    NoSuchRun(String),
    #[error("the database does not have {0}")]
    NotKept(String),
    #[error("notification {id} is {}, so it cannot be {wanted}", state.as_str())]
    WrongState { id: i64, state: NotificationState, wanted: &'static str },
    #[error("publication {round} of notification {id} was continued by another publisher, or is done")]
    Overtaken { id: i64, round: i32 },
}

impl NotificationError {
    /// Whether the same operation may succeed later; see [`DatabaseError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// Whether the database has another schema version than this program.
    #[must_use]
    pub fn is_other_schema(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_other_schema())
    }
}

impl From<DatabaseError> for NotificationError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}
