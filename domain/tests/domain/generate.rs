//! Random price books and members for property tests and for the comparison with the reference
//! implementation.

use std::fmt::Write as _;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::members::{Dated, Member, OneOff, UsageRow};

/// A generated price book. The product parses it from text; the reference implementation uses this
/// model directly.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    pub(crate) zone: &'static str,
    pub(crate) month: &'static str,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) plans: Vec<PlanModel>,
    pub(crate) discounts: Vec<DiscountModel>,
    /// The rate in percent, and whether the tax is exclusive.
    pub(crate) tax: Option<(String, bool)>,
    /// The unit, and whether the mode is half-up.
    pub(crate) rounding: Option<(i64, bool)>,
}

#[derive(Clone, Debug)]
pub(crate) struct PlanModel {
    pub(crate) code: &'static str,
    pub(crate) addon: bool,
    pub(crate) fee: i64,
    pub(crate) usage: Vec<RateModel>,
}

#[derive(Clone, Debug)]
pub(crate) struct RateModel {
    pub(crate) kind: &'static str,
    pub(crate) allowance: i64,
    pub(crate) per: i64,
    pub(crate) tiers: Vec<(Option<i64>, String)>,
    pub(crate) cap: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct DiscountModel {
    pub(crate) code: &'static str,
    pub(crate) percent: bool,
    pub(crate) value: String,
    pub(crate) applies_to: &'static str,
    pub(crate) priority: i64,
    pub(crate) prorated: bool,
    pub(crate) cap: Option<i64>,
}

impl Book {
    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "version: generated\ncurrency: KRW\ntimeZone: {}\nvalidFrom: 2000-01\nusageKinds: [{}]\nplans:\n",
            self.zone,
            self.kinds.join(", ")
        );
        let cap = |cap: Option<i64>| cap.map_or_else(String::new, |cap| format!(", cap: {cap}"));
        for plan in &self.plans {
            let kind = if plan.addon { ", type: addon" } else { "" };
            write!(out, "  - {{ code: {}, baseFee: {}{kind}", plan.code, plan.fee).unwrap();
            if !plan.addon {
                let rates: Vec<_> = plan
                    .usage
                    .iter()
                    .map(|rate| {
                        let tiers: Vec<_> = rate
                            .tiers
                            .iter()
                            .map(|(up_to, rate)| {
                                let up_to =
                                    up_to.map_or_else(String::new, |up_to| format!("upTo: {up_to}, "));
                                format!("{{ {up_to}rate: \"{rate}\" }}")
                            })
                            .collect();
                        let (kind, allowance, per, tiers) =
                            (rate.kind, rate.allowance, rate.per, tiers.join(", "));
                        format!(
                            "{kind}: {{ allowance: {allowance}, per: {per}, tiers: [ {tiers} ]{} }}",
                            cap(rate.cap)
                        )
                    })
                    .collect();
                write!(out, ", usage: {{ {} }}", rates.join(", ")).unwrap();
            }
            out.push_str(" }\n");
        }
        out.push_str("discounts:");
        out.push_str(if self.discounts.is_empty() { " []\n" } else { "\n" });
        for d in &self.discounts {
            let kind = if d.percent { "percent" } else { "amount" };
            let prorate = if d.prorated { "" } else { ", prorate: none" };
            writeln!(
                out,
                "  - {{ code: {}, kind: {kind}, value: \"{}\", appliesTo: {}, priority: {}{prorate}{} }}",
                d.code,
                d.value,
                d.applies_to,
                d.priority,
                cap(d.cap)
            )
            .unwrap();
        }
        if let Some((rate, exclusive)) = &self.tax {
            let mode = if *exclusive { "exclusive" } else { "inclusive" };
            writeln!(out, "tax: {{ rate: \"{rate}\", mode: {mode} }}").unwrap();
        }
        if let Some((unit, half_up)) = self.rounding {
            let mode = if half_up { "half-up" } else { "down" };
            writeln!(out, "billRounding: {{ unit: {unit}, mode: {mode} }}").unwrap();
        }
        out
    }
}

/// Months of every length, and zones with every kind of clock change.
const MONTHS: &[(&str, &str)] = &[
    ("Asia/Seoul", "2026-10"),
    ("Asia/Seoul", "2024-02"),
    ("UTC", "2023-02"),
    ("America/New_York", "2026-11"),
    ("America/Havana", "2015-11"),
    ("America/Havana", "2025-03"),
    ("America/Sao_Paulo", "2018-02"),
    ("America/Sao_Paulo", "2018-11"),
    ("America/St_Johns", "2009-11"),
    ("America/St_Johns", "2010-11"),
    ("America/Asuncion", "2017-10"),
    ("Africa/Cairo", "2026-04"),
    ("Asia/Beirut", "2022-03"),
    ("Pacific/Apia", "2011-12"),
];

fn money() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0_i64), 20 => 1..100_000_i64, 4 => 1..1_000_000_000_000_i64, 1 => (i64::MAX - 3)..=i64::MAX]
}

fn decimal(max_whole: u64) -> impl Strategy<Value = String> {
    (0..=max_whole, option::of("[0-9]{1,6}")).prop_map(|(whole, fraction)| match fraction {
        Some(fraction) => format!("{whole}.{fraction}"),
        None => whole.to_string(),
    })
}

fn rate(kind: &'static str) -> impl Strategy<Value = RateModel> {
    let unit_rate = || prop_oneof![20 => decimal(30), 1 => decimal(u64::MAX / 2 - 1)];
    let tiers = (vec((1..5000_i64, unit_rate()), 0..3), unit_rate()).prop_map(|(closed, open)| {
        let mut reached = 0;
        let mut tiers: Vec<_> = closed
            .into_iter()
            .map(|(width, rate)| {
                reached += width;
                (Some(reached), rate)
            })
            .collect();
        tiers.push((None, open));
        tiers
    });
    let allowance =
        prop_oneof![3 => Just(0_i64), 10 => 1..10_000_i64, 4 => 1..1_i64 << 40, 1 => Just(i64::MAX)];
    let per = prop_oneof![5 => Just(1_i64), 10 => 2..1000_i64, 3 => Just(1_i64 << 20), 1 => Just(i64::MAX)];
    (allowance, per, tiers, option::weighted(0.3, money()))
        .prop_map(move |(allowance, per, tiers, cap)| RateModel { kind, allowance, per, tiers, cap })
}

fn plan(code: &'static str, addon: bool) -> impl Strategy<Value = PlanModel> {
    let kinds = if addon {
        Just(Vec::new()).boxed()
    } else {
        subsequence(vec!["voice", "data", "sms"], 0..=3).boxed()
    };
    let usage = kinds.prop_flat_map(|kinds| kinds.into_iter().map(rate).collect::<Vec<_>>());
    (money(), usage).prop_map(move |(fee, usage)| PlanModel { code, addon, fee, usage })
}

fn discount(code: &'static str) -> impl Strategy<Value = DiscountModel> {
    let value = any::<bool>().prop_flat_map(|percent| {
        let value = if percent {
            prop_oneof![9 => decimal(99), 1 => Just("100".to_owned())].boxed()
        } else {
            decimal(60_000).boxed()
        };
        (Just(percent), value)
    });
    (value, select(vec!["base", "usage", "total"]), 0..3_i64, any::<bool>(), option::weighted(0.3, money()))
        .prop_map(move |((percent, value), applies_to, priority, prorated, cap)| DiscountModel {
            code,
            percent,
            value,
            applies_to,
            priority,
            prorated,
            cap,
        })
}

pub(crate) fn book() -> impl Strategy<Value = Book> {
    let plans = (plan("A", false), plan("B", false), plan("C", false), plan("X", true), plan("Y", true));
    let discounts = (discount("D4"), discount("D1"), discount("D3"), discount("D2"));
    let tax = option::of((prop_oneof![Just("10".to_owned()), decimal(99)], any::<bool>()));
    let rounding = option::of((prop_oneof![Just(10_i64), 1..5000_i64], any::<bool>()));
    (select(MONTHS), plans, discounts, tax, rounding).prop_map(
        |((zone, month), plans, discounts, tax, rounding)| Book {
            zone,
            month,
            kinds: vec!["voice", "data", "sms"],
            plans: vec![plans.0, plans.1, plans.2, plans.3, plans.4],
            discounts: vec![discounts.0, discounts.1, discounts.2, discounts.3],
            tax,
            rounding,
        },
    )
}

fn first_day(month: &str) -> Date {
    format!("{month}-01").parse().unwrap()
}

fn dated(codes: &'static [&'static str], first: Date) -> impl Strategy<Value = Dated> {
    (select(codes), -40..40_i64, option::of(0..45_i64)).prop_map(move |(code, from, length)| {
        let from = first + from.days();
        Dated { code: code.to_owned(), from, to: length.map(|length| from + length.days()) }
    })
}

/// Consecutive base plans with gaps, as most members have them.
fn in_sequence(first: Date) -> impl Strategy<Value = Vec<Dated>> {
    let steps = vec((select(vec!["A", "A", "B", "C", "-"]), 1..20_i64), 1..5);
    (-25..10_i64, steps, any::<bool>()).prop_map(move |(offset, steps, open)| {
        let mut from = first + offset.days();
        let mut all = Vec::new();
        for (code, length) in steps {
            let to = from + length.days();
            if code != "-" {
                all.push(Dated { code: code.to_owned(), from, to: Some(to) });
            }
            from = to;
        }
        if open && let Some(last) = all.last_mut() {
            last.to = None;
        }
        all
    })
}

/// A member of the price book's month. Some members are quarantined, most are not.
pub(crate) fn member(month: &'static str) -> impl Strategy<Value = Member> {
    let first = first_day(month);
    let addons = vec(dated(&["X", "Y"], first), 0..2);
    let overlapping =
        prop_oneof![12 => Just(Vec::new()), 1 => vec(dated(&["A", "B", "C", "X", "Y", "Z"], first), 1..3)];
    let subscriptions = (in_sequence(first), addons, overlapping).prop_map(|(a, b, c)| [a, b, c].concat());
    let unknown = prop_oneof![15 => Just(Vec::new()), 1 => vec(dated(&["D9"], first), 1)];
    let grants =
        (vec(dated(&["D1", "D2", "D3", "D4"], first), 0..5), unknown).prop_map(|(a, b)| [a, b].concat());
    let amount = prop_oneof![20 => -50_000..50_000_i64, 1 => any::<i64>()];
    let adjustments = vec((1..1000_i64, amount), 0..3).prop_map(|all| {
        let mut all: Vec<_> = all
            .into_iter()
            .map(|(id, amount)| OneOff { id, code: format!("ADJ{}", id % 3), amount })
            .collect();
        all.sort_by_key(|a| a.id);
        all.dedup_by_key(|a| a.id);
        all
    });
    let quantity = prop_oneof![10 => 0..20_000_i64, 5 => 0..1_i64 << 33, 1 => Just(1_i64 << 62), 1 => any::<i64>().prop_map(|n| n.saturating_abs())];
    let start: Timestamp = first.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    let microseconds = prop_oneof![
        10 => -(2 * 86_400_000_000_i64)..34 * 86_400_000_000_i64,
        // Around the midnights of the first days, where clocks change.
        5 => (0..10_i64, 0..300_i64).prop_map(|(day, minute)| (day * 86_400 + minute * 60) * 1_000_000),
    ];
    let row = (select(vec!["voice", "data", "sms", "roaming"]), quantity, microseconds).prop_map(
        move |(kind, quantity, at)| UsageRow {
            kind: kind.to_owned(),
            quantity,
            started_at: start + at.microseconds(),
        },
    );
    (subscriptions, grants, adjustments, vec(row, 0..12)).prop_map(
        |(subscriptions, grants, adjustments, usage)| Member { subscriptions, grants, adjustments, usage },
    )
}

pub(crate) fn book_and_member() -> impl Strategy<Value = (Book, Member)> {
    book().prop_flat_map(|book| {
        let month = book.month;
        (Just(book), member(month))
    })
}
