//! Acts: on the cluster and, through `store::billing`, on the database. Every action can be repeated, and each is guarded
//! where it takes effect, so that a decision made on a stale look changes nothing.

use api::BillingRun;
use store::billing::{self, BeginRequest, BeginResult, Rejection};

use super::{BillingRuns, Do, Plan};
use crate::{
    error::{Doing as _, RunError},
    runs::{act, look},
};

pub(super) async fn perform(
    kind: &BillingRuns,
    run: &BillingRun,
    action: Do,
) -> Result<Option<Rejection>, RunError> {
    let pool = &kind.database.pool;
    match action {
        Do::Begin(plan) => return begin(kind, run, &plan).await,
        Do::Verify(key) => {
            billing::verify_revision(pool, &key)
                .await
                .doing(|| format!("verify revision {} of {}", key.revision, key.month))?;
        }
        Do::Issue { key, approved_by } => {
            billing::issue_revision(pool, &key, approved_by.as_deref())
                .await
                .doing(|| format!("issue revision {} of {}", key.revision, key.month))?;
        }
        Do::Reject { key, reason, ending } => {
            billing::reject_revision(pool, &key, &reason, ending)
                .await
                .doing(|| format!("reject revision {} of {}", key.revision, key.month))?;
        }
        Do::Job(action) => act::perform(&kind.client, run, action).await?,
    }
    Ok(None)
}

async fn begin(kind: &BillingRuns, run: &BillingRun, plan: &Plan) -> Result<Option<Rejection>, RunError> {
    let name = look::full_name(run)?;
    let asked = BeginRequest {
        run: &name,
        run_uid: look::uid(run)?,
        month: plan.month,
        price_book: &plan.price_book,
        price_book_text: &plan.price_book_text,
        data_cutoff: plan.data_cutoff,
        chunk_size: run.spec.chunk_size,
        shards: run.spec.shards,
    };
    match billing::begin_run(&kind.database.pool, &asked)
        .await
        .doing(|| format!("begin month {}", plan.month))?
    {
        BeginResult::Started(begun) => {
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
        BeginResult::Rejected(refusal) => Ok(Some(refusal)),
    }
}
