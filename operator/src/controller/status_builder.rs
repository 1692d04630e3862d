//! Builds the status of an object of any kind: its figures, and its conditions as they follow from the
//! ones before. The conditions of kstatus are added here and nowhere else. Pure.

use api::conditions::{
    self, APPROVED, ConditionUpdate, STARTED, SUSPENDED, TRANSPORT_AVAILABLE, status_text,
};
use api::reconciled::{Reconciled, ReconciledStatus as _};
use api::run::{Run, RunSpec as _, RunStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::object::HasStatus;

type PhaseOf<R> = <<R as HasStatus>::Status as RunStatus>::Phase;

pub(crate) struct StatusBuilder<'a, R: Reconciled> {
    run: &'a R,
    now: Timestamp,
    status: R::Status,
    conditions: Vec<ConditionUpdate>,
}

impl<'a, R: Reconciled> StatusBuilder<'a, R> {
    /// Starts with this status and no condition.
    pub(crate) fn new(run: &'a R, now: Timestamp, status: R::Status) -> Self {
        Self { run, now, status, conditions: Vec::new() }
    }

    /// Keeps the last conditions of these types, unless [`Self::condition`] replaces them.
    pub(crate) fn keep(mut self, types: &[&'static str]) -> Self {
        for type_ in types {
            if let Some(old) = conditions::find(self.run.conditions(), type_) {
                self = self.condition(ConditionUpdate::new(
                    type_,
                    old.status == status_text(true),
                    old.reason.clone(),
                    old.message.clone(),
                ));
            }
        }
        self
    }

    /// Sets a condition, in place of any other of its type.
    pub(crate) fn condition(mut self, update: ConditionUpdate) -> Self {
        self.conditions.retain(|old| old.type_ != update.type_);
        self.conditions.push(update);
        self
    }

    pub(crate) fn build(mut self) -> R::Status {
        let generation = self.run.meta().generation;
        let now = whole_second(self.now);
        self.conditions.retain(|update| !conditions::HEALTH.contains(&update.type_));
        self.conditions.extend(self.status.health(&self.conditions));
        let conditions = conditions::replace(self.run.conditions(), &self.conditions, generation, &now);
        self.status.set_observed_generation(generation);
        self.status.set_conditions(conditions);
        self.status
    }
}

impl<'a, R: Run> StatusBuilder<'a, R> {
    /// Starts with the last status, in this phase, with the conditions that still hold.
    pub(crate) fn from_last(run: &'a R, now: Timestamp, phase: PhaseOf<R>) -> Self {
        let mut status = run.status().cloned().unwrap_or_default();
        status.set_phase(phase);
        Self::new(run, now, status).keep(&[STARTED, SUSPENDED, APPROVED, TRANSPORT_AVAILABLE])
    }

    /// The last status of a run that is over, as it was, with the conditions of kstatus: an earlier
    /// version did not write them.
    pub(crate) fn finished(run: &'a R, now: Timestamp) -> R::Status {
        let status = run.status().cloned().unwrap_or_default();
        Self::new(run, now, status).keep(&conditions::ORDER).build()
    }

    /// Sets the condition Suspended, unless the run never was suspended.
    pub(crate) fn suspended_condition(self) -> Self {
        if self.run.spec().suspend() {
            let message = "no new work starts; set spec.suspend to false to resume the run";
            self.condition(ConditionUpdate::new(SUSPENDED, true, "Suspended", message))
        } else if conditions::find(self.run.conditions(), SUSPENDED).is_some() {
            self.condition(ConditionUpdate::new(SUSPENDED, false, "Resumed", "the run has resumed"))
        } else {
            self
        }
    }

    pub(crate) fn completed_at(mut self, at: Timestamp) -> Self {
        self.status.set_completion_time(whole_second(at));
        self
    }
}

/// Kubernetes keeps times to the second: a finer time would never equal what is read back.
pub(crate) fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}
