//! Applies actions to the cluster and, through `store::notification`, to the database. Every action
//! can be repeated, and is guarded where it takes effect, so that a decision made on an outdated
//! observation changes nothing.

use api::NotificationRun;
use store::notification::{self, BeginRequest, BeginResult, Rejection};

use super::action::{Action, BeginPlan};
use super::notification_runs::NotificationRuns;
use crate::controller::run_identity;
use crate::controller::worker_job::job_client;
use crate::error::{Doing as _, RunError};
use crate::restore_hold;

pub(super) async fn apply(
    runs: &NotificationRuns,
    run: &NotificationRun,
    action: Action,
) -> Result<Option<Rejection>, RunError> {
    let pool = &runs.database.pool;
    match action {
        Action::Begin(plan) => return begin(runs, run, &plan).await,
        Action::Job(action) => job_client::apply(&runs.client, run, action).await?,
        Action::Release(release) => {
            let namespace = run_identity::namespace(run)?;
            restore_hold::release(&runs.client, &namespace, pool, release).await?;
        }
        Action::Adjust { id, suspended, max_per_second } => {
            notification::update_settings(pool, id, suspended, max_per_second)
                .await
                .doing(|| "record spec.suspend and spec.maxPerSecond in the database".to_owned())?;
        }
        Action::OpenRound { id, after } => {
            notification::open_round(pool, id, after).await.doing(|| format!("open round {}", after + 1))?;
        }
        Action::Finish(id) => {
            notification::finish_run(pool, id).await.doing(|| "finish the run".to_owned())?;
        }
        Action::Cancel { id, reason } => {
            notification::cancel_run(pool, id, &reason).await.doing(|| "cancel the run".to_owned())?;
        }
        Action::Fail { id, reason } => {
            notification::fail_run(pool, id, &reason).await.doing(|| "end the run as failed".to_owned())?;
        }
    }
    Ok(None)
}

async fn begin(
    runs: &NotificationRuns,
    run: &NotificationRun,
    plan: &BeginPlan,
) -> Result<Option<Rejection>, RunError> {
    let request = BeginRequest {
        run: &run_identity::full_name(run)?,
        run_uid: run_identity::uid(run)?,
        month: plan.month,
        selection: plan.selection,
        scope: &plan.scope,
        rehearsal: run.spec.rehearsal,
        skip_zero: run.spec.skip_zero,
        templates: &plan.templates,
        max_per_second: run.spec.max_per_second,
    };
    match notification::begin_run(&runs.database.pool, &request)
        .await
        .doing(|| format!("begin the notification of {}", plan.month))?
    {
        BeginResult::Started(id) => {
            tracing::info!(month = %plan.month, notification = id.0, "began the notification");
            Ok(None)
        }
        BeginResult::Rejected(rejection) => Ok(Some(rejection)),
    }
}
