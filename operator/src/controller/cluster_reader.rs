//! Reads what the cluster has for one run: its Jobs, its pods, and the ConfigMaps that it names.
//! Writes nothing and concludes nothing.

use api::labels;
use api::run::Run;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use super::config_map_text::ConfigMapText;
use super::run_identity::{namespace, uid};
use super::worker_job::{JobLookup, JobState, WorkerProblem, Workers, last_words, pod_messages};
use crate::error::{Doing as _, RunError};

const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Reads for one run, in its namespace.
pub(crate) struct ClusterReader<'a, R> {
    client: &'a Client,
    run: &'a R,
}

impl<'a, R: Run> ClusterReader<'a, R> {
    pub(crate) fn new(client: &'a Client, run: &'a R) -> Self {
        Self { client, run }
    }

    /// The ConfigMap's entries; None if there is no such ConfigMap.
    pub(crate) async fn config_map(&self, name: &str) -> Result<Option<ConfigMapText>, RunError> {
        let namespace = namespace(self.run)?;
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
        let map = maps.get_opt(name).await.doing(|| format!("read ConfigMap {namespace}/{name}"))?;
        Ok(map.map(ConfigMapText::from))
    }

    /// The Job of this name, and whether it belongs to the run.
    pub(crate) async fn job(&self, name: &str) -> Result<JobLookup, RunError> {
        let namespace = namespace(self.run)?;
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
        let Some(found) = jobs.get_opt(name).await.doing(|| format!("read Job {namespace}/{name}"))? else {
            return Ok(JobLookup::NotFound);
        };
        let owner = found.owner_references().iter().find(|owner| owner.controller == Some(true));
        if owner.map(|owner| owner.uid.as_str()) != self.run.meta().uid.as_deref() {
            let owner = owner
                .map_or_else(|| "no controller".to_owned(), |owner| format!("{} {}", owner.kind, owner.name));
            return Ok(JobLookup::Foreign(owner));
        }
        Ok(JobLookup::Ours(self.with_termination_message(JobState::from(&found)).await?))
    }

    /// The state of a Job that failed, with the termination message of its worker.
    pub(crate) async fn with_termination_message(&self, mut job: JobState) -> Result<JobState, RunError> {
        if job.failed.is_some() {
            let mut pods = self.pods().await?;
            pods.retain(|pod| pod.labels().get(JOB_NAME).is_some_and(|name| *name == job.name));
            if let Some(message) = pod_messages::termination_message(&pods) {
                job.failed = Some(message);
            }
        }
        Ok(job)
    }

    /// All Jobs that were created for the run, by their label: also those that it no longer owns,
    /// after `kubectl delete --cascade=orphan`.
    pub(crate) async fn jobs(&self) -> Result<Vec<JobState>, RunError> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &namespace(self.run)?);
        let found = jobs
            .list(&self.labelled_for_run()?)
            .await
            .doing(|| format!("list the Jobs of {} {}", R::KIND, self.run.name_any()))?;
        Ok(found.items.iter().map(JobState::from).collect())
    }

    /// The number of the run's pods that are left and have not ended. Only counted while an
    /// unfinished run is being deleted, 0 otherwise.
    pub(crate) async fn pods_left(&self) -> Result<usize, RunError> {
        if self.run.meta().deletion_timestamp.is_none() || self.run.is_over() {
            return Ok(0);
        }
        Ok(self.pods().await?.iter().filter(|pod| pod_messages::is_active(pod)).count())
    }

    /// What the workers of the run's Job say. Only read while `idle`, that is, while no work gets
    /// done.
    pub(crate) async fn workers(
        &self,
        job: &JobLookup,
        idle: bool,
        now: Timestamp,
    ) -> Result<Workers, RunError> {
        let state = match job {
            JobLookup::Ours(state) if idle && !state.suspended && !state.deleting => state,
            _ => return Ok(Workers::default()),
        };
        let pods = self.pods().await?;
        let waiting =
            pods.iter().find_map(pod_messages::problem).or_else(|| pod_messages::other_schema(&pods));
        let problem = match waiting {
            Some(waiting) => Some(WorkerProblem::Waiting(waiting)),
            None => self.problem_by_events(state, &pods, now).await?,
        };
        Ok(Workers { problem, report: pod_messages::report(&pods) })
    }

    /// What only Events say: why no pod can be created, or why one gets no container.
    async fn problem_by_events(
        &self,
        job: &JobState,
        pods: &[Pod],
        now: Timestamp,
    ) -> Result<Option<WorkerProblem>, RunError> {
        if !pods.iter().any(pod_messages::is_active) {
            let events = self.events(&job.uid, "reason=FailedCreate").await?;
            let refused = |words| WorkerProblem::Refused(format!("Job {}: {words}", job.name));
            return Ok(last_words(&events, now).map(refused));
        }
        let Some(pod) = pods.iter().find(|pod| pod_messages::is_being_created(pod)) else { return Ok(None) };
        let events = self.events(&pod.uid().unwrap_or_default(), "type=Warning").await?;
        let waiting = |words: String| {
            WorkerProblem::Waiting(pod_messages::cannot_start(pod, pod_messages::CREATING, &words))
        };
        Ok(last_words(&events, now).map(waiting))
    }

    /// The Events of the object with this uid.
    async fn events(&self, uid: &str, selector: &str) -> Result<Vec<Event>, RunError> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace(self.run)?);
        let of_object = ListParams::default().fields(&format!("involvedObject.uid={uid},{selector}"));
        let found = events
            .list(&of_object)
            .await
            .doing(|| format!("list the Events of the workers of {} {}", R::KIND, self.run.name_any()))?;
        Ok(found.items)
    }

    async fn pods(&self) -> Result<Vec<Pod>, RunError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace(self.run)?);
        let found = pods
            .list(&self.labelled_for_run()?)
            .await
            .doing(|| format!("list the pods of {} {}", R::KIND, self.run.name_any()))?;
        Ok(found.items)
    }

    fn labelled_for_run(&self) -> Result<ListParams, RunError> {
        Ok(ListParams::default().labels(&format!("{}={}", labels::RUN_UID, uid(self.run)?)))
    }
}
