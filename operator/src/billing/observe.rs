//! Looks: at the worker Job, the price book, the database. Writes nothing and concludes nothing.

use std::time::Duration;

use api::{BillingRun, labels};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, ContainerStateTerminated, Pod},
};
use kube::{Api, ResourceExt as _, api::ListParams};
use store::{
    billing::{self, Refusal, Uuid},
    clock,
    error::{During as _, StoreError},
    installation::Installation,
};
use telemetry::chain;

use super::{BillingRuns, JobFound, JobParts, JobState, PriceBookFound, Stored, World, job};
use crate::{
    database::Schema,
    error::{Doing as _, RunError},
};

/// Longer than any of the statements takes, short enough to say that the database does not answer.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a worker's last words, in a condition.
const LONGEST_QUOTE: usize = 600;

pub(super) async fn observe(
    kind: &BillingRuns,
    run: &BillingRun,
    refused: Option<Refusal>,
) -> Result<World, RunError> {
    let namespace = run.namespace().ok_or(RunError::Incomplete("BillingRun", "namespace"))?;
    let over = super::decide::is_over(run);
    let deleting = run.metadata.deletion_timestamp.is_some();
    // The Job before the chunks: when it says that all workers are done, their chunks are seen as well.
    let job = if over && !deleting { JobFound::None } else { find_job(kind, run, &namespace).await? };
    let workers = if deleting { pods_of(kind, run, &namespace).await?.len() } else { 0 };
    let database =
        if over { Err("not looked at: the run is over".to_owned()) } else { look_up(kind, run).await };
    let idle = database.as_ref().is_ok_and(|stored| {
        stored.run.as_ref().is_some_and(|run| !run.all_chunks_done() && run.members_done_recently == 0)
    });
    let stuck = match &job {
        JobFound::Ours(state) if idle && !state.suspended && !deleting => {
            pods_of(kind, run, &namespace).await?.iter().find_map(why_waiting)
        }
        _ => None,
    };
    let begun = database.as_ref().map_or(true, |stored| stored.run.is_some());
    let price_book =
        if begun || deleting { None } else { Some(find_price_book(kind, run, &namespace).await?) };
    Ok(World {
        now: kind.clock.now(),
        database,
        price_book,
        job,
        workers,
        stuck,
        refused,
        job_parts: JobParts { worker: kind.worker.clone(), instance: kind.instance.clone() },
    })
}

async fn look_up(kind: &BillingRuns, run: &BillingRun) -> Result<Stored, String> {
    let installation = match kind.database.schema() {
        Schema::Ready(installation) => installation,
        Schema::NotReady(why) => return Err(why),
    };
    let uid = uid(run).map_err(|error| chain(&error))?;
    match tokio::time::timeout(DATABASE_TIMEOUT, read(kind, uid, installation)).await {
        Ok(Ok(stored)) => Ok(stored),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("the database did not answer in {} s", DATABASE_TIMEOUT.as_secs())),
    }
}

async fn read(kind: &BillingRuns, uid: Uuid, installation: Installation) -> Result<Stored, RunError> {
    let pool = &kind.database.pool;
    if let Some(run) =
        billing::observe(pool, uid).await.doing(|| "look the run up in the database".to_owned())?
    {
        return Ok(Stored { now: run.now, installation, run: Some(run) });
    }
    let mut connection =
        pool.acquire().await.during("cannot connect to the database").map_err(StoreError::from)?;
    let now = clock::now(&mut connection).await.map_err(StoreError::from)?;
    Ok(Stored { now, installation, run: None })
}

pub(super) fn uid(run: &BillingRun) -> Result<Uuid, RunError> {
    run.uid().and_then(|uid| Uuid::parse_str(&uid).ok()).ok_or(RunError::Incomplete("BillingRun", "uid"))
}

async fn find_price_book(
    kind: &BillingRuns,
    run: &BillingRun,
    namespace: &str,
) -> Result<PriceBookFound, RunError> {
    let wanted = &run.spec.price_book_ref;
    let maps: Api<ConfigMap> = Api::namespaced(kind.client.clone(), namespace);
    let map =
        maps.get_opt(&wanted.name).await.doing(|| format!("read ConfigMap {namespace}/{}", wanted.name))?;
    let Some(map) = map else {
        return Ok(PriceBookFound::Missing(format!(
            "there is no ConfigMap {} in namespace {namespace}; make it with `kubectl create configmap {} --from-file={}=FILE`",
            wanted.name, wanted.name, wanted.key
        )));
    };
    let mut data = map.data.unwrap_or_default();
    Ok(match data.remove(&wanted.key) {
        Some(text) => PriceBookFound::Text(text),
        None => {
            let keys: Vec<&str> = data.keys().map(String::as_str).collect();
            let there = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
            PriceBookFound::Missing(format!(
                "ConfigMap {} has no entry {}; it has {there}",
                wanted.name, wanted.key
            ))
        }
    })
}

async fn find_job(kind: &BillingRuns, run: &BillingRun, namespace: &str) -> Result<JobFound, RunError> {
    let name = job::name(&run.name_any());
    let jobs: Api<Job> = Api::namespaced(kind.client.clone(), namespace);
    let Some(found) = jobs.get_opt(&name).await.doing(|| format!("read Job {namespace}/{name}"))? else {
        return Ok(JobFound::None);
    };
    let owner = found.owner_references().iter().find(|owner| owner.controller == Some(true));
    if owner.map(|owner| owner.uid.as_str()) != run.metadata.uid.as_deref() {
        let whose =
            owner.map_or_else(|| "nobody".to_owned(), |owner| format!("{} {}", owner.kind, owner.name));
        return Ok(JobFound::Foreign(whose));
    }
    let mut state = state(&found);
    if let Some(words) = &mut state.failed
        && let Some(quote) = last_words(&pods_of(kind, run, namespace).await?)
    {
        *words = quote;
    }
    Ok(JobFound::Ours(state))
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
        parallelism: spec.and_then(|spec| spec.parallelism).unwrap_or(1),
        suspended: spec.and_then(|spec| spec.suspend).unwrap_or(false),
        deleting: job.metadata.deletion_timestamp.is_some(),
        complete: holds("Complete").is_some() || holds("SuccessCriteriaMet").is_some(),
        failed,
    }
}

async fn pods_of(kind: &BillingRuns, run: &BillingRun, namespace: &str) -> Result<Vec<Pod>, RunError> {
    let pods: Api<Pod> = Api::namespaced(kind.client.clone(), namespace);
    let uid = run.uid().ok_or(RunError::Incomplete("BillingRun", "uid"))?;
    let ours = ListParams::default().labels(&format!("{}={uid}", labels::RUN_UID));
    Ok(pods.list(&ours).await.doing(|| format!("list the pods of BillingRun {}", run.name_any()))?.items)
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
    let shard = pod.labels().get("batch.kubernetes.io/job-completion-index").map_or("?", String::as_str);
    let meaning = job::exit_meaning(ended.exit_code);
    let said = ended.message.as_deref().unwrap_or_default().trim();
    let tail: String = {
        let skip = said.chars().count().saturating_sub(LONGEST_QUOTE);
        said.chars().skip(skip).collect()
    };
    let words = if tail.is_empty() { String::new() } else { format!(": {tail}") };
    Some(format!("the worker of shard {shard} ended with exit code {} ({meaning}){words}", ended.exit_code))
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
