//! Billing runs: what is observed of one, and the actions that a decision can name. Decisions are in [`decide`], made
//! without a client; the database's part is `store::billing`, the cluster's the worker Job of [`job`].

mod decide;
mod draft;
mod job;
mod observe;
mod perform;
mod start;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;

use api::{BillingRun, BillingRunStatus, run::Run as _};
use domain::{ids::LoadNumber, month::BillingMonth, price_book::PriceBook};
use jiff::Timestamp;
use kube::Client;
use store::billing::{EndStatus, Rejection, RevisionKey, RunSnapshot};

use crate::{
    clock::Clock,
    database::Database,
    error::RunError,
    run_loop::{Decision, RunKind},
    runs::{JobAction, JobFound, JobParts, Stored},
};

/// The kind, with what its runs need.
pub(crate) struct BillingRuns {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) jobs: JobParts,
    pub(crate) clock: Clock,
}

/// Everything that a decision is made of.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// This machine's clock; whether a month is over is the database's to say.
    now: Timestamp,
    database: Result<Stored<RunSnapshot>, String>,
    /// Looked up only until the run has begun.
    price_book: Option<PriceBookFound>,
    job: JobFound,
    /// Pods of the run that are still there; counted only while it is deleted.
    workers: usize,
    /// Why workers can't start; looked for only while nothing gets done.
    stuck: Option<String>,
    /// What the attempt to begin that was just made met.
    refused: Option<Rejection>,
    /// What a worker Job is built from.
    job_parts: JobParts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PriceBookFound {
    Missing(String),
    Text(String),
}

/// What a run begins with.
#[derive(Clone, PartialEq)]
pub(crate) struct Plan {
    month: BillingMonth,
    price_book: PriceBook,
    /// The text that it was read from.
    price_book_text: String,
    data_cutoff: Option<LoadNumber>,
}

/// What a decision can ask for.
#[derive(Clone, PartialEq)]
pub(crate) enum Do {
    /// Take the month and plan its revision.
    Begin(Box<Plan>),
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
}

impl fmt::Debug for Do {
    /// For the log: a line, not a price book.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(plan) => write!(f, "Begin(month {})", plan.month),
            Self::Job(action) => action.fmt(f),
            Self::Verify(key) => write!(f, "Verify(revision {})", key.revision),
            Self::Issue { key, .. } => write!(f, "Issue(revision {})", key.revision),
            Self::Reject { key, reason, .. } => write!(f, "Reject(revision {}: {reason})", key.revision),
        }
    }
}

type BillingDecision = Decision<BillingRunStatus, Do>;

impl RunKind for BillingRuns {
    const KIND: &'static str = "BillingRun";
    type Object = BillingRun;
    type World = World;
    type Action = Do;
    type Outcome = Option<Rejection>;

    fn without_time(status: &BillingRunStatus) -> BillingRunStatus {
        status::without_time(status)
    }

    fn waits_for(&self, run: &BillingRun, config_map: &str) -> bool {
        !run.has_begun() && run.spec.price_book_ref.name == config_map
    }

    async fn observe(&self, run: &BillingRun, refused: Option<Option<Rejection>>) -> Result<World, RunError> {
        observe::observe(self, run, refused.flatten()).await
    }

    fn decide(&self, run: &BillingRun, world: &World) -> BillingDecision {
        decide::decide(run, world)
    }

    async fn perform(&self, run: &BillingRun, action: Do) -> Result<Option<Rejection>, RunError> {
        perform::perform(self, run, action).await
    }
}
