//! Why an operation on a revision was not carried out.

use domain::ids::Revision;
use domain::month::BillingMonth;
use sqlx::types::Uuid;

use super::revision::{RevisionKey, RevisionState};
use crate::error::{DatabaseError, StoreError};

/// Why an operation on a revision was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("fenced: month {month} is no longer held by run {run_uid} with fence {fence}")]
    Fenced { month: BillingMonth, run_uid: Uuid, fence: i64 },
    #[error("month {month} has no revision {revision} of run {run_uid}")]
    NoSuchRevision { month: BillingMonth, revision: Revision, run_uid: Uuid },
    #[error("revision {revision} of month {month} is {}, so it cannot be {wanted}", state.as_str())]
    WrongState { month: BillingMonth, revision: Revision, state: RevisionState, wanted: &'static str },
    #[error("revision {revision} of month {month} cannot be {wanted}: {pending} of its chunks are not done")]
    ChunksPending { month: BillingMonth, revision: Revision, pending: i64, wanted: &'static str },
    #[error("revision {revision} of month {month} cannot be issued: {why}")]
    NotVerified { month: BillingMonth, revision: Revision, why: String },
    #[error(
        "revision {revision} of month {month} cannot be issued: it was made over {}, and the highest live revision is {}",
        number(*over), number(*live)
    )]
    NotOverLiveRevision {
        month: BillingMonth,
        revision: Revision,
        /// The revision that it bills again.
        over: Option<Revision>,
        live: Option<Revision>,
    },
    #[error(
        "revision {revision} of month {month} cannot be issued: it posts differences, and every later month is live or being billed"
    )]
    NoLaterMonth { month: BillingMonth, revision: Revision },
}

fn number(revision: Option<Revision>) -> String {
    revision.map_or_else(|| "none".to_owned(), |revision| revision.to_string())
}

impl BillingError {
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

    pub(super) fn fenced(key: &RevisionKey) -> Self {
        Self::Fenced { month: key.month, run_uid: key.run_uid, fence: key.fence }
    }

    pub(super) fn no_such_revision(key: &RevisionKey) -> Self {
        Self::NoSuchRevision { month: key.month, revision: key.revision, run_uid: key.run_uid }
    }

    pub(super) fn wrong_state(key: &RevisionKey, state: RevisionState, wanted: &'static str) -> Self {
        Self::WrongState { month: key.month, revision: key.revision, state, wanted }
    }
}

impl From<DatabaseError> for BillingError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}
