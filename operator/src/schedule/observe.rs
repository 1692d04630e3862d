//! Observes a schedule: the runs of the namespace, and what the database has of its months. Writes
//! nothing and concludes nothing.

use api::conditions::{self, STARTED};
use api::reconciled::Reconciled as _;
use api::run::{Run, RunPhase as _};
use api::{BillingRun, BillingSchedule, NotificationRun, billing_run, notification_run};
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
use super::observed::{DatabaseView, ExistingRun, Observed, RunState};
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
            (run.spec.rollback.is_none().then(|| run.spec.month.clone()), billing_state(run))
        })
        .await?,
        notification: list::<NotificationRun>(schedules, &namespace, |run| {
            (Some(run.spec.month.clone()), notification_state(run))
        })
        .await?,
    })
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
    read: impl Fn(&R) -> (Option<String>, RunState),
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
            // A run with an invalid spec waits for a person, and has a name.
            let (month, state) = run.0.as_ref().map_or((None, RunState::Waiting), &read);
            let controller = run.owner_references().iter().find(|owner| owner.controller == Some(true));
            ExistingRun {
                name: run.name_any(),
                uid: run.uid().unwrap_or_default(),
                owner: controller.map(|owner| owner.uid.clone()),
                month: month.and_then(|month| month.parse().ok()),
                state,
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
        Some(phase) if phase.is_final() => RunState::Succeeded,
        _ => RunState::Working,
    }
}
