//! Acts: on the cluster and, through `store::billing`, on the database. Every action can be repeated, and each is guarded
//! where it takes effect, so that a decision made on a stale look changes nothing.

use api::{BillingRun, labels::MANAGER};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use store::billing::{self, Begin, Beginning, Refusal};

use super::{BillingRuns, Do, Plan, job, observe};
use crate::error::{Doing as _, RunError};

pub(super) async fn perform(
    kind: &BillingRuns,
    run: &BillingRun,
    action: Do,
) -> Result<Option<Refusal>, RunError> {
    let pool = &kind.database.pool;
    match action {
        Do::Begin(plan) => return begin(kind, run, &plan).await,
        Do::Verify(key) => {
            billing::verify(pool, &key)
                .await
                .doing(|| format!("verify revision {} of {}", key.revision, key.month))?;
        }
        Do::Issue { key, approved_by } => {
            billing::issue(pool, &key, approved_by.as_deref())
                .await
                .doing(|| format!("issue revision {} of {}", key.revision, key.month))?;
        }
        Do::Reject { key, reason, ending } => {
            billing::reject(pool, &key, &reason, ending)
                .await
                .doing(|| format!("reject revision {} of {}", key.revision, key.month))?;
        }
        Do::CreateJob(new) => {
            // Not an apply, which would also take over a Job of that name that appeared since we looked.
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            jobs(kind, run)?
                .create(&params, &new)
                .await
                .doing(|| format!("create Job {}", new.name_any()))?;
        }
        Do::AdjustJob { parallelism, suspend } => {
            let name = job::name(&run.name_any());
            let patch = json!({
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": { "name": name },
                "spec": { "parallelism": parallelism, "suspend": suspend },
            });
            jobs(kind, run)?
                .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch))
                .await
                .doing(|| format!("change Job {name}"))?;
        }
        Do::DeleteJob => {
            let name = job::name(&run.name_any());
            match jobs(kind, run)?.delete(&name, &DeleteParams::foreground()).await {
                Err(kube::Error::Api(answer)) if answer.code == 404 => {}
                answer => drop(answer.doing(|| format!("delete Job {name}"))?),
            }
        }
    }
    Ok(None)
}

fn jobs(kind: &BillingRuns, run: &BillingRun) -> Result<Api<Job>, RunError> {
    let namespace = run.namespace().ok_or(RunError::Incomplete("BillingRun", "namespace"))?;
    Ok(Api::namespaced(kind.client.clone(), &namespace))
}

async fn begin(kind: &BillingRuns, run: &BillingRun, plan: &Plan) -> Result<Option<Refusal>, RunError> {
    let namespace = run.namespace().ok_or(RunError::Incomplete("BillingRun", "namespace"))?;
    let name = format!("{namespace}/{}", run.name_any());
    let asked = Begin {
        run: &name,
        run_uid: observe::uid(run)?,
        month: plan.month,
        price_book: &plan.price_book,
        price_book_text: &plan.price_book_text,
        data_cutoff: plan.data_cutoff,
        chunk_size: run.spec.chunk_size,
        shards: run.spec.shards,
    };
    match billing::begin(&kind.database.pool, &asked).await.doing(|| format!("begin month {}", plan.month))? {
        Beginning::Begun(begun) => {
            tracing::info!(
                month = %begun.key.month,
                revision = i64::from(begun.key.revision),
                members = begun.members,
                chunks = begun.chunks,
                data_cutoff = i64::from(begun.data_cutoff),
                "planned the revision"
            );
            Ok(None)
        }
        Beginning::Refused(refusal) => Ok(Some(refusal)),
    }
}
