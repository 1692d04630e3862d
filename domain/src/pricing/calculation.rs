//! Steps 2 to 7: fees, overage, discounts, adjustments, tax, rounding, and the bill.

use super::inputs::{Adjustment, Grant, UsageSum};
use super::outcome::{Bill, Item, ItemKind, Quarantine, QuarantineCode};
use super::segments::{Segment, Segments};
use super::trace::{Discounting, Overage, Step, StepKind, TierPart, Trace};
use crate::money::{Decimal, Fraction, MinorUnits, div_round};
use crate::month::DaySet;
use crate::price_book::{
    BillRounding, Discount, DiscountKind, DiscountTarget, PriceBook, Proration, RoundingMode, Tax, TaxMode,
    UsageRate,
};
use crate::zone::ZonedMonth;

pub(super) fn calculate<'a: 'b, 'b>(
    book: &'a PriceBook,
    month: &ZonedMonth,
    segments: &Segments<'a>,
    grants: &[Grant<'_>],
    adjustments: &[Adjustment<'b>],
    usage: &[UsageSum<'_>],
    trace: &mut impl Trace<'b>,
) -> Result<Bill<'b>, Quarantine> {
    let month_days = i128::from(month.month().days());
    let covered = segments.base().iter().fold(DaySet::EMPTY, |days, segment| days.union(segment.days));
    let granted = granted_days(book, month, covered, grants)?;
    let mut lines = Lines::default();

    let mut usage_amount = 0;
    for (position, segment) in segments.base().iter().enumerate() {
        lines.fee(ItemKind::Base, segment, month_days, trace)?;
        for rate in &segment.plan.usage {
            let of_segment = |sum: &&UsageSum<'_>| {
                sum.kind == rate.kind && segments.of_interval(sum.interval) == Some(position)
            };
            let used = usage.iter().filter(of_segment).map(|sum| sum.quantity).sum();
            usage_amount += lines.overage((position, segment), rate, used, month_days, trace)?;
        }
    }
    for segment in segments.addons() {
        lines.fee(ItemKind::Addon, segment, month_days, trace)?;
    }
    let base_amount = lines.net - usage_amount;

    let undiscounted = Remaining { base: base_amount, usage: usage_amount };
    let mut remaining = undiscounted;
    for (position, days) in granted {
        let discount = &book.discounts()[position];
        let target = undiscounted.of(discount.applies_to);
        let exact = unlimited_amount(discount, target, days, covered, month_days);
        let wanted = discount.cap.map_or(exact.rounded(), |cap| exact.rounded().min(cap.exact()));
        let room = remaining.of(discount.applies_to);
        let amount = wanted.min(room);
        let mut added = Added::NOTHING;
        if amount > 0 {
            remaining.take(discount.applies_to, amount);
            let days = Some(days.count().cast_signed());
            added = lines.add(Item { days, ..Item::single(ItemKind::Discount, &discount.code) }, -amount)?;
        }
        trace.record(|| {
            added.step(StepKind::Discount(Discounting { discount, days, covered, target, exact, room }))
        });
    }
    let discount_amount = base_amount + usage_amount - lines.net;

    let mut in_order: Vec<&Adjustment<'b>> = adjustments.iter().collect();
    in_order.sort_unstable_by_key(|adjustment| adjustment.id);
    for adjustment in in_order {
        let added =
            lines.add(Item::single(ItemKind::Adjustment, adjustment.code), adjustment.amount.exact())?;
        trace.record(|| added.step(StepKind::Adjustment { id: adjustment.id, code: adjustment.code }));
    }
    let adjustment_amount = lines.net - (base_amount + usage_amount - discount_amount);

    let mut tax_amount = 0;
    if let Some(tax) = book.tax {
        let net = lines.net;
        let exact = exact_tax(tax, net);
        let mut added = Added::NOTHING;
        match tax.mode {
            TaxMode::Inclusive => tax_amount = net - exact.rounded(),
            TaxMode::Exclusive => {
                tax_amount = exact.rounded();
                if tax_amount != 0 {
                    added = lines.add(Item::single(ItemKind::Tax, "tax"), tax_amount)?;
                }
            }
        }
        trace.record(|| Step { amount: tax_amount, ..added.step(StepKind::Tax { tax, net, exact }) });
    }
    let mut rounding_amount = 0;
    if let Some(rounding) = book.bill_rounding {
        let sum = lines.net;
        rounding_amount = rounding_of(rounding, sum);
        let mut added = Added::NOTHING;
        if rounding_amount != 0 {
            added = lines.add(Item::single(ItemKind::Rounding, "rounding"), rounding_amount)?;
        }
        trace.record(|| added.step(StepKind::Rounding { rounding, sum }));
    }

    let rated =
        |sum: &&UsageSum<'_>| matches!(rate_usage(book, segments, sum.kind, sum.interval), Rating::Rated(_));
    let rated_rows = usage.iter().filter(rated).map(|sum| sum.rows).sum();
    let usage_rows: u64 = usage.iter().map(|sum| sum.rows).sum();
    Ok(Bill {
        base_amount: stored(base_amount, || "base_amount".to_owned())?,
        usage_amount: stored(usage_amount, || "usage_amount".to_owned())?,
        discount_amount: stored(discount_amount, || "discount_amount".to_owned())?,
        adjustment_amount: stored(adjustment_amount, || "adjustment_amount".to_owned())?,
        tax_amount: stored(tax_amount, || "tax_amount".to_owned())?,
        rounding_amount: stored(rounding_amount, || "rounding_amount".to_owned())?,
        total_amount: stored(lines.net, || "total_amount".to_owned())?,
        items: lines.items,
        rated_rows,
        unbillable_rows: usage_rows - rated_rows,
    })
}

/// How usage counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rating {
    /// In the base segment with this position, also when the plan does not charge for the kind.
    Rated(usize),
    /// The price book does not declare its kind.
    Undeclared,
    /// No base segment covers it.
    Uncovered,
}

pub(crate) fn rate_usage(book: &PriceBook, segments: &Segments<'_>, kind: &str, interval: usize) -> Rating {
    if !book.declares(kind) {
        return Rating::Undeclared;
    }
    segments.of_interval(interval).map_or(Rating::Uncovered, Rating::Rated)
}

/// The line that was added, and its amount.
#[derive(Clone, Copy)]
struct Added {
    line_no: Option<i32>,
    amount: i128,
}

impl Added {
    const NOTHING: Self = Self { line_no: None, amount: 0 };

    fn step(self, kind: StepKind<'_>) -> Step<'_> {
        Step { line_no: self.line_no, amount: self.amount, kind }
    }
}

/// The items that were added so far and their exact sum.
#[derive(Default)]
struct Lines<'a> {
    items: Vec<Item<'a>>,
    net: i128,
}

impl<'a> Lines<'a> {
    fn add(&mut self, item: Item<'a>, amount: i128) -> Result<Added, Quarantine> {
        let amount = stored(amount, || format!("the amount of {} `{}`", item.kind, item.code))?;
        let line_no = i32::try_from(self.items.len() + 1)
            .map_err(|_| overflow("the number of items leaves 32 bits".to_owned()))?;
        self.net += amount.exact();
        self.items.push(Item { line_no, amount, ..item });
        Ok(Added { line_no: Some(line_no), amount: amount.exact() })
    }

    /// Step 2. A segment is charged the fee of the plan's days up to and including it, less the fee
    /// of the days before it. So the segments of a plan add up to the rounded fee of all of its
    /// days.
    fn fee(
        &mut self,
        kind: ItemKind,
        segment: &Segment<'a>,
        month_days: i128,
        trace: &mut impl Trace<'a>,
    ) -> Result<(), Quarantine> {
        let fee = segment.plan.base_fee.exact();
        let of_days = |days: u32| Fraction::new(fee * i128::from(days), month_days);
        let (so_far, before) = (of_days(segment.days_so_far()), of_days(segment.days_before));
        let amount = so_far.rounded() - before.rounded();
        let days = segment.days.count().cast_signed();
        let item = Item::single(kind, &segment.plan.code);
        let added = self.add(Item { quantity: days.into(), days: Some(days), ..item }, amount)?;
        trace.record(|| {
            let addon = kind == ItemKind::Addon;
            added.step(StepKind::Fee { segment: *segment, addon, so_far, before })
        });
        Ok(())
    }

    /// Step 3 for one segment and usage kind. Returns the charged amount.
    fn overage(
        &mut self,
        (position, segment): (usize, &Segment<'a>),
        rate: &'a UsageRate,
        used: i128,
        month_days: i128,
        trace: &mut impl Trace<'a>,
    ) -> Result<i128, Quarantine> {
        let used =
            stored(used, || format!("the sum of {} used under plan `{}`", rate.kind, segment.plan.code))?;
        let of_days = |days: u32| Fraction::new(i128::from(rate.allowance) * i128::from(days), month_days);
        let (so_far, before) = (of_days(segment.days_so_far()), of_days(segment.days_before));
        let free = so_far.truncated() - before.truncated();
        let over = (used.exact() - free).max(0);
        let per = i128::from(rate.per);
        let blocks = (over + per - 1) / per;
        let price = price_of_blocks(rate, blocks);
        let step = |added: Added| {
            added.step(StepKind::Overage(Overage {
                position,
                segment: *segment,
                rate,
                used: used.get(),
                allowance_so_far: so_far,
                allowance_before: before,
                free,
                over,
                blocks,
                tiers: tier_parts(rate, blocks).collect(),
                price,
            }))
        };
        if blocks == 0 {
            trace.record(|| step(Added::NOTHING));
            return Ok(0);
        }
        let within_cap = match (price.map(Fraction::rounded), rate.cap) {
            (Some(amount), Some(cap)) => amount.min(cap.exact()),
            (Some(amount), None) => amount,
            // A price that does not fit into 128 bits is above any cap.
            (None, Some(cap)) => cap.exact(),
            (None, None) => i128::MAX,
        };
        let item = Item {
            quantity: stored(blocks, || format!("the blocks of {}", rate.kind))?.get(),
            days: Some(segment.days.count().cast_signed()),
            used: Some(used.get()),
            free: Some(stored(free, || format!("the free part of {}", rate.kind))?.get()),
            ..Item::single(ItemKind::Usage, &rate.kind)
        };
        let added = self.add(item, within_cap)?;
        trace.record(|| step(added));
        Ok(within_cap)
    }
}

impl<'a> Item<'a> {
    fn single(kind: ItemKind, code: &'a str) -> Self {
        Self {
            line_no: 0,
            kind,
            code,
            quantity: 1,
            amount: MinorUnits::ZERO,
            days: None,
            used: None,
            free: None,
        }
    }
}

/// The blocks by tier. Empty without blocks.
fn tier_parts(rate: &UsageRate, blocks: i128) -> impl Iterator<Item = TierPart> + '_ {
    let mut priced = 0;
    rate.tiers.iter().map_while(move |tier| {
        if priced == blocks {
            return None;
        }
        let reached = tier.up_to.map_or(blocks, |up_to| blocks.min(up_to.into()));
        let part = TierPart { after: priced, blocks: reached - priced, rate: tier.rate };
        priced = reached;
        Some(part)
    })
}

/// The graduated price of a number of blocks, or none if it does not fit into 128 bits.
fn price_of_blocks(rate: &UsageRate, blocks: i128) -> Option<Fraction> {
    let mut millionths: i128 = 0;
    for TierPart { blocks, rate, .. } in tier_parts(rate, blocks) {
        millionths = millionths.checked_add(blocks.checked_mul(rate.millionths())?)?;
    }
    Some(Fraction::new(millionths, Decimal::SCALE))
}

/// The position of each granted discount and the days on which it applies, in the order in which
/// discounts apply. Discounts that apply on no day are left out.
fn granted_days(
    book: &PriceBook,
    month: &ZonedMonth,
    covered: DaySet,
    grants: &[Grant<'_>],
) -> Result<Vec<(usize, DaySet)>, Quarantine> {
    let mut granted: Vec<(usize, DaySet)> = Vec::with_capacity(grants.len());
    let mut unknown: Option<&str> = None;
    for grant in grants {
        let days = month.month().days_between(grant.from, grant.to);
        if days.is_empty() {
            continue;
        }
        match book.discount_position(grant.discount) {
            Some(position) => match granted.iter_mut().find(|(other, _)| *other == position) {
                Some((_, all)) => *all = all.union(days),
                None => granted.push((position, days)),
            },
            None => unknown = Some(unknown.map_or(grant.discount, |other| other.min(grant.discount))),
        }
    }
    if let Some(code) = unknown {
        let detail = format!("discount `{code}` is not in price book {}", book.version);
        return Err(Quarantine { code: QuarantineCode::UnknownDiscount, detail });
    }
    for (_, days) in &mut granted {
        *days = days.intersection(covered);
    }
    granted.retain(|(_, days)| !days.is_empty());
    granted.sort_unstable_by_key(|(position, _)| *position);
    Ok(granted)
}

/// The base and usage amounts that are left for further discounts.
#[derive(Clone, Copy)]
struct Remaining {
    base: i128,
    usage: i128,
}

impl Remaining {
    fn of(&self, target: DiscountTarget) -> i128 {
        match target {
            DiscountTarget::Base => self.base,
            DiscountTarget::Usage => self.usage,
            DiscountTarget::Total => self.base + self.usage,
        }
    }

    /// Takes an amount, which must not exceed the target's remaining amount.
    fn take(&mut self, target: DiscountTarget, amount: i128) {
        let from_base = match target {
            DiscountTarget::Base => amount,
            DiscountTarget::Usage => 0,
            DiscountTarget::Total => amount.min(self.base),
        };
        self.base -= from_base;
        self.usage -= amount - from_base;
    }
}

/// The amount of a discount before it is rounded, capped and limited to what remains of its target.
fn unlimited_amount(
    discount: &Discount,
    target: i128,
    granted: DaySet,
    covered: DaySet,
    month_days: i128,
) -> Fraction {
    let granted = i128::from(granted.count());
    let value = discount.value.millionths();
    let (value, whole_days) = match discount.kind {
        DiscountKind::Percent => (target * value, i128::from(covered.count())),
        DiscountKind::Amount => (value, month_days),
    };
    let divisor = match discount.kind {
        DiscountKind::Percent => 100 * Decimal::SCALE,
        DiscountKind::Amount => Decimal::SCALE,
    };
    match discount.prorate {
        Proration::Days => Fraction::new(value * granted, divisor * whole_days),
        Proration::None => Fraction::new(value, divisor),
    }
}

/// The tax on a net amount (exclusive), or the part of the amount without the tax contained in it
/// (inclusive).
fn exact_tax(tax: Tax, net: i128) -> Fraction {
    let (rate, hundred) = (tax.rate.millionths(), 100 * Decimal::SCALE);
    match tax.mode {
        TaxMode::Exclusive => Fraction::new(net * rate, hundred),
        TaxMode::Inclusive => Fraction::new(net * hundred, hundred + rate),
    }
}

/// The amount that rounds a sum to a multiple of the unit.
fn rounding_of(rounding: BillRounding, sum: i128) -> i128 {
    let unit = rounding.unit.exact();
    match rounding.mode {
        RoundingMode::Down => -sum.rem_euclid(unit),
        RoundingMode::HalfUp => div_round(sum, unit) * unit - sum,
    }
}

/// Converts an exact intermediate value into a stored one. A value that does not fit into 64 bits
/// quarantines the member.
fn stored(value: i128, what: impl FnOnce() -> String) -> Result<MinorUnits, Quarantine> {
    i64::try_from(value).map(MinorUnits::new).map_err(|_| overflow(format!("{} leaves 64 bits", what())))
}

fn overflow(detail: String) -> Quarantine {
    Quarantine { code: QuarantineCode::AmountOverflow, detail }
}
