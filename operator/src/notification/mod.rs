//! Notification runs: what the reconcile loop observes of one ([`observe`]), decides ([`decide`],
//! without a client), builds ([`build`]) and applies ([`apply`]). The database's part is
//! `store::notification`. The consumers that send the e-mails serve every run, and
//! `crate::autoscaling` scales them.

mod action;
mod apply;
mod build;
mod consumer_problem;
mod decide;
mod notification_runs;
mod observe;
mod observed;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::run::Run as _;
use api::{NotificationRun, NotificationRunStatus};
use jiff::Timestamp;
use store::notification::Rejection;

use self::action::{Action, NotificationDecision};
pub(crate) use self::notification_runs::{NotificationRuns, NotificationSettings};
use self::observed::Observed;
use crate::controller::Context;
use crate::controller::kind::{ControllerOf, Kind, StatusOf};
use crate::controller::lifecycle;
use crate::controller::run_kind::{self, RunKind};
use crate::error::RunError;
use crate::metrics::Metrics;

impl Kind for NotificationRuns {
    type Object = NotificationRun;
    type Observed = Observed;
    type Action = Action;
    type Outcome = Option<Rejection>;

    fn watch(
        controller: ControllerOf<Self>,
        context: &Arc<Context<Self>>,
        namespace: &str,
    ) -> ControllerOf<Self> {
        run_kind::watch(controller, context, namespace)
    }

    fn count<'a>(runs: impl Iterator<Item = &'a NotificationRun>, metrics: &Metrics) {
        metrics.count_runs(runs);
    }

    fn count_change(
        before: Option<&NotificationRunStatus>,
        after: &NotificationRunStatus,
        metrics: &Metrics,
    ) {
        metrics.run_changed::<NotificationRun>(before, after);
    }

    fn without_estimates(status: &NotificationRunStatus) -> NotificationRunStatus {
        status::without_estimates(status)
    }

    async fn observe(
        &self,
        run: &NotificationRun,
        rejection: Option<Option<Rejection>>,
    ) -> Result<Observed, RunError> {
        observe::observe(self, run, rejection.flatten()).await
    }

    fn decide(&self, run: &NotificationRun, observed: &Observed) -> NotificationDecision {
        decide::decide(run, observed)
    }

    fn with_failure(
        &self,
        run: &NotificationRun,
        now: Timestamp,
        reason: &'static str,
        message: &str,
    ) -> Option<StatusOf<Self>> {
        lifecycle::with_failure(run, now, reason, message)
    }

    async fn apply(&self, run: &NotificationRun, action: Action) -> Result<Option<Rejection>, RunError> {
        apply::apply(self, run, action).await
    }
}

impl RunKind for NotificationRuns {
    fn waits_for(&self, run: &NotificationRun, config_map: &str) -> bool {
        !run.has_begun() && self.settings.templates_of(run) == config_map
    }
}
