//! What pods report: why one cannot run, what it does, and why it failed. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt as _;

use super::exit_codes;

pub(in crate::controller) const CREATING: &str = "ContainerCreating";
const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Characters of a pod's own message that a condition quotes.
const LONGEST_QUOTE: usize = 600;
/// A report names so many pods.
const LONGEST_REPORT: usize = 3;

/// Why a pod that should run does not; None while it is merely starting.
pub(crate) fn problem(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let name = pod.name_any();
    let condition =
        |type_: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == type_);
    // Kubernetes says no more of a pod whose node is lost, and replaces it only once the node is back or deleted.
    // The kubelet never reports this pair, as a worker has no readiness gates.
    let has = |type_: &str, value: &str| condition(type_).is_some_and(|condition| condition.status == value);
    if has("Ready", "False") && has("ContainersReady", "True") {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("unknown");
        return Some(format!(
            "pod {name} waits for its node {node}, which has stopped reporting; if the node is lost for good, \
             `kubectl delete node {node}` lets another node take over"
        ));
    }
    let unscheduled = condition("PodScheduled").filter(|condition| {
        condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(unscheduled) = unscheduled {
        return Some(format!(
            "pod {name} cannot be scheduled: {}",
            unscheduled.message.as_deref().unwrap_or("no reason given")
        ));
    }
    let container = status.container_statuses.as_ref()?.first()?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| *reason != CREATING)?;
    let message: String =
        waiting.message.as_deref().unwrap_or_default().chars().take(LONGEST_QUOTE).collect();
    // Why a container that is started again and again ended.
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.map_or_else(String::new, |ended| format!("; {}", describe(pod, ended)));
    Some(cannot_start(pod, reason, &format!("{message}{last}")))
}

/// That a pod does not start, with its image, which the kubelet does not always name.
pub(in crate::controller) fn cannot_start(pod: &Pod, reason: &str, words: &str) -> String {
    let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref());
    let image = image.map_or_else(String::new, |image| format!(" with image {image}"));
    format!("pod {}{image} cannot start ({reason}): {words}", pod.name_any())
}

/// Whether the pod has not ended yet.
pub(in crate::controller) fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the pod has a node, and its container is being created: a volume may be missing.
pub(in crate::controller) fn is_being_created(pod: &Pod) -> bool {
    let waiting = || {
        let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
    };
    is_active(pod) && pod.metadata.deletion_timestamp.is_none() && waiting() == Some(CREATING)
}

/// What the pods do, and how the last one ended that failed.
pub(in crate::controller) fn report(pods: &[Pod]) -> String {
    let mut active: Vec<&Pod> = pods.iter().filter(|pod| is_active(pod)).collect();
    active.sort_by_key(|pod| pod.name_any());
    let mut parts: Vec<String> = active.iter().take(LONGEST_REPORT).map(|pod| doing(pod)).collect();
    if let Some(more) = active.len().checked_sub(LONGEST_REPORT).filter(|more| *more > 0) {
        parts.push(format!("{more} more pods"));
    }
    if active.is_empty() {
        parts.push("no pod of the Job runs".to_owned());
    }
    parts.extend(termination_message(pods));
    parts.join("; ")
}

fn doing(pod: &Pod) -> String {
    let name = pod.name_any();
    let running = || {
        let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        container.state.as_ref()?.running.as_ref()?.started_at.as_ref()
    };
    match running() {
        _ if pod.metadata.deletion_timestamp.is_some() => format!("pod {name} is terminating"),
        Some(since) => format!("pod {name} runs since {}", since.0),
        None => format!("pod {name} is starting"),
    }
}

/// Why the workers cannot begin although their pods can: their image is of another version than the
/// database's schema. Only if that is how the last of them ended, and none is running.
pub(in crate::controller) fn other_schema(pods: &[Pod]) -> Option<String> {
    let ended: Vec<_> =
        pods.iter().map(|pod| terminated(pod).map(|ended| (pod, ended))).collect::<Option<_>>()?;
    let (pod, last) = ended.into_iter().max_by_key(|(_, ended)| ended.finished_at.as_ref().map(|at| at.0))?;
    exit_codes::is_other_schema(last.exit_code).then(|| describe(pod, last))
}

/// The termination message of the worker that failed; of several, the last one. A worker that
/// failed permanently comes before one that only asked for a retry.
pub(in crate::controller) fn termination_message(pods: &[Pod]) -> Option<String> {
    let (pod, ended) = pods
        .iter()
        .filter_map(|pod| terminated(pod).map(|ended| (pod, ended)))
        .filter(|(_, ended)| ended.exit_code != 0)
        .max_by_key(|(_, ended)| {
            (exit_codes::is_permanent_failure(ended.exit_code), ended.finished_at.as_ref().map(|at| at.0))
        })?;
    Some(describe(pod, ended))
}

fn describe(pod: &Pod, ended: &ContainerStateTerminated) -> String {
    let shard =
        pod.labels().get(COMPLETION_INDEX).map(|index| format!(" of shard {index}")).unwrap_or_default();
    let meaning = exit_codes::meaning(ended.exit_code);
    let message = ended.message.as_deref().unwrap_or_default().trim();
    let skip = message.chars().count().saturating_sub(LONGEST_QUOTE);
    let tail: String = message.chars().skip(skip).collect();
    let quote = if tail.is_empty() { String::new() } else { format!(": {tail}") };
    format!("the worker{shard} ended with exit code {} ({meaning}){quote}", ended.exit_code)
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.terminated.as_ref()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateWaiting, ContainerStatus,
        PodCondition, PodSpec, PodStatus,
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

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
    fn the_worker_that_failed_permanently_is_quoted() {
        let pods = [pod("1", 0, 9, ""), pod("2", 4, 5, "no such plan\n"), pod("3", 75, 8, "stopped")];
        assert_eq!(
            termination_message(&pods).unwrap(),
            "the worker of shard 2 ended with exit code 4 (failed for good): no such plan"
        );
        assert_eq!(termination_message(&pods[..1]), None);
        let mut only = pod("0", 2, 5, "no such topic");
        only.metadata.labels = None;
        assert_eq!(
            termination_message(&[only]).unwrap(),
            "the worker ended with exit code 2 (usage or configuration): no such topic"
        );
    }

    #[test]
    fn workers_of_another_schema_version_are_reported_while_none_of_another_kind_runs() {
        let refused = pod("1", 5, 8, "the database has schema version 13");
        let text = "the worker of shard 1 ended with exit code 5 (another schema version): the database has schema version 13";
        assert_eq!(other_schema(&[pod("0", 0, 7, ""), refused.clone()]).as_deref(), Some(text));
        assert_eq!(other_schema(&[refused.clone(), pod("0", 75, 9, "")]), None);
        let mut running = refused.clone();
        running.status = None;
        assert_eq!(other_schema(&[refused, running]), None);
        assert_eq!(other_schema(&[]), None);
    }

    #[test]
    fn a_pod_that_cannot_start_is_reported_with_the_reason() {
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
            problem(&waiting("ImagePullBackOff")).unwrap(),
            "pod october-bill-1-x cannot start (ImagePullBackOff): no such image"
        );
        let mut never_pulled = waiting("ErrImageNeverPull");
        let container = Container { image: Some("worker:2".to_owned()), ..Container::default() };
        never_pulled.spec = Some(PodSpec { containers: vec![container], ..PodSpec::default() });
        assert_eq!(
            problem(&never_pulled).unwrap(),
            "pod october-bill-1-x with image worker:2 cannot start (ErrImageNeverPull): no such image"
        );
        assert_eq!(problem(&waiting("ContainerCreating")), None);
        assert_eq!(problem(&with(ContainerState::default())), None);
        let mut unscheduled = with(ContainerState::default());
        unscheduled.status.as_mut().unwrap().conditions = Some(vec![PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some("Unschedulable".to_owned()),
            message: Some("0/1 nodes are available".to_owned()),
            ..PodCondition::default()
        }]);
        assert_eq!(
            problem(&unscheduled).unwrap(),
            "pod october-bill-1-x cannot be scheduled: 0/1 nodes are available"
        );
    }

    #[test]
    fn a_container_that_is_started_again_and_again_is_reported_with_its_last_end() {
        let mut crashing = pod("1", 0, 1, "");
        crashing.metadata = ObjectMeta { name: Some("notify-x".to_owned()), ..ObjectMeta::default() };
        let ended = ContainerStateTerminated {
            exit_code: 2,
            message: Some("NOTIFY_TRANSPORT: no such scheme\n".to_owned()),
            ..ContainerStateTerminated::default()
        };
        let container = &mut crashing.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
        container.state = Some(ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some("CrashLoopBackOff".to_owned()),
                message: Some("back-off 10s".to_owned()),
            }),
            ..ContainerState::default()
        });
        container.last_state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
        assert_eq!(
            problem(&crashing).unwrap(),
            "pod notify-x cannot start (CrashLoopBackOff): back-off 10s; the worker ended with exit code 2 (usage or \
             configuration): NOTIFY_TRANSPORT: no such scheme"
        );
    }

    #[test]
    fn a_report_says_what_the_pods_do_and_how_the_last_one_failed() {
        let with = |name: &str, phase: &str, running: bool| {
            let mut pod = pod("1", 0, 1, "");
            pod.metadata.name = Some(name.to_owned());
            let status = pod.status.as_mut().unwrap();
            status.phase = Some(phase.to_owned());
            let started = ContainerStateRunning { started_at: Some(Time(jiff::Timestamp::UNIX_EPOCH)) };
            status.container_statuses.as_mut().unwrap()[0].state =
                Some(ContainerState { running: running.then_some(started), ..ContainerState::default() });
            pod
        };
        assert_eq!(report(&[]), "no pod of the Job runs");
        let mut failed = pod("2", 75, 5, "stopped");
        failed.status.as_mut().unwrap().phase = Some("Failed".to_owned());
        assert_eq!(
            report(&[failed, with("b", "Pending", false), with("a", "Running", true)]),
            "pod a runs since 1970-01-01T00:00:00Z; pod b is starting; the worker of shard 2 ended with exit code 75 \
             (try again): stopped"
        );
        let many: Vec<Pod> = ["a", "b", "c", "d", "e"].map(|name| with(name, "Pending", false)).into();
        assert!(report(&many).ends_with("pod c is starting; 2 more pods"), "{}", report(&many));
    }

    #[test]
    fn a_pod_whose_node_is_lost_is_reported_with_the_node() {
        let with = |ready: &str, containers_ready: &str| {
            let mut pod = pod("1", 0, 1, "");
            pod.metadata.name = Some("october-bill-1-x".to_owned());
            pod.spec = Some(PodSpec { node_name: Some("rack-7".to_owned()), ..PodSpec::default() });
            let conditions = [("Ready", ready), ("ContainersReady", containers_ready)];
            pod.status.as_mut().unwrap().conditions = Some(
                conditions
                    .map(|(type_, status)| PodCondition {
                        type_: type_.to_owned(),
                        status: status.to_owned(),
                        ..PodCondition::default()
                    })
                    .into(),
            );
            pod
        };
        assert_eq!(
            problem(&with("False", "True")).unwrap(),
            "pod october-bill-1-x waits for its node rack-7, which has stopped reporting; if the node is lost for good, \
             `kubectl delete node rack-7` lets another node take over"
        );
        assert_eq!(problem(&with("True", "True")), None);
        // As the kubelet reports a container that is starting or has ended.
        assert_eq!(problem(&with("False", "False")), None);
    }

    #[test]
    fn a_long_message_is_cut_at_its_start() {
        let message = termination_message(&[pod("1", 137, 9, &"é".repeat(2000))]).unwrap();
        assert_eq!(message.matches('é').count(), LONGEST_QUOTE);
        assert!(message.contains("137 (killed)"), "{message}");
    }
}
