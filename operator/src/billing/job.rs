//! The worker Job of a billing run. Pure: the same run and revision always give the same Job.

use api::BillingRun;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use store::billing::RunSnapshot;

use crate::runs::{
    JobParts,
    job::{self, Shards, Work},
};

pub(super) fn name(run: &str) -> String {
    job::name(run, "bill")
}

pub(super) fn build(run: &BillingRun, revision: &RunSnapshot, parts: &JobParts) -> Job {
    let args = [
        "bill".to_owned(),
        format!("--month={}", revision.key.month),
        format!("--revision={}", revision.key.revision),
        format!("--fence={}", revision.key.fence),
        format!("--run={}", revision.run),
        format!("--run-uid={}", revision.key.run_uid),
        // Kubernetes fills in the shard.
        "--shard=$(JOB_COMPLETION_INDEX)".to_owned(),
    ];
    let work = Work {
        name: name(&run.name_any()),
        component: "worker",
        suspend: run.spec.suspend,
        shards: Some(Shards { completions: revision.shards, parallelism: run.spec.parallelism }),
        args: args.to_vec(),
        env: Vec::new(),
        keys: None,
    };
    job::build(run, work, parts)
}
