//! The actions on billing runs that a decision can name.

use std::fmt;

use api::BillingRunStatus;
use domain::ids::{LoadNumber, Revision};
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use store::billing::{AfterSent, EndStatus, RevisionKey, RunSnapshot, Scope, ScopeKind};

use crate::controller::decision::Decision;
use crate::controller::worker_job::JobAction;

pub(super) type BillingDecision = Decision<BillingRunStatus, Action>;

#[derive(Clone, PartialEq)]
pub(crate) enum Action {
    /// Lock the month and plan its next revision.
    Begin(Box<BeginPlan>),
    Job(JobAction),
    Verify(RevisionKey),
    Issue {
        key: RevisionKey,
        approved_by: Option<String>,
    },
    Reject {
        key: RevisionKey,
        reason: String,
        ending: EndStatus,
    },
    RollBack(RollbackPlan),
}

/// What a run begins with.
#[derive(Clone, PartialEq)]
pub(crate) struct BeginPlan {
    pub(super) month: BillingMonth,
    pub(super) price_book: PriceBook,
    /// The text that the price book was parsed from.
    pub(super) price_book_text: String,
    pub(super) data_cutoff: Option<LoadNumber>,
    /// None: the month's first billing.
    pub(super) rebill: Option<RebillPlan>,
}

/// The live revision to bill again, why, for whom, and what happens to bills that were sent.
#[derive(Clone, PartialEq)]
pub(crate) struct RebillPlan {
    pub(super) of_revision: Revision,
    pub(super) reason: String,
    pub(super) scope: Scope,
    pub(super) after_sent: AfterSent,
}

/// What a rollback takes back.
#[derive(Clone, PartialEq)]
pub(crate) struct RollbackPlan {
    pub(super) month: BillingMonth,
    pub(super) revision: Revision,
    pub(super) reason: String,
}

impl Action {
    /// Rejects a draft. `code` is one of `api::reasons`; the database keeps it at the start of the
    /// reason.
    pub(super) fn reject(draft: &RunSnapshot, code: &str, message: &str, ending: EndStatus) -> Self {
        Self::Reject { key: draft.key.clone(), reason: format!("{code}: {message}"), ending }
    }
}

impl fmt::Debug for Action {
    /// One line for the log, instead of a whole price book.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(plan) => match &plan.rebill {
                None => write!(f, "Begin(month {})", plan.month),
                Some(rebill) => {
                    write!(f, "Begin(month {}, over revision {}", plan.month, rebill.of_revision)?;
                    if rebill.after_sent == AfterSent::Adjust {
                        f.write_str(", adjusting")?;
                    }
                    match rebill.scope.kind() {
                        ScopeKind::Everyone => f.write_str(")"),
                        scope => write!(f, ", {scope})"),
                    }
                }
            },
            Self::Job(action) => action.fmt(f),
            Self::Verify(key) => write!(f, "Verify(revision {})", key.revision),
            Self::Issue { key, .. } => write!(f, "Issue(revision {})", key.revision),
            Self::Reject { key, reason, .. } => write!(f, "Reject(revision {}: {reason})", key.revision),
            Self::RollBack(plan) => write!(f, "RollBack(revision {} of {})", plan.revision, plan.month),
        }
    }
}
