//! What every kind of run has in common, so that one reconcile loop can work with each kind.

use std::fmt;
use std::hash::Hash;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use kube::core::object::{HasSpec, HasStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A custom resource that asks for work to be done once.
pub trait Run:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasSpec<Spec: RunSpec>
    + HasStatus<Status: RunStatus>
    + Clone
    + DeserializeOwned
    + Serialize
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// The kind as Kubernetes writes it, such as `BillingRun`.
    const KIND: &'static str;

    fn phase(&self) -> Option<<Self::Status as RunStatus>::Phase> {
        self.status().and_then(RunStatus::phase)
    }

    /// Whether the run has ended. Its status no longer changes.
    fn is_over(&self) -> bool {
        self.phase().is_some_and(RunPhase::is_final)
    }

    /// Whether the last status says that the database has a record of the run.
    fn has_begun(&self) -> bool {
        self.status().is_some_and(|status| status.start_time().is_some())
    }

    /// The conditions of the last status.
    fn conditions(&self) -> &[Condition] {
        self.status().map_or(&[], RunStatus::conditions)
    }

    /// The run with this status.
    #[must_use]
    fn with_status(&self, status: Self::Status) -> Self {
        let mut run = self.clone();
        *run.status_mut() = Some(status);
        run
    }
}

/// The fields that every kind's spec has.
pub trait RunSpec {
    fn month(&self) -> &str;
    fn suspend(&self) -> bool;
    fn ttl_seconds_after_finished(&self) -> Option<i64>;
}

/// The fields that every kind's status has.
pub trait RunStatus: Clone + Default + PartialEq + Serialize + Send + Sync + 'static {
    type Phase: RunPhase;

    fn phase(&self) -> Option<Self::Phase>;
    fn conditions(&self) -> &[Condition];
    /// When the run began, by the database's clock; None until then.
    fn start_time(&self) -> Option<Timestamp>;
    fn completion_time(&self) -> Option<Timestamp>;
    fn set_phase(&mut self, phase: Self::Phase);
    fn set_completion_time(&mut self, at: Time);
    fn set_observed_generation(&mut self, generation: Option<i64>);
    fn set_conditions(&mut self, conditions: Vec<Condition>);
}

/// The phases of a kind of run.
pub trait RunPhase: Copy + Eq + Hash + Send + Sync + 'static {
    /// Every phase, for metrics.
    const ALL: &[Self];
    /// The phase before the run has begun.
    const PENDING: Self;
    /// The phase of a run that failed.
    const FAILED: Self;

    /// Whether the run is over.
    fn is_final(self) -> bool;
    /// Whether the run is over and did all that it was asked for.
    fn is_success(self) -> bool;
    /// The phase as the status has it.
    fn as_str(self) -> &'static str;
}

/// Implements the traits for a kind; the fields of all kinds have the same names.
macro_rules! impl_run {
    ($run:ident, $spec:ty, $status:ty, $phase:ty) => {
        impl $crate::run::Run for $run {
            const KIND: &'static str = stringify!($run);
        }

        impl $crate::run::RunSpec for $spec {
            fn month(&self) -> &str {
                &self.month
            }

            fn suspend(&self) -> bool {
                self.suspend
            }

            fn ttl_seconds_after_finished(&self) -> Option<i64> {
                self.ttl_seconds_after_finished
            }
        }

        impl $crate::run::RunStatus for $status {
            type Phase = $phase;

            fn phase(&self) -> Option<$phase> {
                self.phase
            }

            fn conditions(&self) -> &[::k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition] {
                &self.conditions
            }

            fn start_time(&self) -> Option<::k8s_openapi::jiff::Timestamp> {
                self.start_time.as_ref().map(|time| time.0)
            }

            fn completion_time(&self) -> Option<::k8s_openapi::jiff::Timestamp> {
                self.completion_time.as_ref().map(|time| time.0)
            }

            fn set_phase(&mut self, phase: $phase) {
                self.phase = Some(phase);
            }

            fn set_completion_time(&mut self, at: ::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time) {
                self.completion_time = Some(at);
            }

            fn set_observed_generation(&mut self, generation: Option<i64>) {
                self.observed_generation = generation;
            }

            fn set_conditions(
                &mut self,
                conditions: Vec<::k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
            ) {
                self.conditions = conditions;
            }
        }
    };
}
pub(crate) use impl_run;
