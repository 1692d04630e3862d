//! Notification runs: what is observed of one, and the actions that a decision can name. Decisions are in [`decide`],
//! made without a client; the database's part is `store::notification`, the cluster's the worker Jobs of [`job`]. Consumers are
//! not the run's: they serve every run, and are scaled by `crate::scaling`.

mod decide;
mod job;
mod observe;
mod perform;
mod send;
mod start;
mod status;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use api::{NotificationRun, NotificationRunStatus, run::Run as _};
use domain::month::BillingMonth;
use jiff::Timestamp;
use kube::Client;
use store::notification::{NotificationId, Rejection, Scope, Selection, Snapshot, TemplateSet};
use worker_cli::KafkaArgs;

use crate::{
    clock::Clock,
    config::NotifyArgs,
    database::Database,
    error::RunError,
    run_loop::{Decision, RunKind},
    runs::{JobAction, JobFound, JobParts, JobState, Stored},
    scaling::{LagCache, LagView},
};

/// The kind, with what its runs need.
pub(crate) struct NotificationRuns {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) parts: Parts,
    pub(crate) lags: LagCache,
    pub(crate) clock: Clock,
}

/// What a run's Jobs are built from, besides the run and its work.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) job: JobParts,
    pub(crate) kafka: KafkaArgs,
    pub(crate) notify: NotifyArgs,
}

/// Everything that a decision is made of.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// This machine's clock, which also dates the lag; everything else goes by the database's.
    now: Timestamp,
    database: Result<Stored<Snapshot>, String>,
    /// Looked up only until the run has begun.
    templates: Option<TemplatesFound>,
    /// The Job of the work that is not done yet.
    job: JobFound,
    /// The run's other Jobs: of earlier rounds, and all of them while it is deleted.
    others: Vec<JobState>,
    /// Pods of the run that are still there; counted only while it is deleted.
    workers: usize,
    /// Why workers can't start; looked for only while nothing gets done.
    stuck: Option<String>,
    /// The topic, when it was last looked at.
    lag: Option<LagView>,
    /// What the attempt to begin that was just made met.
    refused: Option<Rejection>,
    parts: Parts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplatesFound {
    Missing(String),
    Files(BTreeMap<String, String>),
}

/// What a run begins with.
#[derive(Clone, PartialEq)]
pub(crate) struct Plan {
    month: BillingMonth,
    selection: Selection,
    scope: Scope,
    templates: TemplateSet,
}

/// What a decision can ask for.
#[derive(Clone, PartialEq)]
pub(crate) enum Do {
    /// Make the run known to everyone who works for it.
    Begin(Box<Plan>),
    Job(JobAction),
    /// Bring what may change of the run in line with its spec.
    Adjust {
        id: NotificationId,
        suspended: bool,
        max_per_second: Option<i32>,
    },
    /// Put the open targets on the topic once more.
    OpenRound {
        id: NotificationId,
        after: i32,
    },
    Finish(NotificationId),
    /// Call it off; again until nothing of it is in a mail server's hands.
    Cancel {
        id: NotificationId,
        reason: String,
    },
    /// Give it up; again as for [`Do::Cancel`].
    Fail {
        id: NotificationId,
        reason: String,
    },
}

impl fmt::Debug for Do {
    /// For the log: a line, not a set of templates.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(plan) => write!(f, "Begin(month {}, {})", plan.month, plan.selection.as_str()),
            Self::Job(action) => action.fmt(f),
            Self::Adjust { suspended, max_per_second, .. } => {
                let rate = max_per_second.map_or_else(|| "none".to_owned(), |rate| rate.to_string());
                write!(f, "Adjust(suspended {suspended}, max per second {rate})")
            }
            Self::OpenRound { after, .. } => write!(f, "OpenRound(after {after})"),
            Self::Finish(_) => f.write_str("Finish"),
            Self::Cancel { reason, .. } => write!(f, "Cancel({reason})"),
            Self::Fail { reason, .. } => write!(f, "Fail({reason})"),
        }
    }
}

type NotificationDecision = Decision<NotificationRunStatus, Do>;

impl RunKind for NotificationRuns {
    const KIND: &'static str = "NotificationRun";
    type Object = NotificationRun;
    type World = World;
    type Action = Do;
    type Outcome = Option<Rejection>;

    fn without_time(status: &NotificationRunStatus) -> NotificationRunStatus {
        status::without_time(status)
    }

    fn waits_for(&self, run: &NotificationRun, config_map: &str) -> bool {
        !run.has_begun() && observe::templates_of(run, &self.parts.notify) == config_map
    }

    async fn observe(
        &self,
        run: &NotificationRun,
        refused: Option<Option<Rejection>>,
    ) -> Result<World, RunError> {
        observe::observe(self, run, refused.flatten()).await
    }

    fn decide(&self, run: &NotificationRun, world: &World) -> NotificationDecision {
        decide::decide(run, world)
    }

    async fn perform(&self, run: &NotificationRun, action: Do) -> Result<Option<Rejection>, RunError> {
        perform::perform(self, run, action).await
    }
}
