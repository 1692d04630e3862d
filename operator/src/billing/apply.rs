//! Applies actions to the cluster and, through `store::billing`, to the database. Every action can
//! be repeated, and is guarded where it takes effect, so that a decision made on an outdated
//! observation changes nothing.

use api::BillingRun;
use store::billing::{
    self, BeginRequest, BeginResult, Rebilling, Rejection, RollbackRequest, RollbackResult,
};

use super::action::{Action, BeginPlan, RollbackPlan};
use super::billing_runs::BillingRuns;
use crate::controller::run_identity;
use crate::controller::worker_job::job_client;
use crate::error::{Doing as _, RunError};

pub(super) async fn apply(
    runs: &BillingRuns,
    run: &BillingRun,
    action: Action,
) -> Result<Option<Rejection>, RunError> {
    let pool = &runs.database.pool;
    match action {
        Action::Begin(plan) => return begin(runs, run, &plan).await,
        Action::RollBack(plan) => return roll_back(runs, run, &plan).await,
        Action::Verify(key) => {
            billing::verify_revision(pool, &key)
                .await
                .doing(|| format!("verify revision {} of {}", key.revision, key.month))?;
        }
        Action::Issue { key, approved_by } => {
            billing::issue_revision(pool, &key, approved_by.as_deref())
                .await
                .doing(|| format!("issue revision {} of {}", key.revision, key.month))?;
        }
        Action::Reject { key, reason, ending } => {
            billing::reject_revision(pool, &key, &reason, ending)
                .await
                .doing(|| format!("reject revision {} of {}", key.revision, key.month))?;
        }
        Action::Job(action) => job_client::apply(&runs.client, run, action).await?,
    }
    Ok(None)
}

async fn begin(
    runs: &BillingRuns,
    run: &BillingRun,
    plan: &BeginPlan,
) -> Result<Option<Rejection>, RunError> {
    let name = run_identity::full_name(run)?;
    let request = BeginRequest {
        run: &name,
        run_uid: run_identity::uid(run)?,
        month: plan.month,
        price_book: &plan.price_book,
        price_book_text: &plan.price_book_text,
        data_cutoff: plan.data_cutoff,
        chunk_size: run.spec.chunk_size,
        shards: run.spec.shards,
        rebill: plan.rebill.as_ref().map(|rebill| Rebilling {
            of_revision: rebill.of_revision,
            reason: &rebill.reason,
            scope: &rebill.scope,
            after_sent: rebill.after_sent,
        }),
        require_sources: &run.spec.require_sources,
    };
    match billing::begin_run(&runs.database.pool, &request)
        .await
        .doing(|| format!("begin billing month {}", plan.month))?
    {
        BeginResult::Started(started) => {
            tracing::info!(
                month = %started.key.month,
                revision = i64::from(started.key.revision),
                members = started.members,
                chunks = started.chunks,
                data_cutoff = i64::from(started.data_cutoff),
                "planned the revision"
            );
            Ok(None)
        }
        BeginResult::Rejected(rejection) => Ok(Some(rejection)),
    }
}

async fn roll_back(
    runs: &BillingRuns,
    run: &BillingRun,
    plan: &RollbackPlan,
) -> Result<Option<Rejection>, RunError> {
    let name = run_identity::full_name(run)?;
    let request = RollbackRequest {
        run: &name,
        run_uid: run_identity::uid(run)?,
        month: plan.month,
        revision: plan.revision,
        reason: &plan.reason,
    };
    match billing::roll_back_revision(&runs.database.pool, &request)
        .await
        .doing(|| format!("roll back revision {} of {}", plan.revision, plan.month))?
    {
        RollbackResult::RolledBack(rollback) => {
            tracing::info!(
                month = %rollback.month,
                revision = i64::from(rollback.revision),
                outcomes = rollback.outcomes,
                "rolled the revision back"
            );
            Ok(None)
        }
        RollbackResult::Rejected(rejection) => Ok(Some(rejection)),
    }
}
