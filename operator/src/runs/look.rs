//! Looks at the Jobs and pods of runs, at ConfigMaps that runs name, and at what the database has of a run. Writes
//! nothing and concludes nothing.

use std::{collections::BTreeMap, time::Duration};

use api::{labels, run::Run};
use futures::Future;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, ContainerStateTerminated, Pod},
};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use logging::chain;
use store::{
    billing::Uuid,
    clock,
    error::{During as _, StoreError},
};

use super::{JobFound, JobState, Stored, job};
use crate::{
    database::{Database, Schema},
    error::{Doing as _, RunError},
};

/// Longer than any of the statements takes, short enough to say that the database does not answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Of a worker's last words, in a condition.
const LONGEST_QUOTE: usize = 600;

pub(crate) fn namespace<R: Run>(run: &R) -> Result<String, RunError> {
    run.namespace().ok_or(RunError::Incomplete(kind::<R>(), "namespace"))
}

pub(crate) fn uid<R: Run>(run: &R) -> Result<Uuid, RunError> {
    run.uid().and_then(|uid| Uuid::parse_str(&uid).ok()).ok_or(RunError::Incomplete(kind::<R>(), "uid"))
}

/// What the database knows the run by.
pub(crate) fn full_name<R: Run>(run: &R) -> Result<String, RunError> {
    Ok(format!("{}/{}", namespace(run)?, run.name_any()))
}

pub(crate) fn kind<R: Run>() -> String {
    R::kind(&()).into_owned()
}

/// What the database has of a run, or why that can't be said. `reading` is only done with a schema that is ready.
pub(crate) async fn stored<S>(
    database: &Database,
    reading: impl Future<Output = Result<Option<S>, RunError>>,
    now: fn(&S) -> Timestamp,
) -> Result<Stored<S>, String> {
    let installation = match database.schema() {
        Schema::Ready(installation) => installation,
        Schema::NotReady(why) => return Err(why),
    };
    let look = async {
        let run = reading.await?;
        let now = match &run {
            Some(run) => now(run),
            None => {
                let mut connection = database
                    .pool
                    .acquire()
                    .await
                    .during("cannot connect to the database")
                    .map_err(StoreError::from)?;
                clock::now(&mut connection).await.map_err(StoreError::from)?
            }
        };
        Ok::<_, RunError>(Stored { now, installation, run })
    };
    match tokio::time::timeout(DATABASE_TIMEOUT, look).await {
        Ok(Ok(stored)) => Ok(stored),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("the database did not answer in {} s", DATABASE_TIMEOUT.as_secs())),
    }
}

/// The ConfigMap's entries; none when there is no such ConfigMap.
pub(crate) async fn config_map<R: Run>(
    client: &Client,
    run: &R,
    name: &str,
) -> Result<Option<BTreeMap<String, String>>, RunError> {
    let namespace = namespace(run)?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let map = maps.get_opt(name).await.doing(|| format!("read ConfigMap {namespace}/{name}"))?;
    Ok(map.map(|map| map.data.unwrap_or_default()))
}

/// The Job of this name, and whose it is.
pub(crate) async fn job<R: Run>(client: &Client, run: &R, name: &str) -> Result<JobFound, RunError> {
    let namespace = namespace(run)?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let Some(found) = jobs.get_opt(name).await.doing(|| format!("read Job {namespace}/{name}"))? else {
        return Ok(JobFound::None);
    };
    let owner = found.owner_references().iter().find(|owner| owner.controller == Some(true));
    if owner.map(|owner| owner.uid.as_str()) != run.meta().uid.as_deref() {
        let whose =
            owner.map_or_else(|| "nobody".to_owned(), |owner| format!("{} {}", owner.kind, owner.name));
        return Ok(JobFound::Foreign(whose));
    }
    Ok(JobFound::Ours(quoted(client, run, state(&found)).await?))
}

/// With the words of the worker that failed, if one did.
pub(crate) async fn quoted<R: Run>(
    client: &Client,
    run: &R,
    mut job: JobState,
) -> Result<JobState, RunError> {
    if job.failed.is_some()
        && let Some(quote) = last_words(&pods_of(client, run, &job.name).await?)
    {
        job.failed = Some(quote);
    }
    Ok(job)
}

/// All Jobs that were made for the run.
pub(crate) async fn jobs<R: Run>(client: &Client, run: &R) -> Result<Vec<JobState>, RunError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace(run)?);
    let found = jobs
        .list(&ours(run)?)
        .await
        .doing(|| format!("list the Jobs of {} {}", kind::<R>(), run.name_any()))?;
    Ok(found.items.iter().map(state).collect())
}

/// All pods that work for the run.
pub(crate) async fn pods<R: Run>(client: &Client, run: &R) -> Result<Vec<Pod>, RunError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace(run)?);
    let found = pods
        .list(&ours(run)?)
        .await
        .doing(|| format!("list the pods of {} {}", kind::<R>(), run.name_any()))?;
    Ok(found.items)
}

async fn pods_of<R: Run>(client: &Client, run: &R, job: &str) -> Result<Vec<Pod>, RunError> {
    let mut found = pods(client, run).await?;
    found.retain(|pod| pod.labels().get(JOB_NAME).is_some_and(|name| name == job));
    Ok(found)
}

/// Why one of the run's pods that should run doesn't.
pub(crate) async fn stuck<R: Run>(client: &Client, run: &R) -> Result<Option<String>, RunError> {
    Ok(pods(client, run).await?.iter().find_map(why_waiting))
}

fn ours<R: Run>(run: &R) -> Result<ListParams, RunError> {
    Ok(ListParams::default().labels(&format!("{}={}", labels::RUN_UID, uid(run)?)))
}

fn state(job: &Job) -> JobState {
    let spec = job.spec.as_ref();
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let holds = |type_: &str| conditions.iter().find(|found| found.type_ == type_ && found.status == "True");
    // FailureTarget comes first, while its pods are still on their way out.
    let failed = holds("Failed").or_else(|| holds("FailureTarget")).map(|condition| {
        let text = condition.message.clone().filter(|message| !message.is_empty());
        text.or_else(|| condition.reason.clone()).unwrap_or_else(|| "the worker Job failed".to_owned())
    });
    JobState {
        name: job.name_any(),
        parallelism: spec.and_then(|spec| spec.parallelism).unwrap_or(1),
        suspended: spec.and_then(|spec| spec.suspend).unwrap_or(false),
        deleting: job.metadata.deletion_timestamp.is_some(),
        complete: holds("Complete").is_some() || holds("SuccessCriteriaMet").is_some(),
        failed,
    }
}

/// Why a pod that should run doesn't, unless it is only on its way.
fn why_waiting(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let unplaced = status.conditions.iter().flatten().find(|found| {
        found.type_ == "PodScheduled"
            && found.status == "False"
            && found.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(unplaced) = unplaced {
        return Some(format!(
            "pod {name} finds no node: {}",
            unplaced.message.as_deref().unwrap_or("no reason given")
        ));
    }
    let waiting = status.container_statuses.as_ref()?.first()?.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| *reason != "ContainerCreating")?;
    let said: String = waiting.message.as_deref().unwrap_or_default().chars().take(LONGEST_QUOTE).collect();
    Some(format!("pod {name} can't start ({reason}): {said}"))
}

/// What the worker that failed for good said; of several, the last one. Exit codes that only mean "again" say nothing
/// while there is another.
fn last_words(pods: &[Pod]) -> Option<String> {
    let (pod, ended) = pods
        .iter()
        .filter_map(|pod| terminated(pod).map(|ended| (pod, ended)))
        .filter(|(_, ended)| ended.exit_code != 0)
        .max_by_key(|(_, ended)| {
            (job::is_final_exit(ended.exit_code), ended.finished_at.as_ref().map(|at| at.0))
        })?;
    let shard =
        pod.labels().get(COMPLETION_INDEX).map(|index| format!(" of shard {index}")).unwrap_or_default();
    let meaning = job::exit_meaning(ended.exit_code);
    let said = ended.message.as_deref().unwrap_or_default().trim();
    let tail: String = {
        let skip = said.chars().count().saturating_sub(LONGEST_QUOTE);
        said.chars().skip(skip).collect()
    };
    let words = if tail.is_empty() { String::new() } else { format!(": {tail}") };
    Some(format!("the worker{shard} ended with exit code {} ({meaning}){words}", ended.exit_code))
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::{
            batch::v1::{JobCondition, JobSpec, JobStatus},
            core::v1::{ContainerState, ContainerStateWaiting, ContainerStatus, PodCondition, PodStatus},
        },
        apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    };

    use super::*;

    fn pod(shard: &str, exit_code: i32, second: i64, message: &str) -> Pod {
        let ended = ContainerStateTerminated {
            exit_code,
            message: Some(message.to_owned()),
            finished_at: Some(Time(jiff::Timestamp::from_second(second).unwrap())),
            ..ContainerStateTerminated::default()
        };
        let labels = [("batch.kubernetes.io/job-completion-index".to_owned(), shard.to_owned())].into();
        Pod {
            metadata: ObjectMeta { labels: Some(labels), ..ObjectMeta::default() },
            status: Some(PodStatus {
                container_statuses: Some(vec![ContainerStatus {
                    state: Some(ContainerState { terminated: Some(ended), ..ContainerState::default() }),
                    ..ContainerStatus::default()
                }]),
                ..PodStatus::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn the_worker_that_failed_for_good_is_quoted() {
        let pods = [pod("1", 0, 9, ""), pod("2", 4, 5, "no such plan\n"), pod("3", 75, 8, "stopped")];
        assert_eq!(
            last_words(&pods).unwrap(),
            "the worker of shard 2 ended with exit code 4 (failed for good): no such plan"
        );
        assert_eq!(last_words(&pods[..1]), None);
        let mut only = pod("0", 2, 5, "no such topic");
        only.metadata.labels = None;
        assert_eq!(
            last_words(&[only]).unwrap(),
            "the worker ended with exit code 2 (usage or configuration): no such topic"
        );
    }

    #[test]
    fn a_worker_that_cannot_start_says_why() {
        let with = |state: ContainerState| {
            let mut pod = pod("1", 0, 1, "");
            pod.metadata.name = Some("october-bill-1-x".to_owned());
            if let Some(statuses) = pod.status.as_mut().and_then(|status| status.container_statuses.as_mut())
            {
                statuses[0].state = Some(state);
            }
            pod
        };
        let waiting = |reason: &str| {
            let (reason, message) = (Some(reason.to_owned()), Some("no such image".to_owned()));
            with(ContainerState {
                waiting: Some(ContainerStateWaiting { reason, message }),
                ..ContainerState::default()
            })
        };
        assert_eq!(
            why_waiting(&waiting("ImagePullBackOff")).unwrap(),
            "pod october-bill-1-x can't start (ImagePullBackOff): no such image"
        );
        assert_eq!(why_waiting(&waiting("ContainerCreating")), None);
        assert_eq!(why_waiting(&with(ContainerState::default())), None);
        let mut unplaced = with(ContainerState::default());
        unplaced.status.as_mut().unwrap().conditions = Some(vec![PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            message: Some("0/1 nodes are available".to_owned()),
            ..PodCondition::default()
        }]);
        assert_eq!(
            why_waiting(&unplaced).unwrap(),
            "pod october-bill-1-x finds no node: 0/1 nodes are available"
        );
    }

    #[test]
    fn a_long_text_keeps_its_end() {
        let words = last_words(&[pod("1", 137, 9, &"é".repeat(2000))]).unwrap();
        assert_eq!(words.matches('é').count(), LONGEST_QUOTE);
        assert!(words.contains("137 (killed)"), "{words}");
    }

    #[test]
    fn a_job_is_failed_as_soon_as_it_is_going_to_be() {
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
        assert_eq!(state(&job("FailureTarget")).failed.as_deref(), Some("index 3 failed"));
        assert_eq!(state(&job("Failed")).failed.as_deref(), Some("index 3 failed"));
        let complete = state(&job("Complete"));
        assert!(complete.complete && complete.failed.is_none() && complete.suspended);
        assert_eq!(complete.parallelism, 3);
    }
}
