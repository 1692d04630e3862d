//! The operator's Prometheus metrics. Labels come from closed sets: a kind, a month, a phase, an
//! outcome; never a run's name. The totals of runs come from the database, as the workers' pods end
//! with their runs.

use std::time::Duration;

use api::reconciled::Reconciled as _;
use api::run::RunPhase;
use api::{BillingRun, BillingSchedule, NotificationRun};
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use store::billing::{LateMonth, MonthTotals, RevisionState};
use store::notification::{self, Selection};

use crate::autoscaling::ScalingMetrics;
use crate::error::ErrorClass;

const STATES: [RevisionState; 4] =
    [RevisionState::Draft, RevisionState::Live, RevisionState::Rejected, RevisionState::RolledBack];

/// The values of the column `delivery.state`.
const DELIVERY_STATES: [&str; 7] =
    ["PENDING", "CLAIMED", "HANDED_OVER", "SENT", "FAILED", "UNKNOWN", "SKIPPED"];

/// The outcome of a reconciliation without an error.
const SUCCESS: &str = "ok";

#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    durations: HistogramVec,
    runs: IntGaugeVec,
    schedule_runs: IntCounterVec,
    pub(crate) schedules_stalled: IntGauge,
    pub(crate) leader: IntGauge,
    pub(crate) schema_ready: IntGauge,
    pub(crate) database_up: IntGauge,
    pub(crate) jobs_closed: prometheus::IntCounter,
    months: MonthGauges,
    deliveries: DeliveryGauges,
    pub(crate) scaling: ScalingMetrics,
}

/// The figures of each month's current revision.
#[derive(Clone)]
struct MonthGauges {
    state: IntGaugeVec,
    members: IntGaugeVec,
    chunks: IntGaugeVec,
    usage: IntGaugeVec,
    not_charged: IntGaugeVec,
    late: IntGaugeVec,
    total: prometheus::GaugeVec,
}

/// The e-mails of each month by outcome.
#[derive(Clone)]
struct DeliveryGauges {
    targets: IntGaugeVec,
    deliveries: IntGaugeVec,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let reconciles = IntCounterVec::new(
            Opts::new("monthend_reconciles_total", "Reconciliations by kind and outcome."),
            &["kind", "outcome"],
        )?;
        registry.register(Box::new(reconciles.clone()))?;
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
        let schedule_runs = IntCounterVec::new(
            Opts::new("monthend_schedule_runs_total", "Runs that schedules created, by kind."),
            &["kind"],
        )?;
        registry.register(Box::new(schedule_runs.clone()))?;
        for kind in [BillingRun::KIND, NotificationRun::KIND] {
            schedule_runs.with_label_values(&[kind]);
        }
        let jobs_closed = prometheus::IntCounter::new(
            "monthend_dead_jobs_closed_total",
            "Rows of job_log that were closed as FAILED because their process died.",
        )?;
        registry.register(Box::new(jobs_closed.clone()))?;
        let total = prometheus::GaugeVec::new(
            Opts::new(
                "monthend_billing_total_minor_units",
                "Sum of the bills of the month's current revision; of a live one, of all live bills of the month.",
            ),
            &["month"],
        )?;
        registry.register(Box::new(total.clone()))?;
        let months = MonthGauges {
            state: gauges(
                "monthend_billing_revision_state",
                "1 for the state of the month's current revision, 0 for the others.",
                &["month", "state"],
            )?,
            members: gauges(
                "monthend_billing_members",
                "Members of the month's current revision: planned, billed, quarantined; of a live one, of the whole month.",
                &["month", "outcome"],
            )?,
            chunks: gauges(
                "monthend_billing_chunks",
                "Chunks of the month's current revision: planned, done.",
                &["month", "outcome"],
            )?,
            usage: gauges(
                "monthend_billing_usage_rows",
                "Usage rows of the month's current revision: rated, unbillable, quarantined, late; with a scope, of its members.",
                &["month", "outcome"],
            )?,
            not_charged: gauges(
                "monthend_billing_not_charged",
                "What nobody is charged for in the month's last revision of all members: add_ons, adjustments, usage_rows.",
                &["month", "what"],
            )?,
            late: gauges(
                "monthend_billing_late_rows",
                "Rows of the month loaded, or taken back, since it was last billed for everyone whom they can concern.",
                &["month", "what"],
            )?,
            total,
        };
        let deliveries = DeliveryGauges {
            targets: gauges(
                "monthend_notification_targets",
                "Bills that the month's notification runs selected, by selection and outcome.",
                &["month", "select", "outcome"],
            )?,
            deliveries: gauges(
                "monthend_deliveries",
                "Deliveries of the month's bills by state.",
                &["month", "state"],
            )?,
        };
        Ok(Self {
            reconciles,
            durations,
            runs: gauges("monthend_runs", "Runs in the cluster by kind and phase.", &["kind", "phase"])?,
            schedule_runs,
            schedules_stalled: gauge(
                "monthend_schedules_stalled",
                "Schedules that need a person: a month is due that they do not bill or e-mail by themselves.",
            )?,
            leader: gauge("monthend_leader", "1 while this operator is the leader.")?,
            schema_ready: gauge(
                "monthend_schema_ready",
                "1 when the database's schema has this operator's version.",
            )?,
            database_up: gauge(
                "monthend_database_up",
                "1 when the database could be read at the last attempt.",
            )?,
            jobs_closed,
            months,
            deliveries,
            scaling: ScalingMetrics::new(&registry)?,
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
    pub(crate) fn count_runs<P: RunPhase>(&self, kind: &str, phases: impl Iterator<Item = P>) {
        let phases: Vec<P> = phases.collect();
        for phase in P::ALL {
            let count = phases.iter().filter(|found| *found == phase).count();
            self.runs
                .with_label_values(&[kind, phase.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn set_months(&self, totals: &[MonthTotals]) {
        for of_month in totals {
            let month = of_month.month.to_string();
            for state in STATES {
                self.months
                    .state
                    .with_label_values(&[month.as_str(), state.as_str()])
                    .set(i64::from(state == of_month.state));
            }
            for (outcome, members) in [
                ("planned", of_month.members),
                ("billed", of_month.counts.billed),
                ("quarantined", of_month.counts.quarantined),
            ] {
                self.months.members.with_label_values(&[month.as_str(), outcome]).set(members);
            }
            for (outcome, chunks) in [("planned", of_month.chunks), ("done", of_month.chunks_done)] {
                self.months.chunks.with_label_values(&[month.as_str(), outcome]).set(chunks);
            }
            for (outcome, rows) in [
                ("rated", of_month.counts.rated_usage),
                ("unbillable", of_month.counts.unbillable_usage),
                ("quarantined", of_month.counts.quarantined_usage),
                ("late", of_month.late_usage),
            ] {
                self.months.usage.with_label_values(&[month.as_str(), outcome]).set(rows);
            }
            for (what, count) in [
                ("add_ons", of_month.not_charged.add_ons),
                ("adjustments", of_month.not_charged.adjustments),
                ("usage_rows", of_month.not_charged.usage_rows),
            ] {
                self.months.not_charged.with_label_values(&[month.as_str(), what]).set(count);
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "Prometheus has only floating-point numbers; the exact total is in the status"
            )]
            self.months.total.with_label_values(&[month.as_str()]).set(of_month.total as f64);
        }
    }

    /// Replaces what is late: a month that is no longer live has nothing late.
    pub(crate) fn set_late_rows(&self, months: &[LateMonth]) {
        self.months.late.reset();
        for late in months {
            let month = late.month.to_string();
            for (what, rows) in [
                ("members", late.rows.members),
                ("subscriptions", late.rows.subscriptions),
                ("grants", late.rows.grants),
                ("adjustments", late.rows.adjustments),
                ("usage_rows", late.rows.usage_rows),
                ("taken_back", late.rows.taken_back),
            ] {
                self.months.late.with_label_values(&[month.as_str(), what]).set(rows);
            }
        }
    }

    pub(crate) fn set_notification_totals(&self, totals: &[notification::MonthTotals]) {
        for of_month in totals {
            let month = of_month.month.to_string();
            for state in DELIVERY_STATES {
                let found = of_month.deliveries.iter().find(|(found, _)| found == state);
                self.deliveries
                    .deliveries
                    .with_label_values(&[month.as_str(), state])
                    .set(found.map_or(0, |(_, deliveries)| *deliveries));
            }
            for targets in &of_month.targets {
                let select = selection(targets);
                let counts = &targets.counts;
                for (outcome, bills) in [
                    ("sent", counts.sent),
                    ("failed", counts.failed),
                    ("unknown", counts.unknown),
                    ("skipped", counts.skipped),
                    ("rendered", counts.rendered),
                    ("open", targets.open),
                ] {
                    self.deliveries.targets.with_label_values(&[month.as_str(), select, outcome]).set(bills);
                }
            }
        }
    }

    pub(crate) fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The label `select`: the run's spec.select, or `Rehearsal`, as rehearsals send nothing.
fn selection(targets: &notification::TargetTotals) -> &'static str {
    if targets.rehearsal {
        return "Rehearsal";
    }
    match targets.selection {
        Selection::Ready => "Ready",
        Selection::Failed => "Failed",
        Selection::Unknown => "Unknown",
        Selection::Corrected => "Corrected",
        Selection::Skipped => "Skipped",
    }
}

#[cfg(test)]
mod tests {
    use api::billing_run::Phase;
    use store::billing::{Counts, LateRows, NotCharged};
    use store::notification::{NotificationCounts, TargetTotals};

    use super::*;

    fn notification_totals() -> notification::MonthTotals {
        let counts = NotificationCounts { sent: 7, failed: 1, ..NotificationCounts::default() };
        let ready = TargetTotals { selection: Selection::Ready, rehearsal: false, counts, open: 2 };
        let rendered = NotificationCounts { rendered: 10, ..NotificationCounts::default() };
        let rehearsal = TargetTotals { rehearsal: true, counts: rendered, open: 0, ..ready.clone() };
        notification::MonthTotals {
            month: "2026-10".parse().unwrap(),
            deliveries: vec![("CLAIMED".to_owned(), 2), ("SENT".to_owned(), 7), ("FAILED".to_owned(), 1)],
            targets: vec![ready, rehearsal],
        }
    }

    fn a_month() -> MonthTotals {
        MonthTotals {
            month: "2026-10".parse().unwrap(),
            state: RevisionState::Live,
            members: 10,
            chunks: 2,
            chunks_done: 2,
            counts: Counts { billed: 9, quarantined: 1, rated_usage: 50, ..Counts::default() },
            late_usage: 3,
            not_charged: NotCharged { adjustments: 4, ..NotCharged::default() },
            total: 1 << 70,
        }
    }

    #[test]
    fn totals_are_labelled_with_the_month_and_never_with_a_run() {
        let metrics = Metrics::new().unwrap();
        metrics.set_months(&[a_month()]);
        let late = |month: &str, usage_rows| LateMonth {
            month: month.parse().unwrap(),
            rows: LateRows { usage_rows, ..LateRows::default() },
        };
        metrics.set_late_rows(&[late("2026-09", 5), late("2026-10", 5)]);
        metrics.set_late_rows(&[late("2026-10", 6)]);
        metrics.set_notification_totals(&[notification_totals()]);
        metrics.count_runs("BillingRun", [Phase::Running, Phase::Running].into_iter());
        metrics.reconciled("BillingRun", Err(ErrorClass::Database), Duration::from_millis(3));
        let text = metrics.render().unwrap();
        for line in [
            r#"monthend_billing_members{month="2026-10",outcome="billed"} 9"#,
            r#"monthend_billing_members{month="2026-10",outcome="quarantined"} 1"#,
            r#"monthend_billing_usage_rows{month="2026-10",outcome="late"} 3"#,
            r#"monthend_billing_not_charged{month="2026-10",what="adjustments"} 4"#,
            r#"monthend_billing_late_rows{month="2026-10",what="usage_rows"} 6"#,
            r#"monthend_billing_late_rows{month="2026-10",what="members"} 0"#,
            r#"monthend_billing_revision_state{month="2026-10",state="LIVE"} 1"#,
            r#"monthend_billing_revision_state{month="2026-10",state="DRAFT"} 0"#,
            r#"monthend_billing_total_minor_units{month="2026-10"} 1180591620717411300000"#,
            r#"monthend_notification_targets{month="2026-10",outcome="sent",select="Ready"} 7"#,
            r#"monthend_notification_targets{month="2026-10",outcome="open",select="Ready"} 2"#,
            r#"monthend_notification_targets{month="2026-10",outcome="rendered",select="Rehearsal"} 10"#,
            r#"monthend_notification_targets{month="2026-10",outcome="sent",select="Rehearsal"} 0"#,
            r#"monthend_deliveries{month="2026-10",state="SENT"} 7"#,
            r#"monthend_deliveries{month="2026-10",state="UNKNOWN"} 0"#,
            r#"monthend_runs{kind="BillingRun",phase="Running"} 2"#,
            r#"monthend_runs{kind="BillingRun",phase="Failed"} 0"#,
            r#"monthend_reconciles_total{kind="BillingRun",outcome="database"} 1"#,
            r#"monthend_reconciles_total{kind="NotificationRun",outcome="kubernetes"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        assert!(!text.contains(r#"monthend_billing_late_rows{month="2026-09""#), "{text}");
    }

    /// The dashboards and the alerts name only metrics of the operator or the consumers. A metric without
    /// a series is not gathered, so those of other modules are looked up in their source.
    #[test]
    fn the_dashboards_and_the_alerts_read_metrics_that_exist() {
        let read = |path: &str| {
            std::fs::read_to_string(format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        };
        let metrics = Metrics::new().unwrap();
        metrics.set_months(&[a_month()]);
        metrics.set_late_rows(&[LateMonth { month: "2026-10".parse().unwrap(), rows: LateRows::default() }]);
        metrics.set_notification_totals(&[notification_totals()]);
        metrics.count_runs::<Phase>("BillingRun", std::iter::empty());
        metrics.reconciled("BillingRun", Ok(()), Duration::from_millis(3));
        let mut exported: Vec<String> =
            metrics.registry.gather().iter().map(|family| family.name().to_owned()).collect();
        for source in ["operator/src/autoscaling/scaling_metrics.rs", "worker/src/notify/metrics.rs"] {
            let text = read(source);
            let made: Vec<&str> = text.split('"').filter(|text| text.starts_with("monthend_")).collect();
            assert!(made.len() >= 5, "{source}: {made:?}");
            exported.extend(made.into_iter().map(str::to_owned));
        }
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        for page in [
            "grafana/monthend-month.json",
            "grafana/monthend-billing.json",
            "grafana/monthend-notification.json",
            "grafana/monthend-operator.json",
            "charts/monthend/files/alerts.yaml",
        ] {
            let text = read(page);
            let named: Vec<&str> = text
                .split(|c: char| !is_name(c))
                .filter(|name| name.starts_with("monthend_"))
                .map(|name| {
                    ["_bucket", "_sum", "_count"]
                        .iter()
                        .find_map(|end| name.strip_suffix(end))
                        .unwrap_or(name)
                })
                .collect();
            assert!(named.len() > 20, "{page}: {named:?}");
            for name in named {
                assert!(
                    exported.iter().any(|exported| exported == name),
                    "{page}: {name} is not among {exported:?}"
                );
            }
        }
    }
}
