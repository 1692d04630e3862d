//! A second implementation of the pricing contract: simple, day by day, with exact fractions of
//! unlimited integers, and written from the contract alone. It shares no code with the product
//! except the calendar and the zones' offsets, and works on the model that the price book's text is
//! generated from.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use num_bigint::BigInt;

use super::generate::{Book, DiscountModel, PlanModel};
use super::members::Member;

/// An exact fraction with a positive denominator.
#[derive(Clone)]
struct Exact(BigInt, BigInt);

impl Exact {
    fn whole(n: impl Into<BigInt>) -> Self {
        Self(n.into(), BigInt::from(1))
    }

    /// A decimal as it is written.
    fn decimal(text: &str) -> Self {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits: BigInt = format!("{whole}{fraction}").parse().unwrap();
        Self(digits, BigInt::from(10).pow(u32::try_from(fraction.len()).unwrap()))
    }

    fn times(&self, other: &Self) -> Self {
        Self(&self.0 * &other.0, &self.1 * &other.1)
    }

    fn over(&self, divisor: impl Into<BigInt>) -> Self {
        Self(self.0.clone(), &self.1 * divisor.into())
    }

    fn plus(&self, other: &Self) -> Self {
        Self(&self.0 * &other.1 + &other.0 * &self.1, &self.1 * &other.1)
    }

    fn floor(&self) -> BigInt {
        let quotient = &self.0 / &self.1;
        if &quotient * &self.1 > self.0 { quotient - 1 } else { quotient }
    }

    fn ceil(&self) -> BigInt {
        -Self(-&self.0, self.1.clone()).floor()
    }

    /// Half away from zero.
    fn round(&self) -> BigInt {
        let half = Self(BigInt::from(1), BigInt::from(2));
        if self.0 < BigInt::from(0) {
            -Self(-&self.0, self.1.clone()).plus(&half).floor()
        } else {
            self.plus(&half).floor()
        }
    }
}

struct Line {
    kind: &'static str,
    code: String,
    quantity: BigInt,
    amount: BigInt,
    details: String,
}

pub(crate) fn first_minute(zone: &TimeZone, first: Date) -> jiff::Timestamp {
    let mut at = TimeZone::UTC.to_timestamp((first - 2.days()).at(0, 0, 0, 0)).unwrap();
    while zone.to_datetime(at).date() < first {
        at += 1.minute();
    }
    at
}

/// The expected result of `Member::priced`.
pub(crate) fn priced(book: &Book, member: &Member) -> Vec<String> {
    let zone = TimeZoneDatabase::bundled().get(book.zone).unwrap();
    let first: Date = format!("{}-01", book.month).parse().unwrap();
    let next = first + 1.month();
    let days: Vec<Date> = first.series(1.day()).take_while(|day| *day < next).collect();
    let (start, end) = (first_minute(&zone, first), first_minute(&zone, next));
    let usage: Vec<_> =
        member.usage.iter().filter(|row| start <= row.started_at && row.started_at < end).collect();
    let quarantined = |code: &str| vec![format!("{code}, {} rows", usage.len())];

    // The plans and grants of each day.
    let covers = |from: Date, to: Option<Date>, day: Date| from <= day && to.is_none_or(|to| day < to);
    let mut base_on: Vec<Vec<&PlanModel>> = vec![Vec::new(); days.len()];
    let mut addons_on: BTreeMap<&str, (&PlanModel, Vec<usize>)> = BTreeMap::new();
    let mut unknown = false;
    for subscription in &member.subscriptions {
        let plan = book.plans.iter().find(|plan| plan.code == subscription.code);
        for (i, day) in days.iter().enumerate() {
            if !covers(subscription.from, subscription.to, *day) {
                continue;
            }
            match plan {
                None => unknown = true,
                Some(plan) if plan.addon => {
                    addons_on.entry(plan.code).or_insert_with(|| (plan, vec![0; days.len()])).1[i] += 1;
                }
                Some(plan) => base_on[i].push(plan),
            }
        }
    }
    if unknown {
        return quarantined("UNKNOWN_PLAN");
    }
    if base_on.iter().all(Vec::is_empty) {
        return vec![format!("not eligible, {} rows", usage.len())];
    }
    if base_on.iter().any(|plans| plans.len() > 1)
        || addons_on.values().any(|(_, on)| on.iter().any(|n| *n > 1))
    {
        return quarantined("OVERLAPPING_SUBSCRIPTIONS");
    }
    let mut granted: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for grant in &member.grants {
        for (i, day) in days.iter().enumerate() {
            if covers(grant.from, grant.to, *day) {
                granted.entry(&grant.code).or_insert_with(|| vec![false; days.len()])[i] = true;
            }
        }
    }
    if granted.keys().any(|code| book.discounts.iter().all(|discount| discount.code != *code)) {
        return quarantined("UNKNOWN_DISCOUNT");
    }

    // Fees and overage.
    let month_days = days.len();
    let mut stored: Vec<BigInt> = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    let mut rated = 0;
    let mut days_of_plan: BTreeMap<&str, usize> = BTreeMap::new();
    let mut charged: BTreeMap<&str, BigInt> = BTreeMap::new();
    let mut given: BTreeMap<(&str, &str), BigInt> = BTreeMap::new();
    let mut fee = |plan: &PlanModel, length: usize| {
        let so_far = days_of_plan.entry(plan.code).or_default();
        *so_far += length;
        let before = charged.entry(plan.code).or_default();
        let amount = Exact::whole(plan.fee).times(&Exact::whole(*so_far)).over(month_days).round() - &*before;
        *before += &amount;
        (amount, *so_far)
    };
    let base_days: Vec<Option<&PlanModel>> = base_on.iter().map(|plans| plans.first().copied()).collect();
    for (from, to, plan) in runs(&base_days, |a, b| a.code == b.code) {
        let (amount, so_far) = fee(plan, to - from);
        lines.push(Line {
            kind: "BASE",
            code: plan.code.to_owned(),
            quantity: (to - from).into(),
            amount,
            details: format!(" days {}", to - from),
        });
        let inside = |at: jiff::Timestamp| {
            let date = zone.to_datetime(at).date();
            days[from] <= date && date <= days[to - 1]
        };
        rated += usage
            .iter()
            .filter(|row| inside(row.started_at) && book.kinds.contains(&row.kind.as_str()))
            .count();
        let mut rates: Vec<_> = plan.usage.iter().collect();
        rates.sort_by_key(|rate| rate.kind);
        for rate in rates {
            let rows = usage.iter().filter(|row| row.kind == rate.kind && inside(row.started_at));
            let total: BigInt = rows.map(|row| BigInt::from(row.quantity)).sum();
            stored.push(total.clone());
            let before = given.entry((plan.code, rate.kind)).or_default();
            let free =
                Exact::whole(rate.allowance).times(&Exact::whole(so_far)).over(month_days).floor() - &*before;
            *before += &free;
            let over = (&total - &free).max(BigInt::from(0));
            let blocks = Exact::whole(over).over(rate.per).ceil();
            let mut price = Exact::whole(0);
            let mut from_block = BigInt::from(0);
            for (up_to, tier_rate) in &rate.tiers {
                let to_block = up_to.map_or(blocks.clone(), |up_to| BigInt::from(up_to).min(blocks.clone()));
                if to_block > from_block {
                    price =
                        price.plus(&Exact::whole(&to_block - &from_block).times(&Exact::decimal(tier_rate)));
                    from_block = to_block;
                }
            }
            let amount = rate.cap.map_or(price.round(), |cap| price.round().min(cap.into()));
            if blocks > BigInt::from(0) {
                let details = format!(" days {} used {total} free {free}", to - from);
                lines.push(Line {
                    kind: "USAGE",
                    code: rate.kind.to_owned(),
                    quantity: blocks,
                    amount,
                    details,
                });
            }
        }
    }
    for (plan, on) in addons_on.values() {
        let on: Vec<Option<&PlanModel>> = on.iter().map(|n| (*n > 0).then_some(*plan)).collect();
        for (from, to, plan) in runs(&on, |_, _| true) {
            let (amount, _) = fee(plan, to - from);
            lines.push(Line {
                kind: "ADDON",
                code: plan.code.to_owned(),
                quantity: (to - from).into(),
                amount,
                details: format!(" days {}", to - from),
            });
        }
    }
    let sum = |lines: &[Line], kinds: &[&str]| -> BigInt {
        lines.iter().filter(|line| kinds.contains(&line.kind)).map(|line| &line.amount).sum()
    };
    let (base0, usage0) = (sum(&lines, &["BASE", "ADDON"]), sum(&lines, &["USAGE"]));

    // Discounts.
    let mut discounts: Vec<&DiscountModel> = book.discounts.iter().collect();
    discounts.sort_by_key(|discount| (discount.priority, discount.code));
    let covered_days = base_days.iter().filter(|plan| plan.is_some()).count();
    let (mut base_left, mut usage_left) = (base0.clone(), usage0.clone());
    for discount in discounts {
        let Some(on) = granted.get(discount.code) else { continue };
        let g = on.iter().zip(&base_days).filter(|(granted, plan)| **granted && plan.is_some()).count();
        if g == 0 {
            continue;
        }
        let value = Exact::decimal(&discount.value);
        let target = match discount.applies_to {
            "base" => base0.clone(),
            "usage" => usage0.clone(),
            _ => &base0 + &usage0,
        };
        let (whole, divisor) = if discount.percent {
            (Exact::whole(target).times(&value).over(100), covered_days)
        } else {
            (value, month_days)
        };
        let share = if discount.prorated { Exact::whole(g).over(divisor) } else { Exact::whole(1) };
        let wanted = whole.times(&share).round();
        let wanted = discount.cap.map_or(wanted.clone(), |cap| wanted.min(cap.into()));
        let room = match discount.applies_to {
            "base" => base_left.clone(),
            "usage" => usage_left.clone(),
            _ => &base_left + &usage_left,
        };
        let amount = wanted.min(room);
        let from_base = match discount.applies_to {
            "base" => amount.clone(),
            "usage" => BigInt::from(0),
            _ => amount.clone().min(base_left.clone()),
        };
        base_left -= &from_base;
        usage_left -= &amount - &from_base;
        if amount > BigInt::from(0) {
            lines.push(Line {
                kind: "DISCOUNT",
                code: discount.code.to_owned(),
                quantity: 1.into(),
                amount: -amount,
                details: format!(" days {g}"),
            });
        }
    }
    let discount = -sum(&lines, &["DISCOUNT"]);

    // Adjustments, tax and rounding.
    let mut adjustments: Vec<_> = member.adjustments.iter().collect();
    adjustments.sort_by_key(|adjustment| adjustment.id);
    for a in adjustments {
        lines.push(Line {
            kind: "ADJUSTMENT",
            code: a.code.clone(),
            quantity: 1.into(),
            amount: a.amount.into(),
            details: String::new(),
        });
    }
    let adjustment = sum(&lines, &["ADJUSTMENT"]);
    let net: BigInt = lines.iter().map(|line| &line.amount).sum();
    let mut tax = BigInt::from(0);
    if let Some((rate, exclusive)) = &book.tax {
        let rate = Exact::decimal(rate);
        if *exclusive {
            tax = Exact::whole(net.clone()).times(&rate).over(100).round();
            if tax != BigInt::from(0) {
                lines.push(Line {
                    kind: "TAX",
                    code: "tax".to_owned(),
                    quantity: 1.into(),
                    amount: tax.clone(),
                    details: String::new(),
                });
            }
        } else {
            let gross = Exact::whole(100).plus(&rate);
            let without = Exact::whole(net.clone()).times(&Exact::whole(100)).times(&Exact(gross.1, gross.0));
            tax = &net - without.round();
        }
    }
    let sum_so_far: BigInt = lines.iter().map(|line| &line.amount).sum();
    let mut rounding = BigInt::from(0);
    if let Some((unit, half_up)) = book.rounding {
        let units = Exact::whole(sum_so_far.clone()).over(unit);
        rounding = (if half_up { units.round() } else { units.floor() }) * unit - &sum_so_far;
        if rounding != BigInt::from(0) {
            lines.push(Line {
                kind: "ROUNDING",
                code: "rounding".to_owned(),
                quantity: 1.into(),
                amount: rounding.clone(),
                details: String::new(),
            });
        }
    }
    let total: BigInt = lines.iter().map(|line| &line.amount).sum();
    stored.extend([&base0, &usage0, &discount, &adjustment, &tax, &rounding, &total].map(Clone::clone));
    stored.extend(lines.iter().flat_map(|line| [line.quantity.clone(), line.amount.clone()]));
    if stored.iter().any(|value| i64::try_from(value).is_err()) {
        return quarantined("AMOUNT_OVERFLOW");
    }
    let numbered = lines.iter().enumerate();
    let mut text: Vec<String> = numbered
        .map(|(i, l)| format!("{} {} {} {} {}{}", i + 1, l.kind, l.code, l.quantity, l.amount, l.details))
        .collect();
    text.push(format!(
        "base {base0} usage {usage0} discount {discount} adjustment {adjustment} tax {tax} rounding {rounding} total {total}"
    ));
    text.push(format!("rated {rated} unbillable {}", usage.len() - rated));
    text
}

/// Runs of consecutive days with the same plan: first day, day after the last, plan.
fn runs<'a>(
    days: &[Option<&'a PlanModel>],
    same: impl Fn(&PlanModel, &PlanModel) -> bool,
) -> Vec<(usize, usize, &'a PlanModel)> {
    let mut runs: Vec<(usize, usize, &PlanModel)> = Vec::new();
    for (i, plan) in days.iter().enumerate() {
        let Some(plan) = plan else { continue };
        match runs.last_mut() {
            Some((_, to, last)) if *to == i && same(last, plan) => *to = i + 1,
            _ => runs.push((i, i + 1, plan)),
        }
    }
    runs
}
