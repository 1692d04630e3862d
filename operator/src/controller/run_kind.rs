//! What one kind of run adds to the reconcile loop: its observation, its decisions and its actions.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use api::run::Run;
use jiff::Timestamp;
use kube::core::object::HasStatus;

use super::decision::Decision;
use super::lifecycle;
use crate::error::RunError;

/// Short enough that a run says within ten seconds what it waits for.
pub(crate) const ACTION_LIMIT: Duration = Duration::from_secs(8);

/// One kind of run.
pub(crate) trait RunKind: Send + Sync + 'static {
    type Object: Run;
    /// Everything that a decision is made of.
    type Observed: Send + Sync;
    type Action: fmt::Debug + Send;
    /// The result of an action, as the next decision needs it.
    type Outcome: Send;

    /// The status without the rates and estimates, which change while nothing happens.
    fn without_estimates(status: &StatusOf<Self>) -> StatusOf<Self>;
    /// Whether the run may be waiting for this ConfigMap.
    fn waits_for(&self, run: &Self::Object, config_map: &str) -> bool;
    /// Reads; writes nothing and concludes nothing.
    fn observe(
        &self,
        run: &Self::Object,
        outcome: Option<Self::Outcome>,
    ) -> impl Future<Output = Result<Self::Observed, RunError>> + Send;
    /// Pure.
    fn decide(&self, run: &Self::Object, observed: &Self::Observed)
    -> Decision<StatusOf<Self>, Self::Action>;
    /// The last status with the reason why the last attempt failed, or has not ended. None if the
    /// status does not change any more.
    fn with_failure(
        &self,
        run: &Self::Object,
        now: Timestamp,
        reason: &'static str,
        message: &str,
    ) -> Option<StatusOf<Self>> {
        lifecycle::with_failure(run, now, reason, message)
    }
    /// How long the action may take before the run's condition says that it has not ended.
    fn action_limit(&self, _action: &Self::Action) -> Duration {
        ACTION_LIMIT
    }
    /// Takes an action. It can be repeated.
    fn apply(
        &self,
        run: &Self::Object,
        action: Self::Action,
    ) -> impl Future<Output = Result<Self::Outcome, RunError>> + Send;
}

/// The status of a kind's runs.
pub(crate) type StatusOf<K> = <<K as RunKind>::Object as HasStatus>::Status;
