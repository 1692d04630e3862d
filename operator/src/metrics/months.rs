//! The figures of each month's current revision, what is late for a live one, and which month is due.

use domain::month::BillingMonth;
use domain::zone::Zone;
use jiff::Timestamp;
use prometheus::{GaugeVec, IntGaugeVec, Opts};
use store::billing::{LateMonth, MonthStanding, MonthTotals, RevisionState};

use super::month_series::keep_months;
use super::registrar::{Made, Registrar};

const STATES: [RevisionState; 4] =
    [RevisionState::Draft, RevisionState::Live, RevisionState::Rejected, RevisionState::RolledBack];

#[derive(Clone)]
pub(crate) struct MonthMetrics {
    live: IntGaugeVec,
    due: IntGaugeVec,
    draft_since: IntGaugeVec,
    state: IntGaugeVec,
    members: IntGaugeVec,
    members_planned: IntGaugeVec,
    chunks_done: IntGaugeVec,
    chunks_planned: IntGaugeVec,
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
            live: make.gauges(
                "monthend_month_live",
                "1 for a month with live bills, also while it is billed again; 0 for one that is over or was billed and has none.",
                &["month"],
            )?,
            due: make.gauges(
                "monthend_month_due_timestamp_seconds",
                "When the last month that is over ended, in the installation's time zone, in Unix time; only of that month.",
                &["month"],
            )?,
            draft_since: make.gauges(
                "monthend_draft_waiting_since_timestamp_seconds",
                "When the month's draft was verified that is neither issued nor rejected, in Unix time; only while there is one.",
                &["month"],
            )?,
            state: make.gauges(
                "monthend_billing_revision_state",
                "1 for the state of the month's current revision, 0 for the others.",
                &["month", "state"],
            )?,
            members: make.gauges(
                "monthend_billing_members",
                "Members of the month's current revision: billed, quarantined; of a live one, of the whole month.",
                &["month", "outcome"],
            )?,
            members_planned: make.gauges(
                "monthend_billing_members_planned",
                "Members that the month's current revision has an outcome for when it is done; of a live one, of the whole month.",
                &["month"],
            )?,
            chunks_done: make.gauges(
                "monthend_billing_chunks_done",
                "Chunks of the month's current revision that are done.",
                &["month"],
            )?,
            chunks_planned: make.gauges(
                "monthend_billing_chunks_planned",
                "Chunks of the month's current revision, done or not.",
                &["month"],
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

    /// Replaces how the months stand. `now` is the database's clock.
    pub(crate) fn set_standings(&self, standings: &[MonthStanding], zone: &Zone, now: Timestamp) {
        let mut live: Vec<(String, i64)> =
            standings.iter().map(|of| (of.month.to_string(), i64::from(of.live))).collect();
        let due: Vec<(String, i64)> = last_over(zone, now)
            .map(|(month, end)| (month.to_string(), end.as_second()))
            .into_iter()
            .collect();
        for (month, _) in &due {
            if live.iter().all(|(known, _)| known != month) {
                live.push((month.clone(), 0));
            }
        }
        let drafts = standings
            .iter()
            .filter_map(|of| Some((of.month.to_string(), of.draft_since?.as_second())))
            .collect::<Vec<_>>();
        for (gauges, values) in [(&self.live, live), (&self.due, due), (&self.draft_since, drafts)] {
            for (month, value) in &values {
                gauges.with_label_values(&[month]).set(*value);
            }
            keep_months(gauges, values.iter().map(|(month, _)| month.as_str()));
        }
    }

    /// Replaces the figures of all months.
    pub(crate) fn set(&self, totals: &[MonthTotals]) {
        for of_month in totals {
            let month = of_month.month.to_string();
            for state in STATES {
                self.state
                    .with_label_values(&[month.as_str(), state.as_str()])
                    .set(i64::from(state == of_month.state));
            }
            for (outcome, members) in
                [("billed", of_month.counts.billed), ("quarantined", of_month.counts.quarantined)]
            {
                self.members.with_label_values(&[month.as_str(), outcome]).set(members);
            }
            for (gauges, number) in [
                (&self.members_planned, of_month.members),
                (&self.chunks_planned, of_month.chunks),
                (&self.chunks_done, of_month.chunks_done),
            ] {
                gauges.with_label_values(&[month.as_str()]).set(number);
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
        let months: Vec<String> = totals.iter().map(|of_month| of_month.month.to_string()).collect();
        for gauges in [
            &self.state,
            &self.members,
            &self.members_planned,
            &self.chunks_planned,
            &self.chunks_done,
            &self.usage,
            &self.not_charged,
        ] {
            keep_months(gauges, months.iter().map(String::as_str));
        }
        keep_months(&self.total, months.iter().map(String::as_str));
    }

    /// Replaces what is late: a month that is no longer live has nothing late.
    pub(crate) fn set_late(&self, months: &[LateMonth]) {
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
        let months: Vec<String> = months.iter().map(|late| late.month.to_string()).collect();
        keep_months(&self.late, months.iter().map(String::as_str));
    }
}

/// The last month that is over in this time zone, and its end.
fn last_over(zone: &Zone, now: Timestamp) -> Option<(BillingMonth, Timestamp)> {
    let month = BillingMonth::of(zone.local_date(now))?.previous()?;
    Some((month, zone.month(month).end()))
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn a_month_is_over_by_the_installations_time_zone() {
        for (zone, now, month, end) in [
            ("Asia/Seoul", "2026-10-31T14:59:59Z", "2026-09", "2026-09-30T15:00:00Z"),
            ("Asia/Seoul", "2026-10-31T15:00:00Z", "2026-10", "2026-10-31T15:00:00Z"),
            ("America/New_York", "2026-11-01T03:59:59Z", "2026-09", "2026-10-01T04:00:00Z"),
            ("America/New_York", "2026-11-01T04:00:00Z", "2026-10", "2026-11-01T04:00:00Z"),
            ("America/New_York", "2026-12-01T05:00:00Z", "2026-11", "2026-12-01T05:00:00Z"),
        ] {
            let found = last_over(&Zone::named(zone).unwrap(), at(now)).unwrap();
            assert_eq!((found.0.to_string().as_str(), found.1), (month, at(end)), "{zone}, {now}");
        }
    }

    #[test]
    fn only_months_that_stand_so_have_a_series() {
        let registry = Registry::new();
        let metrics = MonthMetrics::new(&Registrar(&registry)).unwrap();
        let zone = Zone::named("Asia/Seoul").unwrap();
        let standing = |month: &str, live, draft: Option<&str>| MonthStanding {
            month: month.parse().unwrap(),
            live,
            draft_since: draft.map(at),
        };
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let values = || {
            let text = text();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(|line| line.trim_start_matches("monthend_").to_owned()).collect::<Vec<_>>()
        };
        let september = standing("2026-09", true, Some("1970-01-01T00:16:40Z"));
        metrics.set_standings(
            &[standing("2024-08", true, None), september],
            &zone,
            at("2026-11-01T00:00:00Z"),
        );
        assert_eq!(
            values(),
            [
                r#"draft_waiting_since_timestamp_seconds{month="2026-09"} 1000"#,
                r#"month_due_timestamp_seconds{month="2026-10"} 1793458800"#,
                r#"month_live{month="2024-08"} 1"#,
                r#"month_live{month="2026-09"} 1"#,
                r#"month_live{month="2026-10"} 0"#,
            ]
        );
        // A month later, the draft is decided, and the oldest month is no longer read.
        let standings = [standing("2026-09", true, None), standing("2026-10", false, None)];
        metrics.set_standings(&standings, &zone, at("2026-12-01T00:00:00Z"));
        assert_eq!(
            values(),
            [
                r#"month_due_timestamp_seconds{month="2026-11"} 1796050800"#,
                r#"month_live{month="2026-09"} 1"#,
                r#"month_live{month="2026-10"} 0"#,
                r#"month_live{month="2026-11"} 0"#,
            ]
        );
    }
}
