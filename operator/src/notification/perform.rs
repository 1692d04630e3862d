//! Acts: on the cluster and, through `store::notification`, on the database. Every action can be repeated, and each is guarded
//! where it takes effect, so that a decision made on a stale look changes nothing.

use api::NotificationRun;
use store::notification::{self, BeginRequest, BeginResult, Rejection};

use super::{Do, NotificationRuns, Plan};
use crate::{
    error::{Doing as _, RunError},
    runs::{act, look},
};

pub(super) async fn perform(
    kind: &NotificationRuns,
    run: &NotificationRun,
    action: Do,
) -> Result<Option<Rejection>, RunError> {
    let pool = &kind.database.pool;
    match action {
        Do::Begin(plan) => return begin(kind, run, &plan).await,
        Do::Job(action) => act::perform(&kind.client, run, action).await?,
        Do::Adjust { id, suspended, max_per_second } => {
            notification::update_settings(pool, id, suspended, max_per_second)
                .await
                .doing(|| "pass the run's suspension and rate on".to_owned())?;
        }
        Do::OpenRound { id, after } => {
            notification::open_round(pool, id, after).await.doing(|| format!("open round {}", after + 1))?;
        }
        Do::Finish(id) => {
            notification::finish_run(pool, id).await.doing(|| "finish the run".to_owned())?;
        }
        Do::Cancel { id, reason } => {
            notification::cancel_run(pool, id, &reason).await.doing(|| "call the run off".to_owned())?;
        }
        Do::Fail { id, reason } => {
            notification::fail_run(pool, id, &reason).await.doing(|| "give the run up".to_owned())?;
        }
    }
    Ok(None)
}

async fn begin(
    kind: &NotificationRuns,
    run: &NotificationRun,
    plan: &Plan,
) -> Result<Option<Rejection>, RunError> {
    let asked = BeginRequest {
        run: &look::full_name(run)?,
        run_uid: look::uid(run)?,
        month: plan.month,
        selection: plan.selection,
        scope: &plan.scope,
        rehearsal: run.spec.rehearsal,
        templates: &plan.templates,
        max_per_second: run.spec.max_per_second,
    };
    match notification::begin_run(&kind.database.pool, &asked)
        .await
        .doing(|| format!("begin the notices of {}", plan.month))?
    {
        BeginResult::Started(id) => {
            tracing::info!(month = %plan.month, notification = id.0, "began the notices");
            Ok(None)
        }
        BeginResult::Rejected(refusal) => Ok(Some(refusal)),
    }
}
