//! A worker Job as the API server has it, reduced to what decisions need. Pure.

use api::labels;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

/// The object that has a worker Job's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobLookup {
    NotFound,
    /// The Job belongs to another object; the text names it.
    Foreign(String),
    Ours(JobState),
}

impl JobLookup {
    pub(crate) fn ours(&self) -> Option<&JobState> {
        match self {
            Self::Ours(state) => Some(state),
            Self::NotFound | Self::Foreign(_) => None,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct JobState {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The image that its workers were wanted to have.
    pub(crate) image: String,
    pub(crate) parallelism: i32,
    pub(crate) suspended: bool,
    pub(crate) deleting: bool,
    pub(crate) complete: bool,
    /// Why the Job failed, with the message of the worker that did.
    pub(crate) failed: Option<String>,
}

impl From<&Job> for JobState {
    fn from(job: &Job) -> Self {
        let spec = job.spec.as_ref();
        let conditions =
            job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let find =
            |type_: &str| conditions.iter().find(|found| found.type_ == type_ && found.status == "True");
        // FailureTarget comes first, while the pods are still terminating.
        let failed = find("Failed").or_else(|| find("FailureTarget")).map(|condition| {
            let text = condition.message.clone().filter(|message| !message.is_empty());
            text.or_else(|| condition.reason.clone()).unwrap_or_else(|| "the worker Job failed".to_owned())
        });
        Self {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            image: wanted_image(job).unwrap_or_default(),
            parallelism: spec.and_then(|spec| spec.parallelism).unwrap_or(1),
            suspended: spec.and_then(|spec| spec.suspend).unwrap_or(false),
            deleting: job.metadata.deletion_timestamp.is_some(),
            complete: find("Complete").is_some() || find("SuccessCriteriaMet").is_some(),
            failed,
        }
    }
}

/// The image that the Job was made with. Without the annotation, which a policy may take away, that
/// of its pods.
fn wanted_image(job: &Job) -> Option<String> {
    if let Some(image) = job.annotations().get(labels::IMAGE) {
        return Some(image.clone());
    }
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.first()?.image.clone()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus};

    use super::*;

    #[test]
    fn a_job_counts_as_failed_while_its_pods_still_terminate() {
        let job = |type_: &str| Job {
            spec: Some(JobSpec { parallelism: Some(3), suspend: Some(true), ..JobSpec::default() }),
            status: Some(JobStatus {
                conditions: Some(vec![JobCondition {
                    type_: type_.to_owned(),
                    status: "True".to_owned(),
                    message: Some("index 3 failed".to_owned()),
                    ..JobCondition::default()
                }]),
                ..JobStatus::default()
            }),
            ..Job::default()
        };
        assert_eq!(JobState::from(&job("FailureTarget")).failed.as_deref(), Some("index 3 failed"));
        assert_eq!(JobState::from(&job("Failed")).failed.as_deref(), Some("index 3 failed"));
        let complete = JobState::from(&job("Complete"));
        assert!(complete.complete && complete.failed.is_none() && complete.suspended);
        assert_eq!(complete.parallelism, 3);
    }
}
