//! Billing runs: what the reconcile loop observes of one ([`observe`]), decides ([`decide`],
//! without a client), builds ([`build`]) and applies ([`apply`]). The database's part is
//! `store::billing`.

mod action;
mod apply;
mod billing_runs;
mod build;
mod decide;
mod observe;
mod observed;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use api::run::Run as _;
use api::{BillingRun, BillingRunStatus};
use jiff::Timestamp;
use store::billing::Rejection;

use self::action::{Action, BillingDecision};
pub(crate) use self::billing_runs::BillingRuns;
use self::observed::Observed;
use crate::controller::Context;
use crate::controller::kind::{ACTION_LIMIT, ControllerOf, Kind, StatusOf};
use crate::controller::lifecycle;
use crate::controller::run_kind::{self, RunKind};
use crate::error::RunError;
use crate::metrics::Metrics;

/// A million members take about ten seconds on two cores.
const LONGEST_VERIFICATION: Duration = Duration::from_secs(60);
const LONGEST_PLANNING: Duration = Duration::from_secs(30);

impl Kind for BillingRuns {
    type Object = BillingRun;
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

    fn count<'a>(runs: impl Iterator<Item = &'a BillingRun>, metrics: &Metrics) {
        metrics.count_runs(runs);
    }

    fn count_change(before: Option<&BillingRunStatus>, after: &BillingRunStatus, metrics: &Metrics) {
        metrics.run_changed::<BillingRun>(before, after);
    }

    fn without_estimates(status: &BillingRunStatus) -> BillingRunStatus {
        status::without_estimates(status)
    }

    async fn observe(
        &self,
        run: &BillingRun,
        rejection: Option<Option<Rejection>>,
    ) -> Result<Observed, RunError> {
        observe::observe(self, run, rejection.flatten()).await
    }

    fn decide(&self, run: &BillingRun, observed: &Observed) -> BillingDecision {
        decide::decide(run, observed)
    }

    fn with_failure(
        &self,
        run: &BillingRun,
        now: Timestamp,
        reason: &'static str,
        message: &str,
    ) -> Option<StatusOf<Self>> {
        lifecycle::with_failure(run, now, reason, message)
    }

    fn action_limit(&self, action: &Action) -> Duration {
        match action {
            // They read or plan all members of the month.
            Action::Verify(_) => LONGEST_VERIFICATION,
            Action::Begin(_) => LONGEST_PLANNING,
            _ => ACTION_LIMIT,
        }
    }

    async fn apply(&self, run: &BillingRun, action: Action) -> Result<Option<Rejection>, RunError> {
        apply::apply(self, run, action).await
    }
}

impl RunKind for BillingRuns {
    fn waits_for(&self, run: &BillingRun, config_map: &str) -> bool {
        !run.has_begun() && run.spec.price_book_ref.as_ref().is_some_and(|book| book.name == config_map)
    }
}
