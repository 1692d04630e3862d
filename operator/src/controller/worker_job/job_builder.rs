//! Builds worker Jobs. Pure: the same run and task always give the same Job.

use std::collections::BTreeMap;

use api::labels;
use api::run::{Run, RunSpec as _};
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, EnvVarSource, PodSecurityContext, PodSpec, PodTemplateSpec,
    SeccompProfile, SecretKeySelector, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};
use worker_cli::ExitStatus;

use crate::config::WorkerArgs;

/// Retries, for each shard, after an unplanned end: a kill, a crash, a full node.
const BACKOFF_LIMIT: i32 = 6;
/// Enough to finish the chunk that a worker has started.
const GRACE_SECONDS: i64 = 30;
/// The image's non-root user.
const USER: i64 = 65532;
const CONTAINER: &str = "worker";
/// An Indexed Job's pods are named after it, with an index of up to three digits, in 63 characters.
const LONGEST_JOB_NAME: usize = 58;
const LONGEST_LABEL: usize = 63;
const KEYS: &str = "keys";
const KEYS_FOLDER: &str = "/etc/monthend/keys";

/// The name of a run's Job, always the same for the same run and task. A name that is too long is
/// cut, and made unique by a hash.
pub(crate) fn job_name(run: &str, task: &str) -> String {
    let suffix = format!("-{task}");
    if run.len() + suffix.len() <= LONGEST_JOB_NAME && !run.contains('.') {
        return format!("{run}{suffix}");
    }
    let hash: String =
        Sha256::digest(run.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let room = LONGEST_JOB_NAME - suffix.len() - hash.len() - 1;
    let start: String = run.replace('.', "-").chars().take(room).collect();
    format!("{}-{hash}{suffix}", start.trim_end_matches('-'))
}

/// The settings that all worker Jobs of this operator share.
#[derive(Debug, Clone)]
pub(crate) struct JobSettings {
    pub(crate) worker: WorkerArgs,
    /// The Helm release, for a label.
    pub(crate) instance: String,
}

/// What a Job's workers are to do.
pub(crate) struct WorkerTask {
    pub(crate) name: String,
    /// The value of the label `app.kubernetes.io/component`.
    pub(crate) component: &'static str,
    pub(crate) suspend: bool,
    /// None for a task that one worker does alone.
    pub(crate) shards: Option<Shards>,
    pub(crate) args: Vec<String>,
    /// The Secret with the encryption keys, for tasks that read personal data.
    pub(crate) keys: Option<String>,
}

#[derive(Clone, Copy)]
pub(crate) struct Shards {
    pub(crate) completions: i32,
    pub(crate) parallelism: i32,
}

pub(crate) fn build<R: Run>(run: &R, task: WorkerTask, settings: &JobSettings) -> Job {
    let labels = labels_of(run, task.component, settings);
    let single = task.shards.is_none();
    Job {
        metadata: ObjectMeta {
            name: Some(task.name.clone()),
            namespace: run.namespace(),
            labels: Some(labels.clone()),
            annotations: Some([(labels::IMAGE.to_owned(), settings.worker.image.clone())].into()),
            owner_references: run.controller_owner_ref(&()).map(|owner| vec![blocking(owner)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            completion_mode: task.shards.map(|_| "Indexed".to_owned()),
            completions: Some(task.shards.map_or(1, |shards| shards.completions)),
            parallelism: Some(task.shards.map_or(1, |shards| shards.parallelism)),
            suspend: Some(task.suspend),
            backoff_limit: single.then_some(BACKOFF_LIMIT),
            backoff_limit_per_index: (!single).then_some(BACKOFF_LIMIT),
            // The result needs every shard: one failed index ends the Job.
            max_failed_indexes: (!single).then_some(0),
            // A terminating pod may still hold its work, so its replacement waits.
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: Some(failure_policy()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(task, settings)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Makes a foreground deletion of the run wait for the Job.
fn blocking(owner: OwnerReference) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(true), ..owner }
}

fn labels_of<R: Run>(run: &R, component: &str, settings: &JobSettings) -> BTreeMap<String, String> {
    let name: String = run.name_any().chars().take(LONGEST_LABEL).collect();
    [
        (labels::NAME, labels::APP.to_owned()),
        (labels::INSTANCE, settings.instance.clone()),
        (labels::COMPONENT, component.to_owned()),
        (labels::MANAGED_BY, labels::MANAGER.to_owned()),
        (labels::RUN, name.trim_end_matches(['-', '.']).to_owned()),
        (labels::RUN_UID, run.uid().unwrap_or_default()),
        (labels::MONTH, run.spec().month().to_owned()),
    ]
    .into_iter()
    .map(|(label, value)| (label.to_owned(), value))
    .collect()
}

/// Usage errors and permanent failures end the Job at once. An exit code that asks for a retry, and
/// an eviction, do not count as attempts; every other end does. Nor does a worker count that meets a
/// schema of another version: after an upgrade this operator's successor replaces the Job.
fn failure_policy() -> PodFailurePolicy {
    let on_exit = |action: &str, statuses: [ExitStatus; 2]| {
        let mut codes = statuses.map(|status| status.code().into());
        // The API server refuses codes in another order.
        codes.sort_unstable();
        PodFailurePolicyRule {
            action: action.to_owned(),
            on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                container_name: Some(CONTAINER.to_owned()),
                operator: "In".to_owned(),
                values: codes.to_vec(),
            }),
            on_pod_conditions: None,
        }
    };
    let disrupted = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: Some("True".to_owned()),
        }]),
    };
    PodFailurePolicy {
        rules: vec![
            on_exit("FailJob", [ExitStatus::Usage, ExitStatus::Failed]),
            on_exit("Ignore", [ExitStatus::TryAgain, ExitStatus::OtherSchema]),
            disrupted,
        ],
    }
}

fn pod(task: WorkerTask, settings: &JobSettings) -> PodSpec {
    let worker = &settings.worker;
    let env =
        |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let database_url = EnvVar {
        name: "DATABASE_URL".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: worker.database_secret.clone(),
                key: "worker-url".to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    };
    let keys_folder = task.keys.as_ref().map(|_| env("MONTHEND_KEYS_DIR", KEYS_FOLDER.to_owned()));
    let keys_mount = task.keys.as_ref().map(|_| {
        vec![VolumeMount {
            name: KEYS.to_owned(),
            mount_path: KEYS_FOLDER.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]
    });
    let keys_volume = task.keys.map(|secret| {
        vec![Volume {
            name: KEYS.to_owned(),
            secret: Some(SecretVolumeSource { secret_name: Some(secret), ..SecretVolumeSource::default() }),
            ..Volume::default()
        }]
    });
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        service_account_name: Some(worker.service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: CONTAINER.to_owned(),
            image: Some(worker.image.clone()),
            image_pull_policy: Some(worker.image_pull_policy.clone()),
            command: Some(vec!["/usr/local/bin/monthend".to_owned()]),
            args: Some(task.args),
            env: Some(
                [database_url, env("RUST_LOG", worker.log.clone())].into_iter().chain(keys_folder).collect(),
            ),
            volume_mounts: keys_mount,
            resources: Some(worker.resources.clone()),
            // The reason for a failure stays in the pod's status, from where the run's condition takes it.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }],
        volumes: keys_volume,
        ..PodSpec::default()
    }
}
