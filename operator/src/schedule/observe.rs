//! Observes a schedule: the runs of the namespace, and what the database has of its months. Writes
//! nothing and concludes nothing.

use api::conditions::{self, FAILED, STARTED};
use api::reconciled::Reconciled as _;
use api::run::{Run, RunPhase as _};
use api::{BillingRun, BillingSchedule, NotificationRun, billing_run, notification_run, reasons};
use domain::month::BillingMonth;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Resource as _, ResourceExt as _};
use store::error::During as _;
use store::installation::Installation;
use store::{clock, schedule};

use super::Schedules;
use super::months::{LOOK_BACK, by_month};
use super::observed::{Asked, DatabaseView, ExistingRun, Observed, RunState};
use crate::controller::{database_view, run_identity};
use crate::error::{Doing as _, RunError};

pub(super) async fn observe(schedules: &Schedules, object: &BillingSchedule) -> Result<Observed, RunError> {
    let namespace = run_identity::namespace(object)?;
    // The database before the runs: a run that has ended and is deleted in between is in the database.
    let prefix = format!("{}-", run_identity::full_name(object)?);
    let pool = &schedules.database.pool;
    let read = async |installation: Installation| {
        let now = {
            let mut connection = pool.acquire().await.during("cannot connect to the database")?;
            clock::now(&mut connection).await?
        };
        let first = first_month(&installation, now);
        let months = schedule::read_months(pool, &prefix, first)
            .await
            .doing(|| "read what the database has of the schedule's months".to_owned())?;
        let last_month = schedule::read_last_month(pool, &prefix)
            .await
            .doing(|| "read the schedule's last month".to_owned())?;
        Ok(DatabaseView { now, installation, months: by_month(months), last_month })
    };
    let database = database_view::within_time(&schedules.database, read).await;
    Ok(Observed {
        now: schedules.clock.now(),
        database,
        billing: list::<BillingRun>(schedules, &namespace, |run| {
            let month = run.spec.rollback.is_none().then(|| run.spec.month.clone());
            Facts { month, state: billing_state(run), asked: None }
        })
        .await?,
        notification: list::<NotificationRun>(schedules, &namespace, |run| {
            let month = Some(run.spec.month.clone());
            Facts { month, state: notification_state(run), asked: asked(run) }
        })
        .await?,
    })
}

/// What the kinds of run have each in their own way.
struct Facts {
    month: Option<String>,
    state: RunState,
    asked: Option<Asked>,
}

impl Facts {
    /// A run with an invalid spec waits for a person, and has a name.
    fn of_invalid() -> Self {
        Self { month: None, state: RunState::Waiting, asked: None }
    }
}

/// The first month that a decision looks at.
fn first_month(installation: &Installation, now: Timestamp) -> BillingMonth {
    let current = BillingMonth::of(installation.zone.local_date(now)).unwrap_or(BillingMonth::FIRST);
    std::iter::successors(Some(current), |month| month.previous())
        .take(LOOK_BACK + 2)
        .last()
        .unwrap_or(current)
}

async fn list<R: Run>(
    schedules: &Schedules,
    namespace: &str,
    read: impl Fn(&R) -> Facts,
) -> Result<Vec<ExistingRun>, RunError> {
    let runs: Api<DeserializeGuard<R>> = Api::namespaced(schedules.client.clone(), namespace);
    let found = runs
        .list(&ListParams::default())
        .await
        .doing(|| format!("list the {}s of namespace {namespace}", R::KIND))?;
    Ok(found
        .items
        .iter()
        .map(|run| {
            let Facts { month, state, asked } = run.0.as_ref().map_or_else(|_| Facts::of_invalid(), &read);
            let controller = run.owner_references().iter().find(|owner| owner.controller == Some(true));
            ExistingRun {
                name: run.name_any(),
                uid: run.uid().unwrap_or_default(),
                owner: controller.map(|owner| owner.uid.clone()),
                month: month.and_then(|month| month.parse().ok()),
                state,
                created: run.creation_timestamp().map_or(Timestamp::MIN, |at| at.0),
                asked,
                deleting: run.meta().deletion_timestamp.is_some(),
            }
        })
        .collect())
}

fn billing_state(run: &BillingRun) -> RunState {
    match run.phase() {
        Some(billing_run::Phase::Succeeded) => RunState::Succeeded,
        Some(phase) if phase.is_final() => RunState::Failed,
        Some(billing_run::Phase::AwaitingApproval) => RunState::Waiting,
        // It waits for something that is missing.
        Some(billing_run::Phase::Pending)
            if conditions::find(run.conditions(), STARTED)
                .is_some_and(|started| started.status == "False") =>
        {
            RunState::Waiting
        }
        _ if run.spec.suspend => RunState::Waiting,
        _ => RunState::Working,
    }
}

fn notification_state(run: &NotificationRun) -> RunState {
    match run.phase() {
        Some(notification_run::Phase::Failed) => RunState::Failed,
        Some(notification_run::Phase::CompletedWithFailures) => RunState::Partly,
        Some(notification_run::Phase::Succeeded) => RunState::Succeeded,
        _ => RunState::Working,
    }
}

/// A run that has failed because an earlier one of its name has sent the e-mails asks for nothing.
fn asked(run: &NotificationRun) -> Option<Asked> {
    let failed = conditions::find(run.conditions(), FAILED);
    if failed.is_some_and(|failed| failed.reason == reasons::NAME_USED) {
        return None;
    }
    let spec = &run.spec;
    Some(Asked { select: spec.select, scope: spec.scope.clone(), rehearsal: spec.rehearsal })
}

#[cfg(test)]
mod tests {
    use api::notification_run::Select;
    use serde_json::{Value, json};

    use super::*;

    fn notification(phase: &Value, conditions: &Value) -> NotificationRun {
        serde_json::from_value(json!({
            "metadata": {"name": "close-2026-11"},
            "spec": {"month": "2026-11", "select": "Failed", "scope": {"memberIds": [7]}, "rehearsal": true},
            "status": {"phase": phase, "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_notification_run_stands_as_its_phase_says() {
        for (phase, state) in [
            ("Pending", RunState::Working),
            ("Publishing", RunState::Working),
            ("Sending", RunState::Working),
            ("Succeeded", RunState::Succeeded),
            ("CompletedWithFailures", RunState::Partly),
            ("Failed", RunState::Failed),
        ] {
            let run = notification(&json!(phase), &json!([]));
            assert_eq!(notification_state(&run), state, "{phase}");
        }
        assert_eq!(notification_state(&notification(&Value::Null, &json!([]))), RunState::Working);
    }

    #[test]
    fn a_notification_run_asks_for_what_its_spec_says_unless_its_name_was_used() {
        let failed = |reason: &str| {
            let condition = json!({"type": "Failed", "status": "True", "reason": reason, "message": "",
                                   "lastTransitionTime": "2026-12-01T00:00:00Z"});
            asked(&notification(&json!("Failed"), &json!([condition])))
        };
        let found = failed("WorkersFailed").unwrap();
        assert_eq!((found.select, found.rehearsal), (Select::Failed, true));
        assert_eq!(found.scope.unwrap().member_ids, Some(vec![7]));
        assert_eq!(failed("NameUsed"), None);
    }
}
