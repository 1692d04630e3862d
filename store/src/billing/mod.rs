//! Revisions of a month: how one begins, how its chunks are worked off, how it is looked at, checked, issued or
//! rejected. Owns every statement on `month_lock`, `revision`, `chunk`, `bill`, `bill_item` and `quarantined_member`.
//! Decides nothing about runs (the operator does) and prices nothing (`domain` does).
//!
//! Each function that writes is keyed by the run's uid, guarded by the state before it and by the month's fence, and can
//! be repeated: the second time it finds what the first one did.

mod begin;
pub mod chunk;
mod close;
mod observe;
mod verify;

use domain::ids::{LoadNumber, Revision};
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use jiff::Timestamp;
pub use sqlx::types::Uuid;

pub use self::begin::begin_run;
pub use self::close::{issue_revision, reject_revision};
pub use self::observe::{Draft, MonthTotals, observe, read_drafts, read_totals};
pub use self::verify::verify_revision;
use crate::error::DatabaseError;

/// One revision in the hands of one run. Every write names all four, so that nobody writes for another's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionKey {
    pub month: BillingMonth,
    pub revision: Revision,
    pub run_uid: Uuid,
    pub fence: i64,
}

/// What a run asks for when it begins.
#[derive(Debug, Clone)]
pub struct BeginRequest<'a> {
    /// `NAMESPACE/NAME`.
    pub run: &'a str,
    /// `metadata.uid`: a run that is deleted and created again is another run.
    pub run_uid: Uuid,
    pub month: BillingMonth,
    pub price_book: &'a PriceBook,
    /// The text that `price_book` was read from; kept by its digest.
    pub price_book_text: &'a str,
    /// None: the last finished load.
    pub data_cutoff: Option<LoadNumber>,
    /// Eligible members in a chunk, at least 1.
    pub chunk_size: i32,
    /// Completions of the worker Job, at least 1.
    pub shards: i32,
}

/// What became of an attempt to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginResult {
    Started(Started),
    Rejected(Rejection),
}

/// A revision that was planned, now or by an earlier attempt of the same run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub key: RevisionKey,
    pub data_cutoff: LoadNumber,
    pub members: i64,
    pub chunks: i64,
    pub shards: i32,
}

/// Why a run can't begin; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "month {month} is locked by the unfinished run {by}; this run starts when that one has ended or is deleted"
    )]
    MonthLocked { month: BillingMonth, by: String },
    #[error("month {month} is billed already: revision {revision} of run {by} is live")]
    MonthAlreadyBilled { month: BillingMonth, revision: Revision, by: String },
    #[error("no load has finished yet; bring data in with `monthend load FOLDER` or `monthend seed`")]
    NoDataLoaded,
    #[error("dataCutoff {asked} is no finished load; the last finished one is {last}")]
    CutoffUnknown { asked: LoadNumber, last: LoadNumber },
}

/// Where a revision stands in its life.
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

    fn parse(text: &str) -> Result<Self, BillingError> {
        [Self::Draft, Self::Live, Self::Rejected, Self::RolledBack]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| BillingError::stored("revision.state", text))
    }
}

/// Everything about one run, read in one statement, so that it agrees with itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSnapshot {
    pub key: RevisionKey,
    /// `NAMESPACE/NAME`.
    pub run: String,
    pub state: RevisionState,
    /// False once the run was closed, or was fenced out by another holder.
    pub holds_lock: bool,
    pub data_cutoff: LoadNumber,
    pub price_book_version: String,
    pub price_book_sha256: String,
    pub chunk_size: i32,
    pub shards: i32,
    /// Eligible members as counted at planning.
    pub members: i64,
    pub chunks: i64,
    pub chunks_done: i64,
    pub counts: Counts,
    pub amounts: Amounts,
    pub opened_at: Timestamp,
    /// When the first chunk that is done was claimed.
    pub first_claim_at: Option<Timestamp>,
    pub last_done_at: Option<Timestamp>,
    /// Members of the chunks done within the ten seconds before `now`, for a rate that follows.
    pub members_done_recently: i64,
    pub verification: Option<Verification>,
    pub issued_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    pub decided_by: Option<String>,
    pub reason: Option<String>,
    /// The database's clock at this look.
    pub now: Timestamp,
}

impl RunSnapshot {
    /// Every chunk is done, so that the run can be verified.
    #[must_use]
    pub fn all_chunks_done(&self) -> bool {
        self.chunks_done == self.chunks
    }

    /// Members that have an outcome: billed or quarantined.
    #[must_use]
    pub fn members_done(&self) -> i64 {
        self.counts.billed + self.counts.quarantined
    }
}

/// Sums over the chunks that are done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub billed: i64,
    pub quarantined: i64,
    pub items: i64,
    pub rated_usage: i64,
    pub unbillable_usage: i64,
    pub quarantined_usage: i64,
}

/// Totals of a month in minor units; they can pass 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    pub base: i128,
    pub usage: i128,
    /// What was taken off, zero or positive.
    pub discount: i128,
    pub adjustment: i128,
    pub tax: i128,
    pub rounding: i128,
    pub total: i128,
}

/// What verifying a revision found; kept with the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    pub checks: Vec<Check>,
    /// Identifies the draft: SHA-256 over the chunks' digests in order, in hexadecimal.
    pub digest: String,
    /// Usage rows of the month that were loaded after the cut-off.
    pub late_usage: i64,
    pub at: Timestamp,
}

impl Verification {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// One comparison of what is there with what should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    pub check: String,
    pub passed: bool,
    pub detail: String,
}

/// How a run that issues nothing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndStatus {
    /// Somebody deleted it or turned it down.
    Cancelled,
    /// It could not be finished.
    Failed,
}

/// Why something about a revision could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("fenced: month {month} is no longer held by run {run_uid} with fence {fence}")]
    Fenced { month: BillingMonth, run_uid: Uuid, fence: i64 },
    #[error("month {month} has no revision {revision} of run {run_uid}")]
    NoSuchRevision { month: BillingMonth, revision: Revision, run_uid: Uuid },
    #[error("revision {revision} of month {month} is {}, so it cannot be {wanted}", state.as_str())]
    WrongState { month: BillingMonth, revision: Revision, state: RevisionState, wanted: &'static str },
    #[error(
        "revision {revision} of month {month} cannot be {wanted}: {pending} of its chunks are still to be done"
    )]
    ChunksPending { month: BillingMonth, revision: Revision, pending: i64, wanted: &'static str },
    #[error("revision {revision} of month {month} cannot be issued: {why}")]
    NotVerified { month: BillingMonth, revision: Revision, why: String },
    #[error("{place} holds `{value}`, which this version cannot read")]
    Stored { place: &'static str, value: String },
    #[error("{what} touched {rows} rows instead of {expected}; nothing was written")]
    RowsTouched { what: &'static str, rows: u64, expected: u64 },
}

impl BillingError {
    /// Whether trying again later may help; see [`DatabaseError::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_transient())
    }

    fn stored(place: &'static str, value: impl ToString) -> Self {
        Self::Stored { place, value: value.to_string() }
    }

    fn fenced(key: &RevisionKey) -> Self {
        Self::Fenced { month: key.month, run_uid: key.run_uid, fence: key.fence }
    }
}

/// Asserts how many rows a guarded statement touched.
fn touched(what: &'static str, rows: u64, expected: u64) -> Result<(), BillingError> {
    if rows == expected { Ok(()) } else { Err(BillingError::RowsTouched { what, rows, expected }) }
}

/// A number that the schema keeps in range.
fn number<T: TryFrom<i64>>(place: &'static str, value: i64) -> Result<T, BillingError> {
    T::try_from(value).map_err(|_| BillingError::stored(place, value))
}

/// A `numeric` read as text.
fn amount(place: &'static str, text: &str) -> Result<i128, BillingError> {
    text.parse().map_err(|_| BillingError::stored(place, text))
}
