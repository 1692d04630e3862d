//! The actions on a worker Job that a decision can name.

use std::fmt;

use k8s_openapi::api::batch::v1::Job;

#[derive(Clone, PartialEq)]
pub(crate) enum JobAction {
    Create(Box<Job>),
    /// Update the fields of a Job that can be changed.
    Adjust {
        name: String,
        parallelism: i32,
        suspend: bool,
    },
    Delete(String),
}

impl fmt::Debug for JobAction {
    /// One line for the log, instead of the whole Job.
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
