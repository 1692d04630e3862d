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

use api::{
    BillingRun, BillingRunStatus,
    conditions::{self, status_text},
};
use domain::{ids::LoadNumber, month::BillingMonth, price_book::PriceBook};
use jiff::Timestamp;
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Condition};
use kube::Client;
use store::{
    billing::{Ending, Refusal, RevisionKey, RunSnapshot},
    installation::Installation,
};

use crate::{
    clock::Clock,
    config::WorkerArgs,
    database::Database,
    error::RunError,
    run_loop::{Decision, News, RunKind},
};

/// Reasons of a wait that somebody wanted, or that only takes its time.
const EXPECTED: [&str; 7] =
    ["Planning", "MonthNotOver", "Suspended", "Resumed", "Deleting", "Deleted", "ManualApproval"];

/// The kind, with what its runs need.
pub(crate) struct BillingRuns {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) worker: WorkerArgs,
    pub(crate) instance: String,
    pub(crate) clock: Clock,
}

/// Everything that a decision is made of.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// This machine's clock; whether a month is over is the database's to say.
    now: Timestamp,
    database: Result<Stored, String>,
    /// Looked up only until the run has begun.
    price_book: Option<PriceBookFound>,
    job: JobFound,
    /// Pods of the run that are still there; counted only while it is deleted.
    workers: usize,
    /// Why workers can't start; looked for only while nothing gets done.
    stuck: Option<String>,
    /// What the attempt to begin that was just made met.
    refused: Option<Refusal>,
    /// What a worker Job is built from.
    job_parts: JobParts,
}

/// What the database says.
#[derive(Debug, Clone)]
struct Stored {
    now: Timestamp,
    installation: Installation,
    /// None until the run has begun.
    run: Option<RunSnapshot>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PriceBookFound {
    Missing(String),
    Text(String),
}

/// The object of the worker Job's name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum JobFound {
    None,
    /// Somebody else's; the text says whose.
    Foreign(String),
    Ours(JobState),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct JobState {
    parallelism: i32,
    suspended: bool,
    deleting: bool,
    complete: bool,
    /// Why it failed, with the words of the worker that did.
    failed: Option<String>,
}

/// What a Job is built from, besides the run and its revision.
#[derive(Debug, Clone)]
pub(crate) struct JobParts {
    worker: WorkerArgs,
    instance: String,
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
    CreateJob(Box<Job>),
    /// Bring the Job's changeable fields in line with the run's.
    AdjustJob {
        parallelism: i32,
        suspend: bool,
    },
    DeleteJob,
    Verify(RevisionKey),
    Issue {
        key: RevisionKey,
        approved_by: Option<String>,
    },
    Reject {
        key: RevisionKey,
        reason: String,
        ending: Ending,
    },
}

impl fmt::Debug for Do {
    /// For the log: a line, not a price book.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(plan) => write!(f, "Begin(month {})", plan.month),
            Self::CreateJob(job) => {
                write!(f, "CreateJob({})", job.metadata.name.as_deref().unwrap_or_default())
            }
            Self::AdjustJob { parallelism, suspend } => {
                write!(f, "AdjustJob(parallelism {parallelism}, suspend {suspend})")
            }
            Self::DeleteJob => f.write_str("DeleteJob"),
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
    type Status = BillingRunStatus;
    type World = World;
    type Action = Do;
    type Outcome = Option<Refusal>;

    fn status(run: &BillingRun) -> Option<&BillingRunStatus> {
        run.status.as_ref()
    }

    fn same_but_for_time(one: &BillingRunStatus, other: &BillingRunStatus) -> bool {
        status::without_time(one) == status::without_time(other)
    }

    fn news(before: Option<&BillingRunStatus>, after: &BillingRunStatus) -> Vec<News> {
        let old = before.map_or(&[][..], |before| &before.conditions);
        let mut news: Vec<News> = Vec::new();
        for new in &after.conditions {
            let same = |old: &Condition| (&old.status, &old.reason) == (&new.status, &new.reason);
            // Several conditions may have one reason: Finished repeats what Complete and Failed say.
            if conditions::find(old, &new.type_).is_some_and(same)
                || news.iter().any(|told| told.reason == new.reason)
            {
                continue;
            }
            let bad = if new.type_ == conditions::FAILED { status_text(true) } else { status_text(false) };
            let warning = new.status == bad && !EXPECTED.contains(&new.reason.as_str());
            news.push(News { warning, reason: new.reason.clone(), note: new.message.clone() });
        }
        news
    }

    async fn observe(&self, run: &BillingRun, refused: Option<Option<Refusal>>) -> Result<World, RunError> {
        observe::observe(self, run, refused.flatten()).await
    }

    fn decide(&self, run: &BillingRun, world: &World) -> BillingDecision {
        decide::decide(run, world)
    }

    async fn perform(&self, run: &BillingRun, action: Do) -> Result<Option<Refusal>, RunError> {
        perform::perform(self, run, action).await
    }
}
