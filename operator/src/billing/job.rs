//! The worker Job of a billing run. Pure: the same run and revision always give the same Job.

use api::BillingRun;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use store::billing::RunSnapshot;
use worker_cli::BillArgs;

use crate::runs::{
    JobParts,
    job::{self, Shards, Work},
};

pub(super) fn name(run: &str) -> String {
    job::name(run, "bill")
}

pub(super) fn build(run: &BillingRun, revision: &RunSnapshot, parts: &JobParts) -> Job {
    // Which shard it is, each pod of an Indexed Job finds in its environment.
    let args = BillArgs {
        month: revision.key.month,
        revision: revision.key.revision,
        fence: revision.key.fence,
        run: revision.run.clone(),
        run_uid: revision.key.run_uid,
    };
    let work = Work {
        name: name(&run.name_any()),
        component: "worker",
        suspend: run.spec.suspend,
        shards: Some(Shards { completions: revision.shards, parallelism: run.spec.parallelism }),
        args: args.to_args(),
        keys: None,
    };
    job::build(run, work, parts)
}
