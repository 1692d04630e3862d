//! The e-mails of each month by outcome.

use prometheus::IntGaugeVec;
use store::notification::{MonthTotals, Selection, TargetTotals};

use super::registrar::{Made, Registrar};

/// The values of the column `delivery.state`.
const DELIVERY_STATES: [&str; 7] =
    ["PENDING", "CLAIMED", "HANDED_OVER", "SENT", "FAILED", "UNKNOWN", "SKIPPED"];

#[derive(Clone)]
pub(super) struct DeliveryMetrics {
    targets: IntGaugeVec,
    deliveries: IntGaugeVec,
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
        })
    }

    pub(super) fn set(&self, totals: &[MonthTotals]) {
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
