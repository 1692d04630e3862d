//! Creates the runs of a schedule and deletes finished ones. Every action can be repeated: a run
//! that exists already is left alone, even one that somebody else created.

use api::labels::{CREATED_BY, MANAGED_BY, MANAGER, MONTH};
use api::reconciled::Reconciled;
use api::{BillingRun, BillingSchedule, NotificationRun, reasons};
use domain::month::BillingMonth;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt as _};

use super::Schedules;
use super::action::{Action, RunKindName, run_name};
use crate::controller::events::EventRecord;
use crate::controller::{publish, run_identity};
use crate::error::{Doing as _, RunError};

pub(super) async fn apply(
    schedules: &Schedules,
    schedule: &BillingSchedule,
    action: Action,
) -> Result<(), RunError> {
    match action {
        Action::Create { kind: RunKindName::Billing, month } => {
            let spec = schedule.spec.billing.of_month(month.to_string());
            let mut run = BillingRun::new(&run_name(&schedule.name_any(), month), spec);
            // The chart's policy may ask who created a run, so that nobody approves a run of their own.
            let user = own_user(schedules).await?;
            run.metadata.annotations = Some([(CREATED_BY.to_owned(), user)].into());
            create(schedules, schedule, run, month).await
        }
        Action::Create { kind: RunKindName::Notification, month } => {
            // A schedule whose notification was taken out since the decision makes none.
            let Some(template) = &schedule.spec.notification else { return Ok(()) };
            let spec = template.of_month(month.to_string());
            let run = NotificationRun::new(&run_name(&schedule.name_any(), month), spec);
            create(schedules, schedule, run, month).await
        }
        Action::Delete { kind: RunKindName::Billing, name, uid } => {
            delete::<BillingRun>(schedules, schedule, &name, uid).await
        }
        Action::Delete { kind: RunKindName::Notification, name, uid } => {
            delete::<NotificationRun>(schedules, schedule, &name, uid).await
        }
    }
}

async fn own_user(schedules: &Schedules) -> Result<String, RunError> {
    let review = Api::<SelfSubjectReview>::all(schedules.client.clone())
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await
        .doing(|| "ask the API server for the operator's own user".to_owned())?;
    Ok(review.status.and_then(|status| status.user_info?.username).unwrap_or_default())
}

/// Makes a run the schedule's run of this month.
pub(super) fn belong_to(schedule: &BillingSchedule, month: BillingMonth, run: &mut ObjectMeta) {
    run.labels = Some(
        [(MANAGED_BY, MANAGER.to_owned()), (MONTH, month.to_string())].map(|(k, v)| (k.to_owned(), v)).into(),
    );
    // Without blockOwnerDeletion, which would take a right on the schedule's finalizers.
    run.owner_references = schedule.controller_owner_ref(&()).map(|owner| vec![owner]);
}

async fn create<R: Reconciled>(
    schedules: &Schedules,
    schedule: &BillingSchedule,
    mut run: R,
    month: BillingMonth,
) -> Result<(), RunError> {
    belong_to(schedule, month, run.meta_mut());
    let name = run.name_any();
    let runs: Api<R> = Api::namespaced(schedules.client.clone(), &run_identity::namespace(schedule)?);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match runs.create(&params, &run).await {
        // It was created since the observation.
        Err(kube::Error::Api(answer)) if answer.code == 409 => return Ok(()),
        answer => drop(answer.doing(|| format!("create {} {name}", R::KIND))?),
    }
    schedules.metrics.schedule_created(R::KIND);
    tell(schedules, schedule, reasons::RUN_CREATED, format!("created {} {name}", R::KIND)).await;
    Ok(())
}

async fn delete<R: Reconciled>(
    schedules: &Schedules,
    schedule: &BillingSchedule,
    name: &str,
    uid: String,
) -> Result<(), RunError> {
    let runs: Api<R> = Api::namespaced(schedules.client.clone(), &run_identity::namespace(schedule)?);
    let this_run = Preconditions { uid: Some(uid), resource_version: None };
    match runs.delete(name, &DeleteParams::background().preconditions(this_run)).await {
        // It is gone, or another run has its name.
        Err(kube::Error::Api(answer)) if [404, 409].contains(&answer.code) => return Ok(()),
        answer => drop(answer.doing(|| format!("delete {} {name}", R::KIND))?),
    }
    tell(schedules, schedule, reasons::RUN_DELETED, format!("deleted {} {name}, by historyLimits", R::KIND))
        .await;
    Ok(())
}

async fn tell(schedules: &Schedules, schedule: &BillingSchedule, reason: &str, note: String) {
    tracing::info!(note, "the schedule acts");
    let record = EventRecord { warning: false, reason: reason.to_owned(), note };
    publish(&schedules.recorder, schedule, record).await;
}
