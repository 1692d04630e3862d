//! What every kind of run has in common: how its status is told, how it begins to end, and the Jobs that work for it.
//! Pure but for [`look`] and [`act`]. Knows nothing of what a run is for.

pub(crate) mod act;
pub(crate) mod errand;
pub(crate) mod job;
pub(crate) mod lifecycle;
pub(crate) mod look;
pub(crate) mod news;
pub(crate) mod progress;
pub(crate) mod report;

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use store::installation::Installation;

use crate::config::WorkerArgs;

/// What the database says.
#[derive(Debug, Clone)]
pub(crate) struct Stored<S> {
    pub(crate) now: Timestamp,
    pub(crate) installation: Installation,
    /// None until the run has begun.
    pub(crate) run: Option<S>,
}

/// The object of a worker Job's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobFound {
    None,
    /// Somebody else's; the text says whose.
    Foreign(String),
    Ours(JobState),
}

impl JobFound {
    pub(crate) fn ours(&self) -> Option<&JobState> {
        match self {
            Self::Ours(state) => Some(state),
            Self::None | Self::Foreign(_) => None,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct JobState {
    pub(crate) name: String,
    pub(crate) parallelism: i32,
    pub(crate) suspended: bool,
    pub(crate) deleting: bool,
    pub(crate) complete: bool,
    /// Why it failed, with the words of the worker that did.
    pub(crate) failed: Option<String>,
}

/// What a Job is built from, besides the run and its work.
#[derive(Debug, Clone)]
pub(crate) struct JobParts {
    pub(crate) worker: WorkerArgs,
    pub(crate) instance: String,
}

/// What can be done with a Job.
#[derive(Clone, PartialEq)]
pub(crate) enum JobAction {
    Create(Box<Job>),
    /// Bring its changeable fields in line with the run's.
    Adjust {
        name: String,
        parallelism: i32,
        suspend: bool,
    },
    Delete(String),
}

impl fmt::Debug for JobAction {
    /// For the log: a line, not a Job.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(job) => {
                write!(f, "CreateJob({})", job.metadata.name.as_deref().unwrap_or_default())
            }
            Self::Adjust { name, parallelism, suspend } => {
                write!(f, "AdjustJob({name}: parallelism {parallelism}, suspend {suspend})")
            }
            Self::Delete(name) => write!(f, "DeleteJob({name})"),
        }
    }
}
