//! The worker Jobs of a notification run: one for each time that its open targets are published, or one that rehearses.
//! Pure: the same run always gives the same Jobs.

use api::NotificationRun;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use store::notification::Snapshot;
use worker_cli::{PublishArgs, RehearseArgs};

use super::Parts;
use crate::runs::{
    job::{self, Work},
    look,
};

/// A piece of work of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    Publish { round: i32 },
    Rehearse,
}

impl Errand {
    /// The work that a Job is to do for the run now.
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
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
            Self::Publish { round } => job::name(&run.name_any(), &format!("publish-{round}")),
            Self::Rehearse => job::name(&run.name_any(), "rehearse"),
        }
    }
}

pub(super) fn build(run: &NotificationRun, snapshot: &Snapshot, errand: Errand, parts: &Parts) -> Job {
    let run_name = snapshot.facts.run.clone();
    // `observe` refuses a run without a uid.
    let run_uid = look::uid(run).unwrap_or_default();
    let (component, args, keys) = match errand {
        Errand::Publish { round } => {
            let kafka = parts.kafka.clone();
            let args = PublishArgs { run: run_name, run_uid, round, kafka };
            ("publish", args.to_args(), None)
        }
        Errand::Rehearse => {
            let from = parts.notify.from.clone();
            let args = RehearseArgs { run: run_name, run_uid, from };
            ("rehearse", args.to_args(), Some(parts.notify.encryption_secret.clone()))
        }
    };
    let work =
        Work { name: errand.job_name(run), component, suspend: run.spec.suspend, shards: None, args, keys };
    job::build(run, work, &parts.job)
}
