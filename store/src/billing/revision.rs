//! What identifies a revision, and its states.

use domain::ids::Revision;
use domain::month::BillingMonth;
use sqlx::types::Uuid;

use crate::error::StoreError;

/// A revision of a month and the run that holds it. Every write names all four, so that no run
/// writes for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionKey {
    pub month: BillingMonth,
    pub revision: Revision,
    pub run_uid: Uuid,
    /// The fence of the month's lock when the run took it. A later holder has a higher one.
    pub fence: i64,
}

/// The state of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionState {
    Draft,
    Live,
    Rejected,
    RolledBack,
}

impl RevisionState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::Live => "LIVE",
            Self::Rejected => "REJECTED",
            Self::RolledBack => "ROLLED_BACK",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Draft, Self::Live, Self::Rejected, Self::RolledBack]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StoreError::unreadable("revision.state", text))
    }
}
