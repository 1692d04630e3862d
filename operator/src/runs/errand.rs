//! A piece of work that a Job does for a run: what the Job that was found means for it. Pure.

use std::time::Duration;

use api::conditions::{PROGRESSING, Said};
use k8s_openapi::api::batch::v1::Job;

use super::{JobAction, JobFound};
use crate::run_loop::Next;

/// While workers work, so that the status is never much older.
pub(crate) const LOOK_WHILE_RUNNING: Duration = Duration::from_secs(1);
/// Nothing tells when somebody else's Job goes away.
const LOOK_FOR_FREE_NAME: Duration = Duration::from_secs(10);

/// How the work of an unfinished errand stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Errand {
    /// Its Job is at work, or is brought to it; the condition says what keeps it from that.
    Under { trouble: Option<Said>, next: Next<JobAction> },
    /// The workers failed for good, in their own words.
    Failed(String),
}

/// How the Job should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) parallelism: i32,
    pub(crate) suspend: bool,
}

/// What to do about the Job of work that is not done yet. `stuck` says why its pods can't start.
pub(crate) fn follow(
    wanted: Wanted<'_>,
    job: &JobFound,
    stuck: Option<&str>,
    build: impl FnOnce() -> Job,
) -> Errand {
    let Wanted { name, parallelism, suspend } = wanted;
    let under = |next| Errand::Under { trouble: None, next };
    match job {
        JobFound::Foreign(whose) => {
            let message = format!(
                "Job {name} is there already and belongs to {whose}; delete it, or give this run another name"
            );
            Errand::Under {
                trouble: Some(Said::new(PROGRESSING, false, "JobNameTaken", message)),
                next: Next::Wait(LOOK_FOR_FREE_NAME),
            }
        }
        JobFound::None if suspend => under(Next::Wait(LOOK_FOR_FREE_NAME)),
        JobFound::None => under(Next::Do(JobAction::Create(Box::new(build())))),
        JobFound::Ours(job) if job.deleting => under(Next::Wait(LOOK_WHILE_RUNNING)),
        JobFound::Ours(job) => match &job.failed {
            Some(why) => Errand::Failed(why.clone()),
            // Its workers say they are done while the work is not, as after some of it was put back by hand: start
            // others.
            None if job.complete => under(Next::Do(JobAction::Delete(name.to_owned()))),
            None if (job.parallelism, job.suspended) != (parallelism, suspend) => {
                under(Next::Do(JobAction::Adjust { name: name.to_owned(), parallelism, suspend }))
            }
            None => Errand::Under {
                trouble: stuck
                    .filter(|_| !suspend)
                    .map(|why| Said::new(PROGRESSING, false, "WorkersWaiting", why)),
                next: Next::Wait(LOOK_WHILE_RUNNING),
            },
        },
    }
}
