//! What is to be checked, and the results: the types that the checks share.

use domain::month::BillingMonth;
use domain::price_book::PriceBookError;
use sqlx::types::Uuid;

use crate::error::DatabaseError;

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct VerificationRequest<'a> {
    pub month: BillingMonth,
    /// The uids of the runs that have not ended. None: every run that is unfinished in the tables
    /// may still go on.
    pub active: Option<&'a [Uuid]>,
    /// The ids of the existing keys. None: whether the key of an envelope exists is not checked.
    pub keys: Option<&'a [String]>,
    /// The Message-ID of every email that arrived, once for each time. None: arrivals are not
    /// checked.
    pub sink: Option<&'a [String]>,
}

/// The result of checking one invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvariantResult {
    /// Short and stable, to search for.
    pub name: &'static str,
    /// The invariant as a sentence.
    pub description: &'static str,
    /// At most [`MAX_VIOLATIONS`]; empty if the invariant holds.
    pub violations: Vec<String>,
}

/// At most so many violations of one invariant are reported.
pub const MAX_VIOLATIONS: usize = 20;
/// The same, for the statements.
pub(super) const LIMIT: i64 = 20;

/// Why a month could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the price book that revision {revision} of month {month} was billed with cannot be read")]
    PriceBook { month: BillingMonth, revision: i32, source: PriceBookError },
}
