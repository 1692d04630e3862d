//! A status in the making: what it says for every kind of run, and how its conditions follow the ones before. Pure.

use api::{
    conditions::{self, APPROVED, STARTED, SUSPENDED, Said, TRANSPORT_AVAILABLE, status_text},
    run::{Run, RunSpec as _, RunStatus as _},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

type PhaseOf<R> = <<R as kube::core::object::HasStatus>::Status as api::run::RunStatus>::Phase;

pub(crate) struct Report<'a, R: Run> {
    run: &'a R,
    now: Timestamp,
    status: R::Status,
    said: Vec<Said>,
}

impl<'a, R: Run> Report<'a, R> {
    /// Begins with these figures and no condition.
    pub(crate) fn of(run: &'a R, now: Timestamp, status: R::Status) -> Self {
        Self { run, now, status, said: Vec::new() }
    }

    /// What was known before still holds.
    pub(crate) fn unchanged(run: &'a R, now: Timestamp, phase: PhaseOf<R>) -> Self {
        let mut status = run.status().cloned().unwrap_or_default();
        status.set_phase(phase);
        Self::of(run, now, status).keeping(&[STARTED, SUSPENDED, APPROVED, TRANSPORT_AVAILABLE])
    }

    /// Keeps conditions as they were, until something else is said of their type.
    pub(crate) fn keeping(mut self, types: &[&'static str]) -> Self {
        for type_ in types {
            if let Some(old) = conditions::find(self.run.conditions(), type_) {
                let said = Said::new(
                    type_,
                    old.status == status_text(true),
                    old.reason.clone(),
                    old.message.clone(),
                );
                self = self.saying(said);
            }
        }
        self
    }

    /// Says it, instead of whatever was said of its type.
    pub(crate) fn saying(mut self, said: Said) -> Self {
        self.said.retain(|old| old.type_ != said.type_);
        self.said.push(said);
        self
    }

    /// Says whether the run is suspended; a run that never was says nothing.
    pub(crate) fn saying_whether_suspended(self) -> Self {
        if self.run.spec().suspend() {
            let message = "no further work begins; set spec.suspend to false to go on from here";
            self.saying(Said::new(SUSPENDED, true, "Suspended", message))
        } else if conditions::find(self.run.conditions(), SUSPENDED).is_some() {
            self.saying(Said::new(SUSPENDED, false, "Resumed", "the run goes on"))
        } else {
            self
        }
    }

    pub(crate) fn ended(mut self, at: Timestamp) -> Self {
        self.status.set_completion_time(whole_second(at));
        self
    }

    pub(crate) fn status(mut self) -> R::Status {
        let generation = self.run.meta().generation;
        let said =
            conditions::replace(self.run.conditions(), &self.said, generation, &whole_second(self.now));
        self.status.set_observed_generation(generation);
        self.status.set_conditions(said);
        self.status
    }
}

/// Kubernetes keeps times to the second; more would never compare equal to what was read back.
pub(crate) fn whole_second(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}
