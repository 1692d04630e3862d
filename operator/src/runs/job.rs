//! Builds the worker Jobs of runs, and knows what their workers' exit codes mean. Pure: the same run and work always give
//! the same Job.

use std::collections::BTreeMap;

use api::{
    labels,
    run::{Run, RunSpec as _},
};
use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{
            Capabilities, Container, EnvVar, EnvVarSource, PodSecurityContext, PodSpec, PodTemplateSpec,
            SeccompProfile, SecretKeySelector, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt as _;
use sha2::{Digest as _, Sha256};
use worker_cli::ExitStatus;

use super::JobParts;

/// Attempts beyond the first, of each shard, that may end in a way nobody planned: a kill, a crash, a full node.
const BACKOFF_LIMIT: i32 = 6;
/// For the chunk in hand.
const GRACE_SECONDS: i64 = 30;
/// The image's own user.
const USER: i64 = 65532;
const CONTAINER: &str = "worker";
/// An Indexed Job's pods are named after it, with an index of up to three digits, in 63 characters.
const LONGEST_JOB_NAME: usize = 58;
const LONGEST_LABEL: usize = 63;
const KEYS: &str = "keys";
const KEYS_FOLDER: &str = "/etc/monthend/keys";

/// A Job's name, always the same for a run's name and work. A name that doesn't fit is cut and told apart by its hash.
pub(crate) fn name(run: &str, work: &str) -> String {
    let suffix = format!("-{work}");
    if run.len() + suffix.len() <= LONGEST_JOB_NAME && !run.contains('.') {
        return format!("{run}{suffix}");
    }
    let hash: String =
        Sha256::digest(run.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let room = LONGEST_JOB_NAME - suffix.len() - hash.len() - 1;
    let start: String = run.replace('.', "-").chars().take(room).collect();
    format!("{}-{hash}{suffix}", start.trim_end_matches('-'))
}

pub(crate) fn is_final_exit(code: i32) -> bool {
    ExitStatus::from_code(code).is_some_and(ExitStatus::is_permanent_failure)
}

/// What an exit code says to a person.
pub(crate) fn exit_meaning(code: i32) -> &'static str {
    match (ExitStatus::from_code(code), code) {
        (Some(status), _) => status.meaning(),
        (None, 137) => "killed",
        (None, 143) => "terminated",
        (None, _) => "crashed",
    }
}

/// What a Job's workers are to do.
pub(crate) struct Work {
    pub(crate) name: String,
    /// The Job's part in the product, for its label.
    pub(crate) component: &'static str,
    pub(crate) suspend: bool,
    /// How many workers share it by an index; one does it alone otherwise.
    pub(crate) shards: Option<Shards>,
    pub(crate) args: Vec<String>,
    /// The Secret with the keys, if personal data is read.
    pub(crate) keys: Option<String>,
}

#[derive(Clone, Copy)]
pub(crate) struct Shards {
    pub(crate) completions: i32,
    pub(crate) parallelism: i32,
}

pub(crate) fn build<R: Run>(run: &R, work: Work, parts: &JobParts) -> Job {
    let labels = labels_of(run, work.component, parts);
    let alone = work.shards.is_none();
    Job {
        metadata: ObjectMeta {
            name: Some(work.name.clone()),
            namespace: run.namespace(),
            labels: Some(labels.clone()),
            owner_references: run.controller_owner_ref(&()).map(|owner| vec![blocking(owner)]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            completion_mode: work.shards.map(|_| "Indexed".to_owned()),
            completions: Some(work.shards.map_or(1, |shards| shards.completions)),
            parallelism: Some(work.shards.map_or(1, |shards| shards.parallelism)),
            suspend: Some(work.suspend),
            backoff_limit: alone.then_some(BACKOFF_LIMIT),
            backoff_limit_per_index: (!alone).then_some(BACKOFF_LIMIT),
            // A month with a shard missing is no month: one index that failed ends the Job.
            max_failed_indexes: (!alone).then_some(0),
            // A pod that is on its way out may still hold its work; its successor waits.
            pod_replacement_policy: Some("Failed".to_owned()),
            pod_failure_policy: Some(failure_policy()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(work, parts)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Deleting the run in the foreground waits for the Job as well.
fn blocking(owner: OwnerReference) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(true), ..owner }
}

fn labels_of<R: Run>(run: &R, component: &str, parts: &JobParts) -> BTreeMap<String, String> {
    let name: String = run.name_any().chars().take(LONGEST_LABEL).collect();
    [
        (labels::NAME, labels::APP.to_owned()),
        (labels::INSTANCE, parts.instance.clone()),
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

/// Usage errors and failures for good end the Job at once; being told to try again, or evicted, costs no attempt; the
/// rest counts against the limit.
fn failure_policy() -> PodFailurePolicy {
    let on_exit = |action: &str, statuses: &[ExitStatus]| PodFailurePolicyRule {
        action: action.to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.to_owned()),
            operator: "In".to_owned(),
            values: statuses.iter().map(|status| status.code().into()).collect(),
        }),
        on_pod_conditions: None,
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
            on_exit("FailJob", &[ExitStatus::Usage, ExitStatus::Failed]),
            on_exit("Ignore", &[ExitStatus::TryAgain]),
            disrupted,
        ],
    }
}

fn pod(work: Work, parts: &JobParts) -> PodSpec {
    let worker = &parts.worker;
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
    let keys_folder = work.keys.as_ref().map(|_| env("MONTHEND_KEYS_DIR", KEYS_FOLDER.to_owned()));
    let keys_mount = work.keys.as_ref().map(|_| {
        vec![VolumeMount {
            name: KEYS.to_owned(),
            mount_path: KEYS_FOLDER.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]
    });
    let keys_volume = work.keys.map(|secret| {
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
            args: Some(work.args),
            env: Some(
                [database_url, env("RUST_LOG", worker.log.clone())].into_iter().chain(keys_folder).collect(),
            ),
            volume_mounts: keys_mount,
            resources: Some(worker.resources.clone()),
            // So that a run that failed can say why after its pods are gone.
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
