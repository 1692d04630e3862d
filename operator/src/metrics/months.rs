//! The figures of each month's current revision, and what is late for a live one.

use prometheus::{GaugeVec, IntGaugeVec, Opts};
use store::billing::{LateMonth, MonthTotals, RevisionState};

use super::registrar::{Made, Registrar};

const STATES: [RevisionState; 4] =
    [RevisionState::Draft, RevisionState::Live, RevisionState::Rejected, RevisionState::RolledBack];

#[derive(Clone)]
pub(super) struct MonthMetrics {
    state: IntGaugeVec,
    members: IntGaugeVec,
    chunks: IntGaugeVec,
    usage: IntGaugeVec,
    not_charged: IntGaugeVec,
    late: IntGaugeVec,
    total: GaugeVec,
}

impl MonthMetrics {
    pub(super) fn new(make: &Registrar<'_>) -> Made<Self> {
        let total = GaugeVec::new(
            Opts::new(
                "monthend_billing_total_minor_units",
                "Sum of the bills of the month's current revision; of a live one, of all live bills of the month.",
            ),
            &["month"],
        )?;
        make.0.register(Box::new(total.clone()))?;
        Ok(Self {
            state: make.gauges(
                "monthend_billing_revision_state",
                "1 for the state of the month's current revision, 0 for the others.",
                &["month", "state"],
            )?,
            members: make.gauges(
                "monthend_billing_members",
                "Members of the month's current revision: planned, billed, quarantined; of a live one, of the whole month.",
                &["month", "outcome"],
            )?,
            chunks: make.gauges(
                "monthend_billing_chunks",
                "Chunks of the month's current revision: planned, done.",
                &["month", "outcome"],
            )?,
            usage: make.gauges(
                "monthend_billing_usage_rows",
                "Usage rows of the month's current revision: rated, unbillable, quarantined, late; with a scope, of its members.",
                &["month", "outcome"],
            )?,
            not_charged: make.gauges(
                "monthend_billing_not_charged",
                "What nobody is charged for in the month's last revision of all members: add_ons, adjustments, usage_rows.",
                &["month", "what"],
            )?,
            late: make.gauges(
                "monthend_billing_late_rows",
                "Rows of the month loaded, or taken back, since it was last billed for everyone whom they can concern.",
                &["month", "what"],
            )?,
            total,
        })
    }

    pub(super) fn set(&self, totals: &[MonthTotals]) {
        for of_month in totals {
            let month = of_month.month.to_string();
            for state in STATES {
                self.state
                    .with_label_values(&[month.as_str(), state.as_str()])
                    .set(i64::from(state == of_month.state));
            }
            for (outcome, members) in [
                ("planned", of_month.members),
                ("billed", of_month.counts.billed),
                ("quarantined", of_month.counts.quarantined),
            ] {
                self.members.with_label_values(&[month.as_str(), outcome]).set(members);
            }
            for (outcome, chunks) in [("planned", of_month.chunks), ("done", of_month.chunks_done)] {
                self.chunks.with_label_values(&[month.as_str(), outcome]).set(chunks);
            }
            for (outcome, rows) in [
                ("rated", of_month.counts.rated_usage),
                ("unbillable", of_month.counts.unbillable_usage),
                ("quarantined", of_month.counts.quarantined_usage),
                ("late", of_month.late_usage),
            ] {
                self.usage.with_label_values(&[month.as_str(), outcome]).set(rows);
            }
            for (what, count) in [
                ("add_ons", of_month.not_charged.add_ons),
                ("adjustments", of_month.not_charged.adjustments),
                ("usage_rows", of_month.not_charged.usage_rows),
            ] {
                self.not_charged.with_label_values(&[month.as_str(), what]).set(count);
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "Prometheus has only floating-point numbers; the exact total is in the status"
            )]
            self.total.with_label_values(&[month.as_str()]).set(of_month.total as f64);
        }
    }

    /// Replaces what is late: a month that is no longer live has nothing late.
    pub(super) fn set_late(&self, months: &[LateMonth]) {
        self.late.reset();
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
                self.late.with_label_values(&[month.as_str(), what]).set(rows);
            }
        }
    }
}
