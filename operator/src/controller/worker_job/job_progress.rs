//! What the state of a worker Job means for the work that it is to do. Pure.

use std::time::Duration;

use api::conditions::{ConditionUpdate, PROGRESSING};
use k8s_openapi::api::batch::v1::Job;

use super::job_action::JobAction;
use super::job_state::JobLookup;
use super::workers::WorkerProblem;
use crate::controller::decision::Next;

/// The delay between reconciliations while workers run; the status is never much older.
pub(crate) const POLL_RUNNING: Duration = Duration::from_secs(1);
/// No watch reports when another object's Job is deleted.
const POLL_NAME: Duration = Duration::from_secs(10);

/// How far the Job of unfinished work is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JobProgress {
    /// The Job runs or is about to; the condition says what keeps it from running.
    Active { problem: Option<ConditionUpdate>, next: Next<JobAction> },
    /// The Job failed and is not retried, for this reason.
    Failed(String),
}

/// How the Job should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DesiredJob<'a> {
    pub(crate) name: &'a str,
    /// The image of this operator's workers.
    pub(crate) image: &'a str,
    pub(crate) parallelism: i32,
    pub(crate) suspend: bool,
}

/// What to do about the Job of unfinished work. `problem` says why its workers cannot work.
pub(crate) fn job_progress(
    desired: DesiredJob<'_>,
    job: &JobLookup,
    problem: Option<&WorkerProblem>,
    build: impl FnOnce() -> Job,
) -> JobProgress {
    let DesiredJob { name, image, parallelism, suspend } = desired;
    let active = |next| JobProgress::Active { problem: None, next };
    match job {
        JobLookup::Foreign(owner) => {
            let message = format!(
                "Job {name} already exists and belongs to {owner}; delete that Job, or give this run another name"
            );
            JobProgress::Active {
                problem: Some(ConditionUpdate::new(PROGRESSING, false, "JobNameTaken", message)),
                next: Next::RequeueAfter(POLL_NAME),
            }
        }
        JobLookup::NotFound if suspend => active(Next::RequeueAfter(POLL_NAME)),
        JobLookup::NotFound => active(Next::Apply(JobAction::Create(Box::new(build())))),
        JobLookup::Ours(job) if job.deleting => active(Next::RequeueAfter(POLL_RUNNING)),
        // Of another version, as before an upgrade: new workers continue, and what is done stays. A
        // failure may come of the old version, as when the database was migrated.
        JobLookup::Ours(job) if job.image != image => active(Next::Apply(JobAction::Delete(name.to_owned()))),
        JobLookup::Ours(job) => match &job.failed {
            Some(reason) => JobProgress::Failed(reason.clone()),
            // The workers finished but the work has not, as after somebody changed the database: start new
            // workers.
            None if job.complete => active(Next::Apply(JobAction::Delete(name.to_owned()))),
            None if (job.parallelism, job.suspended) != (parallelism, suspend) => {
                active(Next::Apply(JobAction::Adjust { name: name.to_owned(), parallelism, suspend }))
            }
            None => JobProgress::Active {
                problem: problem.filter(|_| !suspend).map(WorkerProblem::condition),
                next: Next::RequeueAfter(POLL_RUNNING),
            },
        },
    }
}
