//! What one kind of run adds to the reconcile loop: its observation, its decisions and its actions.

use std::fmt;
use std::future::Future;

use api::run::Run;
use kube::core::object::HasStatus;

use super::decision::Decision;
use crate::error::RunError;

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
    /// Takes an action. It can be repeated.
    fn apply(
        &self,
        run: &Self::Object,
        action: Self::Action,
    ) -> impl Future<Output = Result<Self::Outcome, RunError>> + Send;
}

/// The status of a kind's runs.
pub(crate) type StatusOf<K> = <<K as RunKind>::Object as HasStatus>::Status;
