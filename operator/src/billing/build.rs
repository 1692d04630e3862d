//! Builds the worker Job of a billing run. Pure: the same run and revision always give the same
//! Job.

use api::BillingRun;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use store::billing::RunSnapshot;
use worker_cli::BillArgs;

use crate::controller::worker_job::{self, JobSettings, Shards, WorkerTask};

pub(super) fn name(run: &str) -> String {
    worker_job::job_name(run, "bill")
}

pub(super) fn build(run: &BillingRun, revision: &RunSnapshot, settings: &JobSettings) -> Job {
    // Each pod of an Indexed Job has its shard in its environment.
    let args = BillArgs {
        month: revision.key.month,
        revision: revision.key.revision,
        fence: revision.key.fence,
        run: revision.run.clone(),
        run_uid: revision.key.run_uid,
    };
    let task = WorkerTask {
        name: name(&run.name_any()),
        component: "worker",
        suspend: run.spec.suspend,
        shards: Some(Shards { completions: revision.shards, parallelism: run.spec.parallelism }),
        args: args.to_args(),
        keys: None,
    };
    worker_job::build(run, task, settings)
}
