//! What every kind of run has in common, beyond what every custom resource has.

use std::hash::Hash;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::object::{HasSpec, HasStatus};

use crate::reconciled::{Reconciled, ReconciledStatus};

/// A custom resource that asks for work to be done once.
pub trait Run: Reconciled + HasSpec<Spec: RunSpec> + HasStatus<Status: RunStatus> {
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
}

/// The fields that every run's spec has.
pub trait RunSpec {
    fn month(&self) -> &str;
    fn suspend(&self) -> bool;
    fn ttl_seconds_after_finished(&self) -> Option<i64>;
}

/// The fields that every run's status has.
pub trait RunStatus: ReconciledStatus {
    type Phase: RunPhase;

    fn phase(&self) -> Option<Self::Phase>;
    /// When the run began, by the database's clock; None until then.
    fn start_time(&self) -> Option<Timestamp>;
    fn completion_time(&self) -> Option<Timestamp>;
    fn set_phase(&mut self, phase: Self::Phase);
    fn set_completion_time(&mut self, at: Time);
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

/// Implements the traits for a kind of run; the fields of all kinds have the same names.
macro_rules! impl_run {
    ($run:ident, $spec:ty, $status:ty, $phase:ty) => {
        $crate::reconciled::impl_reconciled!($run, $status, |status, others| $crate::kstatus::of_run(
            $crate::kstatus::RunState::of(status.phase),
            others
        ));

        impl $crate::run::Run for $run {}

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
        }
    };
}
pub(crate) use impl_run;
