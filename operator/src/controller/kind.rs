//! What one kind of object adds to the reconcile loop: its observation, its decisions and its
//! actions.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::conditions::{ConditionUpdate, ORDER, PROGRESSING};
use api::reconciled::Reconciled;
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::core::object::HasStatus;
use kube::runtime::Controller;

use super::Context;
use super::decision::Decision;
use super::status_builder::StatusBuilder;
use crate::error::RunError;
use crate::metrics::Metrics;

/// Short enough that an object says within ten seconds what it waits for.
pub(crate) const ACTION_LIMIT: Duration = Duration::from_secs(8);

/// One kind of object.
pub(crate) trait Kind: Sized + Send + Sync + 'static {
    type Object: Reconciled;
    /// Everything that a decision is made of.
    type Observed: Send + Sync;
    type Action: fmt::Debug + Send;
    /// The result of an action, as the next decision needs it.
    type Outcome: Send;

    /// Adds what else triggers a reconciliation, besides the objects themselves.
    fn watch(
        controller: ControllerOf<Self>,
        context: &Arc<Context<Self>>,
        namespace: &str,
    ) -> ControllerOf<Self>;
    /// Updates the metrics of all objects of the kind.
    fn count<'a>(objects: impl Iterator<Item = &'a Self::Object>, metrics: &Metrics);
    /// Updates the metrics of events, after a status was written.
    fn count_change(_before: Option<&StatusOf<Self>>, _after: &StatusOf<Self>, _metrics: &Metrics) {}
    /// The status without the rates and estimates, which change while nothing happens.
    fn without_estimates(status: &StatusOf<Self>) -> StatusOf<Self>;
    /// Reads; writes nothing and concludes nothing.
    fn observe(
        &self,
        object: &Self::Object,
        outcome: Option<Self::Outcome>,
    ) -> impl Future<Output = Result<Self::Observed, RunError>> + Send;
    /// Pure.
    fn decide(
        &self,
        object: &Self::Object,
        observed: &Self::Observed,
    ) -> Decision<StatusOf<Self>, Self::Action>;
    /// The last status with the reason why the last attempt failed, or has not ended. None if the
    /// status does not change any more.
    fn with_failure(
        &self,
        object: &Self::Object,
        now: Timestamp,
        reason: &'static str,
        message: &str,
    ) -> Option<StatusOf<Self>> {
        let status = object.status().cloned().unwrap_or_default();
        let update = ConditionUpdate::new(PROGRESSING, false, reason, message);
        Some(StatusBuilder::new(object, now, status).keep(&ORDER).condition(update).build())
    }
    /// How long the action may take before a condition of the object says that it has not ended.
    fn action_limit(&self, _action: &Self::Action) -> Duration {
        ACTION_LIMIT
    }
    /// Takes an action. It can be repeated.
    fn apply(
        &self,
        object: &Self::Object,
        action: Self::Action,
    ) -> impl Future<Output = Result<Self::Outcome, RunError>> + Send;
}

/// The status of a kind's objects.
pub(crate) type StatusOf<K> = <<K as Kind>::Object as HasStatus>::Status;
/// The controller of a kind; an object whose spec is invalid is kept with its error.
pub(crate) type ControllerOf<K> = Controller<DeserializeGuard<<K as Kind>::Object>>;
