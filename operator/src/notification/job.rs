//! The worker Jobs of a notification run: one for each time that its open targets are published, or one that rehearses.
//! Pure: the same run always gives the same Jobs.

use api::NotificationRun;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use store::notification::Snapshot;

use super::Parts;
use crate::{
    config::KafkaArgs,
    runs::job::{self, Work},
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
    let whose =
        [format!("--run={}", snapshot.facts.run), format!("--run-uid={}", run.uid().unwrap_or_default())];
    let (component, verb, env, keys) = match errand {
        Errand::Publish { .. } => ("publish", "publish", kafka(&parts.kafka), None),
        Errand::Rehearse => {
            let from = vec![("NOTIFY_FROM", parts.notify.from.clone())];
            ("rehearse", "rehearse", from, Some(parts.notify.encryption_secret.clone()))
        }
    };
    let mut args = vec![verb.to_owned()];
    args.extend(whose);
    if let Errand::Publish { round } = errand {
        args.push(format!("--round={round}"));
    }
    let work = Work {
        name: errand.job_name(run),
        component,
        suspend: run.spec.suspend,
        shards: None,
        args,
        env,
        keys,
    };
    job::build(run, work, &parts.job)
}

fn kafka(kafka: &KafkaArgs) -> Vec<(&'static str, String)> {
    let KafkaArgs { brokers, topic, dlq_topic, group, partitions, replication, retention_hours } = kafka;
    vec![
        ("KAFKA_BROKERS", brokers.clone()),
        ("KAFKA_TOPIC", topic.clone()),
        ("KAFKA_DLQ_TOPIC", dlq_topic.clone()),
        ("KAFKA_GROUP", group.clone()),
        ("KAFKA_PARTITIONS", partitions.to_string()),
        ("KAFKA_REPLICATION", replication.to_string()),
        ("KAFKA_RETENTION_HOURS", retention_hours.to_string()),
    ]
}
