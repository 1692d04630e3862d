//! The states of a run.

use crate::error::StoreError;

/// The state of a run. Only an open run sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotificationState {
    Open,
    Suspended,
    Finished,
    Cancelled,
    Failed,
}

impl NotificationState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Suspended => "SUSPENDED",
            Self::Finished => "FINISHED",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Open, Self::Suspended, Self::Finished, Self::Cancelled, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StoreError::unreadable("notification.state", text))
    }

    /// The run has ended, and nothing more is sent for it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled | Self::Failed)
    }
}
