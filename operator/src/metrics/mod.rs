//! The operator's Prometheus metrics. Labels come from closed sets: a kind, a month, a phase, an
//! outcome; never a run's name. The totals of runs come from the database, as the workers' pods end
//! with their runs.

mod database;
mod deliveries;
mod month_series;
mod months;
mod registrar;
mod runs;
#[cfg(test)]
mod tests;

use std::time::Duration;

use api::reconciled::Reconciled as _;
use api::run::Run;
use api::{BillingRun, BillingSchedule, NotificationRun};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder,
};

use self::database::DatabaseMetrics;
use self::deliveries::DeliveryMetrics;
use self::months::MonthMetrics;
pub(crate) use self::registrar::{Made, Registrar};
use self::runs::RunMetrics;
use crate::autoscaling::ScalingMetrics;
use crate::error::ErrorClass;

/// The outcome of a reconciliation without an error.
const SUCCESS: &str = "ok";

#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    durations: HistogramVec,
    runs: RunMetrics,
    schedule_runs: IntCounterVec,
    pub(crate) schedules_stalled: IntGauge,
    pub(crate) leader: IntGauge,
    pub(crate) schema_ready: IntGauge,
    pub(crate) database: DatabaseMetrics,
    pub(crate) jobs_closed: IntCounter,
    pub(crate) months: MonthMetrics,
    pub(crate) deliveries: DeliveryMetrics,
    pub(crate) scaling: ScalingMetrics,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let make = Registrar(&registry);
        let reconciles = make.counters(
            "monthend_reconciles_total",
            "Reconciliations by kind and outcome.",
            &["kind", "outcome"],
        )?;
        // Every series starts at 0: for Prometheus, a series that appears at 1 has not increased.
        for kind in [BillingRun::KIND, BillingSchedule::KIND, NotificationRun::KIND] {
            for outcome in ErrorClass::ALL.map(ErrorClass::as_str).into_iter().chain([SUCCESS]) {
                reconciles.with_label_values(&[kind, outcome]);
            }
        }
        let durations = HistogramVec::new(
            HistogramOpts::new("monthend_reconcile_duration_seconds", "How long a reconciliation takes.")
                .buckets(vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            &["kind"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        let schedule_runs = make.counters(
            "monthend_schedule_runs_total",
            "Runs that schedules created, by kind.",
            &["kind"],
        )?;
        for kind in [BillingRun::KIND, NotificationRun::KIND] {
            schedule_runs.with_label_values(&[kind]);
        }
        let build = make.gauges("monthend_build_info", "1 for the version of this program.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            reconciles,
            durations,
            runs: RunMetrics::new(&make)?,
            schedule_runs,
            schedules_stalled: make.gauge(
                "monthend_schedules_stalled",
                "Schedules that need a person: a month is due that they do not bill or e-mail by themselves.",
            )?,
            leader: make.gauge("monthend_leader", "1 while this operator is the leader.")?,
            schema_ready: make.gauge(
                "monthend_schema_ready",
                "1 when the database's schema has this operator's version.",
            )?,
            database: DatabaseMetrics::new(&make)?,
            jobs_closed: make.counter(
                "monthend_dead_jobs_closed_total",
                "Rows of job_log that were closed as FAILED because their process died.",
            )?,
            months: MonthMetrics::new(&make)?,
            deliveries: DeliveryMetrics::new(&make)?,
            scaling: ScalingMetrics::new(&make)?,
            registry,
        })
    }

    pub(crate) fn reconciled(&self, kind: &str, outcome: Result<(), ErrorClass>, took: Duration) {
        let outcome = outcome.map_or_else(ErrorClass::as_str, |()| SUCCESS);
        self.reconciles.with_label_values(&[kind, outcome]).inc();
        self.durations.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    pub(crate) fn schedule_created(&self, kind: &str) {
        self.schedule_runs.with_label_values(&[kind]).inc();
    }

    /// Replaces the counts of runs of a kind.
    pub(crate) fn count_runs<'a, R: Run>(&self, runs: impl Iterator<Item = &'a R>) {
        self.runs.count(runs);
    }

    /// Counts a run whose status has changed so that it failed.
    pub(crate) fn run_changed<R: Run>(&self, before: Option<&R::Status>, after: &R::Status) {
        self.runs.changed::<R>(before, after);
    }

    pub(crate) fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
