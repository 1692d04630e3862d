//! The sentences of an explanation, short enough to be read out. English; numbers are exact.

use jiff::civil::DateTime;

use super::numbers::{amount, decimal, exact, exact_amount, exact_price, grouped, rate};
use super::{Evidence, LineUsage};
use crate::locale::Locale;
use crate::money::{Currency, Fraction, MinorUnits};
use crate::month::{BillingMonth, DaySet};
use crate::price_book::{
    BillRounding, DiscountKind, DiscountTarget, Names, Plan, PriceBook, Proration, RoundingMode, Tax, TaxMode,
};
use crate::pricing::{AdjustmentIdentity, Discounting, Overage, Segment, Step, StepKind};

pub(super) struct Words<'a> {
    book: &'a PriceBook,
    month: BillingMonth,
    currency: Currency,
    reasons: &'a [(AdjustmentIdentity, &'a str)],
}

impl<'a> Words<'a> {
    pub(super) fn new(evidence: &Evidence<'a>) -> Self {
        let book = evidence.pricer.book();
        let month = evidence.pricer.month().month();
        Self { book, month, currency: book.currency, reasons: evidence.reasons }
    }

    /// The title of a line, and how its amount comes about.
    pub(super) fn of_step(&self, step: &Step<'_>, usage: Option<&LineUsage>) -> (String, Vec<String>) {
        match &step.kind {
            StepKind::Fee { segment, so_far, before, .. } => self.fee(segment, *so_far, *before, step.amount),
            StepKind::Overage(overage) => self.overage(overage, usage, step.amount),
            StepKind::Discount(discounting) => self.discount(discounting, -step.amount),
            StepKind::Adjustment { id, code } => self.adjustment(*id, code),
            StepKind::Tax { tax, net, exact } => self.tax(*tax, *net, *exact, step.amount),
            StepKind::Rounding { rounding, sum } => self.rounding(*rounding, *sum, step.amount),
        }
    }

    pub(super) fn undeclared(&self) -> String {
        format!("price book {} does not declare this kind", self.book.version)
    }

    pub(super) fn uncovered(&self) -> String {
        "no base plan covers its dates".to_owned()
    }

    pub(super) fn unlimited(&self, plan: &Plan) -> String {
        format!("free with {}", named(&plan.names, &plan.code))
    }

    fn fee(
        &self,
        segment: &Segment<'_>,
        so_far: Fraction,
        before: Fraction,
        charged: i128,
    ) -> (String, Vec<String>) {
        let plan = segment.plan;
        let title = format!("{}, {}", named(&plan.names, &plan.code), self.period(segment.days));
        let fee = self.amount(plan.base_fee.exact());
        let steps = if segment.days.count() == self.month.days() {
            vec![format!("The fee of the whole month: {fee}.")]
        } else if segment.days_before == 0 {
            vec![format!("{fee} × {} = {}.", self.share(segment.days.count()), self.rounded(so_far))]
        } else {
            vec![
                format!(
                    "All days of this plan so far: {fee} × {} = {}.",
                    self.share(segment.days_so_far()),
                    self.rounded(so_far)
                ),
                format!(
                    "Less what the {} before were charged: {fee} × {} = {}.",
                    days(segment.days_before),
                    self.share(segment.days_before),
                    self.rounded(before)
                ),
                format!(
                    "{} − {} = {}.",
                    self.amount(so_far.rounded()),
                    self.amount(before.rounded()),
                    self.amount(charged)
                ),
            ]
        };
        (title, steps)
    }

    fn overage(
        &self,
        overage: &Overage<'_>,
        usage: Option<&LineUsage>,
        charged: i128,
    ) -> (String, Vec<String>) {
        let Overage { segment, rate, used, free, over, blocks, .. } = overage;
        let kind = rate.kind.as_str();
        let plan = segment.plan;
        let title = format!(
            "{} with {}, {}",
            self.kind_name(kind),
            named(&plan.names, &plan.code),
            self.period(segment.days)
        );
        if *used == 0 {
            return (title, vec!["Nothing used, nothing to pay.".to_owned()]);
        }
        let mut steps = vec![self.used(kind, i128::from(*used), usage), self.free(overage)];
        if *over == 0 {
            steps.push("Nothing beyond it: nothing to pay.".to_owned());
            return (title, steps);
        }
        let beyond =
            format!("Beyond it: {} − {} = {}", grouped((*used).into()), grouped(*free), raw(kind, *over));
        steps.push(if rate.per == 1 {
            format!("{beyond}.")
        } else {
            format!(
                "{beyond}, which is {} started blocks of {}.",
                grouped(*blocks),
                raw(kind, rate.per.into())
            )
        });
        steps.extend(self.tiers(overage));
        if let Some(cap) = rate.cap
            && charged == cap.exact()
            && overage.price.is_none_or(|price| price.rounded() > cap.exact())
        {
            steps.push(format!(
                "At most {} for this kind, so {}.",
                self.amount(cap.exact()),
                self.amount(charged)
            ));
        }
        (title, steps)
    }

    /// What the price book calls the kind, otherwise its English word.
    fn kind_name<'k>(&'k self, kind: &'k str) -> &'k str {
        let names = self.book.names_of_usage_kind(kind);
        names.map_or_else(|| word_of_kind(kind), |names| names.in_first_of(&[Locale::EN]))
    }

    fn used(&self, kind: &str, used: i128, usage: Option<&LineUsage>) -> String {
        let used = raw(kind, used);
        match usage {
            Some(LineUsage { records: 1, first_at: Some(at), .. }) => {
                format!("Used: {used} in 1 record, on {}.", instant(at))
            }
            Some(LineUsage { records, first_at: Some(first), last_at: Some(last), .. }) => {
                let records = grouped(i128::from(*records));
                format!("Used: {used} in {records} records, from {} to {}.", instant(first), instant(last))
            }
            _ => format!("Used: {used}."),
        }
    }

    fn free(&self, overage: &Overage<'_>) -> String {
        let Overage { segment, rate, free, allowance_so_far, allowance_before, .. } = overage;
        let kind = rate.kind.as_str();
        let allowance = grouped(rate.allowance.into());
        if rate.allowance == 0 {
            "Free: nothing.".to_owned()
        } else if segment.days.count() == self.month.days() {
            format!("Free: {}.", raw(kind, *free))
        } else if segment.days_before == 0 {
            let share = self.share(segment.days.count());
            format!("Free: {allowance} × {share} = {}.", floored(*allowance_so_far, |of| raw(kind, of)))
        } else {
            format!(
                "Free: {allowance} × {} = {}, less {} for the {} before, which is {}.",
                self.share(segment.days_so_far()),
                floored(*allowance_so_far, grouped),
                grouped(allowance_before.truncated()),
                days(segment.days_before),
                raw(kind, *free)
            )
        }
    }

    fn tiers(&self, overage: &Overage<'_>) -> Vec<String> {
        let unit = |blocks: i128| match (overage.rate.per, blocks) {
            (1, _) => grouped(blocks),
            (_, 1) => "1 block".to_owned(),
            _ => format!("{} blocks", grouped(blocks)),
        };
        let total = overage.price.map_or_else(
            || "more than can be counted".to_owned(),
            |price| exact_and_rounded(exact_price(price, self.currency), self.amount(price.rounded())),
        );
        match overage.tiers.as_slice() {
            [] => Vec::new(),
            [only] => vec![format!("{} × {} = {total}.", unit(only.blocks), rate(only.rate, self.currency))],
            tiers => {
                let mut lines: Vec<String> = tiers
                    .iter()
                    .map(|tier| {
                        let price = tier.blocks.checked_mul(tier.rate.millionths()).map_or_else(
                            || "more than can be counted".to_owned(),
                            |price| {
                                exact_price(Fraction::new(price, crate::money::Decimal::SCALE), self.currency)
                            },
                        );
                        format!(
                            "The {} from {} to {}: × {} = {price}.",
                            unit(tier.blocks),
                            grouped(tier.after + 1),
                            grouped(tier.after + tier.blocks),
                            rate(tier.rate, self.currency)
                        )
                    })
                    .collect();
                lines.push(format!("Together {total}."));
                lines
            }
        }
    }

    fn discount(&self, discounting: &Discounting<'_>, taken: i128) -> (String, Vec<String>) {
        let Discounting { discount, days: granted, covered, target, exact, room } = discounting;
        let title = format!("Discount {}", named(&discount.names, &discount.code));
        let of = match discount.applies_to {
            DiscountTarget::Base => "the fees",
            DiscountTarget::Usage => "the usage",
            DiscountTarget::Total => "the fees and the usage",
        };
        let prorated = discount.prorate == Proration::Days;
        let wanted = self.rounded(*exact);
        let mut steps = vec![match discount.kind {
            DiscountKind::Percent => {
                let share = if prorated && granted != covered {
                    format!(" × {} of {} with a plan", granted.count(), days(covered.count()))
                } else {
                    String::new()
                };
                format!(
                    "{} % of {of} of {}{share} = {wanted}.",
                    decimal(discount.value),
                    self.amount(*target)
                )
            }
            DiscountKind::Amount if prorated && granted.count() < self.month.days() => {
                format!(
                    "{} × {} = {wanted}.",
                    rate(discount.value, self.currency),
                    self.share(granted.count())
                )
            }
            DiscountKind::Amount => format!("An amount of {wanted}."),
        }];
        let mut limited = exact.rounded();
        if let Some(cap) = discount.cap.map(MinorUnits::exact).filter(|cap| *cap < limited) {
            limited = cap;
            steps.push(format!("At most {}.", self.amount(cap)));
        }
        if *room < limited {
            steps.push(format!(
                "Only {} of {of} is left to discount, so {}.",
                self.amount(*room),
                self.amount(taken)
            ));
        }
        (title, steps)
    }

    fn adjustment(&self, id: AdjustmentIdentity, code: &str) -> (String, Vec<String>) {
        let reason = self.reasons.iter().find(|(other, _)| *other == id).map(|(_, reason)| *reason);
        match id {
            AdjustmentIdentity::Loaded(number) => {
                let steps = vec![match reason {
                    Some(reason) => format!("Adjustment {number}: {}", one_line(reason)),
                    None => format!("Adjustment {number}."),
                }];
                (format!("Adjustment {code}"), steps)
            }
            AdjustmentIdentity::Correction { month, revision } => {
                let steps = vec![format!(
                    "The bill of {} was computed again by its revision {revision}, after it had been sent. The \
                     difference is billed here.",
                    super::month_name(month)
                )];
                (format!("Correction of {}", super::month_name(month)), steps)
            }
        }
    }

    fn tax(&self, tax: Tax, net: i128, exact: Fraction, charged: i128) -> (String, Vec<String>) {
        let percent = decimal(tax.rate);
        match tax.mode {
            TaxMode::Exclusive => {
                let step = format!("{percent} % of {} = {}.", self.amount(net), self.rounded(exact));
                (format!("Tax of {percent} %"), vec![step])
            }
            TaxMode::Inclusive => {
                let steps = vec![
                    format!(
                        "Without tax: {} × 100 ÷ (100 + {percent}) = {}.",
                        self.amount(net),
                        self.rounded(exact)
                    ),
                    format!(
                        "{} − {} = {}.",
                        self.amount(net),
                        self.amount(exact.rounded()),
                        self.amount(charged)
                    ),
                ];
                (format!("Tax of {percent} %, contained in the amounts above"), steps)
            }
        }
    }

    fn rounding(&self, rounding: BillRounding, sum: i128, charged: i128) -> (String, Vec<String>) {
        let how = match rounding.mode {
            RoundingMode::Down => "down to",
            RoundingMode::HalfUp => "to the nearest",
        };
        let title = format!("Rounding {how} a multiple of {}", self.amount(rounding.unit.exact()));
        let title =
            if rounding.mode == RoundingMode::HalfUp { title.replace("nearest a", "nearest") } else { title };
        let step = if charged == 0 {
            format!("{} is one already.", self.amount(sum))
        } else {
            format!("{} becomes {}.", self.amount(sum), self.amount(sum + charged))
        };
        (title, vec![step])
    }

    fn amount(&self, minor: i128) -> String {
        amount(minor, self.currency)
    }

    /// `22,354.8387…, rounded to 22,355`; only the number if it is whole.
    fn rounded(&self, value: Fraction) -> String {
        exact_and_rounded(exact_amount(value, self.currency), self.amount(value.rounded()))
    }

    /// `21 of 31 days`.
    fn share(&self, of: u32) -> String {
        format!("{of} of {}", days(self.month.days()))
    }

    /// The days of a segment, which are consecutive.
    fn period(&self, days: DaySet) -> String {
        let (Some(first), end) = (days.first(), days.end()) else { return "no day".to_owned() };
        let name = self.month.first_day().strftime("%B");
        match (first + 1, end) {
            (1, end) if end == self.month.days() => format!("all of {name}"),
            (first, end) if first == end => format!("{first} {name}"),
            (first, end) => format!("{first} to {end} {name}"),
        }
    }
}

fn exact_and_rounded(exact: String, rounded: String) -> String {
    if exact == rounded { rounded } else { format!("{exact}, rounded to {rounded}") }
}

/// A part of an allowance, which is rounded down.
fn floored(value: Fraction, written: impl Fn(i128) -> String) -> String {
    let down = written(value.truncated());
    if value.truncated() * value.denominator() == value.numerator() {
        down
    } else {
        format!("{}, rounded down to {down}", exact(value))
    }
}

/// `1 day`, `21 days`.
fn days(count: u32) -> String {
    if count == 1 { "1 day".to_owned() } else { format!("{count} days") }
}

/// `LTE 33 (LTE-33)`, or only the code.
fn named(names: &Names, code: &str) -> String {
    let name = names.in_first_of(&[Locale::EN]);
    if name == code || name.is_empty() { code.to_owned() } else { format!("{name} ({code})") }
}

fn word_of_kind(kind: &str) -> &str {
    match kind {
        "voice" => "Voice",
        "data" => "Data",
        "sms" => "SMS",
        other => other,
    }
}

/// A quantity in the raw units of its kind; a plain number of a kind that has no name for them.
pub(super) fn raw(kind: &str, quantity: i128) -> String {
    let unit = match (kind, quantity) {
        ("voice", 1) => " second",
        ("voice", _) => " seconds",
        ("data", 1) => " byte",
        ("data", _) => " bytes",
        ("sms", 1) => " message",
        ("sms", _) => " messages",
        _ => "",
    };
    format!("{}{unit}", grouped(quantity))
}

/// A local time as `13 October 00:00:00`.
fn instant(local: &str) -> String {
    local
        .parse::<DateTime>()
        .map_or_else(|_| local.to_owned(), |at| at.strftime("%-d %B %H:%M:%S").to_string())
}

/// Free text must not break the layout or move the cursor.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
