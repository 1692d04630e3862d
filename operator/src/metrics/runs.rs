//! The runs in the cluster.

use api::run::RunPhase;
use prometheus::IntGaugeVec;

use super::registrar::{Made, Registrar};

#[derive(Clone)]
pub(super) struct RunMetrics {
    runs: IntGaugeVec,
}

impl RunMetrics {
    pub(super) fn new(make: &Registrar<'_>) -> Made<Self> {
        Ok(Self {
            runs: make.gauges("monthend_runs", "Runs in the cluster by kind and phase.", &["kind", "phase"])?,
        })
    }

    pub(super) fn count<P: RunPhase>(&self, kind: &str, phases: impl Iterator<Item = P>) {
        let phases: Vec<P> = phases.collect();
        for phase in P::ALL {
            let count = phases.iter().filter(|found| *found == phase).count();
            self.runs
                .with_label_values(&[kind, phase.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
