//! Builds the worker Jobs of a notification run: one for each round of publishing, or one for a
//! rehearsal. Pure: the same run always gives the same Jobs.

use api::NotificationRun;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use store::notification::Snapshot;
use worker_cli::{PublishArgs, RehearseArgs};

use super::notification_runs::NotificationSettings;
use crate::controller::run_identity;
use crate::controller::worker_job::{self, WorkerTask};

/// The work of one Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Publish { round: i32 },
    Rehearse,
}

impl Task {
    /// The work that a Job is to do now; None if there is none.
    pub(super) fn unfinished(snapshot: &Snapshot) -> Option<Self> {
        if snapshot.facts.state.is_over() {
            return None;
        }
        if snapshot.facts.rehearsal {
            return (!snapshot.facts.selected || snapshot.open > 0).then_some(Self::Rehearse);
        }
        let publication = snapshot.publication.as_ref()?;
        publication.done_at.is_none().then_some(Self::Publish { round: publication.round })
    }

    pub(super) fn job_name(self, run: &NotificationRun) -> String {
        match self {
            Self::Publish { round } => worker_job::job_name(&run.name_any(), &format!("publish-{round}")),
            Self::Rehearse => worker_job::job_name(&run.name_any(), "rehearse"),
        }
    }
}

pub(super) fn build(
    run: &NotificationRun,
    snapshot: &Snapshot,
    task: Task,
    settings: &NotificationSettings,
) -> Job {
    let run_name = snapshot.facts.run.clone();
    // Observing a run without a uid fails.
    let run_uid = run_identity::uid(run).unwrap_or_default();
    let (component, args, keys) = match task {
        Task::Publish { round } => {
            let kafka = settings.kafka.clone();
            let args = PublishArgs { run: run_name, run_uid, round, kafka };
            ("publish", args.to_args(), None)
        }
        Task::Rehearse => {
            let from = settings.notify.from.clone();
            let args = RehearseArgs { run: run_name, run_uid, from };
            ("rehearse", args.to_args(), Some(settings.notify.encryption_secret.clone()))
        }
    };
    let task = WorkerTask {
        name: task.job_name(run),
        component,
        suspend: run.spec.suspend,
        shards: None,
        args,
        keys,
    };
    worker_job::build(run, task, &settings.job)
}
