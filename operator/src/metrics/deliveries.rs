//! The e-mails of each month by outcome.

use prometheus::IntGaugeVec;
use store::notification::{MonthTotals, Selection, TargetTotals};

use super::month_series::{keep_last_months, keep_months};
use super::registrar::{Made, Registrar};

/// As many as are read at first.
const MONTHS: usize = 24;

/// The values of the column `delivery.state`.
const DELIVERY_STATES: [&str; 7] =
    ["PENDING", "CLAIMED", "HANDED_OVER", "SENT", "FAILED", "UNKNOWN", "SKIPPED"];

#[derive(Clone)]
pub(crate) struct DeliveryMetrics {
    targets: IntGaugeVec,
    deliveries: IntGaugeVec,
    oldest_open: IntGaugeVec,
}

impl DeliveryMetrics {
    pub(super) fn new(make: &Registrar<'_>) -> Made<Self> {
        Ok(Self {
            targets: make.gauges(
                "monthend_notification_targets",
                "Bills that the month's notification runs selected, by selection and outcome.",
                &["month", "select", "outcome"],
            )?,
            deliveries: make.gauges(
                "monthend_deliveries",
                "Deliveries of the month's bills by state.",
                &["month", "state"],
            )?,
            oldest_open: make.gauges(
                "monthend_notification_oldest_open_timestamp_seconds",
                "When the oldest run began that has a message without an outcome and is not suspended, in Unix time; only while there is one.",
                &["month"],
            )?,
        })
    }

    /// Updates these months. Others do not change, and have no open message.
    pub(crate) fn set(&self, totals: &[MonthTotals]) {
        for of_month in totals {
            let month = of_month.month.to_string();
            for state in DELIVERY_STATES {
                let found = of_month.deliveries.iter().find(|(found, _)| found == state);
                self.deliveries
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
                    self.targets.with_label_values(&[month.as_str(), select, outcome]).set(bills);
                }
            }
        }
        let open: Vec<(String, i64)> = totals
            .iter()
            .filter_map(|of_month| {
                let oldest = of_month.targets.iter().filter_map(|targets| targets.oldest_open).min()?;
                Some((of_month.month.to_string(), oldest.as_second()))
            })
            .collect();
        for (month, since) in &open {
            self.oldest_open.with_label_values(&[month]).set(*since);
        }
        keep_months(&self.oldest_open, open.iter().map(|(month, _)| month.as_str()));
        keep_last_months(&self.targets, MONTHS);
        keep_last_months(&self.deliveries, MONTHS);
    }
}

/// The label `select`: the run's spec.select, or `Rehearsal`, as rehearsals send nothing.
fn selection(targets: &TargetTotals) -> &'static str {
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
