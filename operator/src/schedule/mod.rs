//! Billing schedules: what the reconcile loop observes of one ([`observe`]), decides ([`decide`],
//! without a client) and applies ([`apply`]). A schedule creates runs and deletes finished ones;
//! what a run does is not its business. The database's part is `store::schedule`.

mod action;
mod apply;
mod cron;
mod decide;
mod emails;
mod months;
mod observe;
mod observed;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::conditions::{STALLED, holds};
use api::reconciled::Reconciled as _;
use api::{BillingRun, BillingSchedule, BillingScheduleStatus, NotificationRun};
use kube::core::PartialObjectMeta;
use kube::runtime::events::Recorder;
use kube::runtime::watcher;
use kube::{Api, Client};

use self::action::{Action, ScheduleDecision};
use self::observed::Observed;
use crate::clock::Clock;
use crate::controller::Context;
use crate::controller::kind::{ControllerOf, Kind};
use crate::database::Database;
use crate::error::RunError;
use crate::metrics::Metrics;

/// What observing and applying need, for all schedules together.
pub(crate) struct Schedules {
    pub(crate) client: Client,
    pub(crate) database: Database,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

impl Kind for Schedules {
    type Object = BillingSchedule;
    type Observed = Observed;
    type Action = Action;
    type Outcome = ();

    fn watch(
        controller: ControllerOf<Self>,
        context: &Arc<Context<Self>>,
        namespace: &str,
    ) -> ControllerOf<Self> {
        let billing: Api<PartialObjectMeta<BillingRun>> = Api::namespaced(context.client.clone(), namespace);
        let notification: Api<PartialObjectMeta<NotificationRun>> =
            Api::namespaced(context.client.clone(), namespace);
        controller.owns(billing, watcher::Config::default()).owns(notification, watcher::Config::default())
    }

    fn count<'a>(schedules: impl Iterator<Item = &'a BillingSchedule>, metrics: &Metrics) {
        let stalled = schedules.filter(|schedule| holds(schedule.conditions(), STALLED)).count();
        metrics.schedules_stalled.set(i64::try_from(stalled).unwrap_or(i64::MAX));
    }

    fn without_estimates(status: &BillingScheduleStatus) -> BillingScheduleStatus {
        status.clone()
    }

    async fn observe(&self, schedule: &BillingSchedule, _: Option<()>) -> Result<Observed, RunError> {
        observe::observe(self, schedule).await
    }

    fn decide(&self, schedule: &BillingSchedule, observed: &Observed) -> ScheduleDecision {
        decide::decide(schedule, observed)
    }

    async fn apply(&self, schedule: &BillingSchedule, action: Action) -> Result<(), RunError> {
        apply::apply(self, schedule, action).await
    }
}
