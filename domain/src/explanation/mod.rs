//! A bill in words: each line back to usage, plan, tier, discount, tax and rounding. Made from the steps
//! that pricing has recorded, so it computes no amount itself. Contains nothing of the person.

mod numbers;
mod words;

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use words::Words;

use crate::money::Currency;
use crate::month::BillingMonth;
use crate::pricing::{
    AdjustmentIdentity, Bill, Eligibility, Overage, Pricer, Rating, Segments, Step, StepKind, rate_usage,
};
use crate::zone::Zone;

/// The usage records of one kind between two boundaries of the member's usage, as they were summed for
/// pricing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageSpan<'a> {
    pub kind: &'a str,
    /// See [`UsageSum::interval`](crate::pricing::UsageSum::interval).
    pub interval: usize,
    pub records: u64,
    pub quantity: i128,
    pub first: Timestamp,
    pub last: Timestamp,
}

/// What a bill is explained with, besides its steps.
#[derive(Debug)]
pub struct Evidence<'a> {
    pub pricer: Pricer<'a>,
    pub zone: &'a Zone,
    pub usage: &'a [UsageSpan<'a>],
    /// Why there is an adjustment, for those that were loaded with a reason.
    pub reasons: &'a [(AdjustmentIdentity, &'a str)],
}

/// A bill in words. Serialises to the JSON that `monthend explain` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// In the order of the bill. A step that led to no line of the bill has no number.
    pub lines: Vec<Line>,
    /// Usage that no line charges.
    pub free_usage: Vec<FreeUsage>,
    /// The sum of all lines with a number, in minor units.
    #[serde(serialize_with = "as_text")]
    pub total: i128,
    #[serde(skip)]
    currency: Currency,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub line_no: Option<i32>,
    /// As in the bill's items: `BASE`, `USAGE` and so on.
    pub kind: &'static str,
    pub code: String,
    /// What the line is, for a person.
    pub title: String,
    /// Minor units. The tax that is contained in a bill has an amount and no number.
    #[serde(serialize_with = "as_text")]
    pub amount: i128,
    /// How the amount comes about, one sentence each.
    pub steps: Vec<String>,
    pub usage: Option<LineUsage>,
}

/// The numbers of a line of kind `USAGE`, in raw units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LineUsage {
    pub records: u64,
    /// Local times; none without records.
    pub first_at: Option<String>,
    pub last_at: Option<String>,
    #[serde(serialize_with = "as_text")]
    pub used: i128,
    #[serde(serialize_with = "as_text")]
    pub free: i128,
    #[serde(serialize_with = "as_text")]
    pub over: i128,
    #[serde(serialize_with = "as_text")]
    pub blocks: i128,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FreeUsage {
    pub kind: String,
    pub records: u64,
    #[serde(serialize_with = "as_text")]
    pub quantity: i128,
    /// Whether it counts as unbillable; otherwise the plan has it for free.
    pub unbillable: bool,
    pub reason: String,
}

impl Explanation {
    /// Puts a bill and its steps into words.
    pub fn new(
        evidence: &Evidence<'_>,
        eligibility: &Eligibility<'_>,
        bill: &Bill<'_>,
        steps: &[Step<'_>],
    ) -> Self {
        let words = Words::new(evidence);
        let segments = match eligibility {
            Eligibility::Eligible(segments) => Some(segments),
            Eligibility::NotEligible | Eligibility::Quarantined(_) => None,
        };
        let lines: Vec<Line> = steps.iter().map(|step| line(&words, evidence, segments, step)).collect();
        let total = lines.iter().filter(|line| line.line_no.is_some()).map(|line| line.amount).sum();
        debug_assert_eq!(total, bill.total_amount.exact());
        let free_usage = segments.map_or_else(Vec::new, |segments| free_usage(&words, evidence, segments));
        Self { lines, free_usage, total, currency: evidence.pricer.book().currency }
    }

    /// The lines that the bill has, by number.
    pub fn billed_lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.line_no.is_some())
    }
}

/// Columns of a title, and of the amount after it.
const TITLE: usize = 64;
const AMOUNT: usize = 16;

/// One line for each line of the bill, its steps below it, then the total.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { line_no, title, amount, steps, .. } in &self.lines {
            let (number, amount) = match (line_no, amount) {
                (Some(number), amount) => (number.to_string(), numbers::amount(*amount, self.currency)),
                (None, 0) => ("-".to_owned(), "-".to_owned()),
                (None, amount) => ("-".to_owned(), format!("({})", numbers::amount(*amount, self.currency))),
            };
            writeln!(f, "{number:>3}  {title:TITLE$}{amount:>AMOUNT$}")?;
            for step in steps {
                writeln!(f, "       {step}")?;
            }
        }
        let total = numbers::amount(self.total, self.currency);
        writeln!(f, "     {:TITLE$}{total:>AMOUNT$}", format!("Total in {}", self.currency))?;
        if !self.free_usage.is_empty() {
            writeln!(f, "Usage that is not charged:")?;
        }
        for FreeUsage { kind, records, quantity, reason, .. } in &self.free_usage {
            let noun = if *records == 1 { "record" } else { "records" };
            let (records, quantity) = (numbers::grouped(i128::from(*records)), words::raw(kind, *quantity));
            writeln!(f, "     {kind}: {records} {noun} of {quantity}: {reason}")?;
        }
        Ok(())
    }
}

/// `1,234.56 USD`.
#[must_use]
pub fn format_amount(minor: i128, currency: Currency) -> String {
    format!("{} {currency}", numbers::amount(minor, currency))
}

/// `October 2026`.
#[must_use]
pub fn month_name(month: BillingMonth) -> String {
    month.first_day().strftime("%B %Y").to_string()
}

fn line(
    words: &Words<'_>,
    evidence: &Evidence<'_>,
    segments: Option<&Segments<'_>>,
    step: &Step<'_>,
) -> Line {
    let (kind, code) = match &step.kind {
        StepKind::Fee { segment, addon, .. } => {
            (if *addon { "ADDON" } else { "BASE" }, segment.plan.code.as_str())
        }
        StepKind::Overage(overage) => ("USAGE", overage.rate.kind.as_str()),
        StepKind::Discount(discounting) => ("DISCOUNT", discounting.discount.code.as_str()),
        StepKind::Adjustment { code, .. } => ("ADJUSTMENT", *code),
        StepKind::Tax { .. } => ("TAX", "tax"),
        StepKind::Rounding { .. } => ("ROUNDING", "rounding"),
    };
    let usage = match &step.kind {
        StepKind::Overage(overage) => Some(line_usage(evidence, segments, overage)),
        _ => None,
    };
    let (title, steps) = words.of_step(step, usage.as_ref());
    Line { line_no: step.line_no, kind, code: code.to_owned(), title, amount: step.amount, steps, usage }
}

fn line_usage(evidence: &Evidence<'_>, segments: Option<&Segments<'_>>, overage: &Overage<'_>) -> LineUsage {
    let own: Vec<&UsageSpan<'_>> = evidence
        .usage
        .iter()
        .filter(|span| {
            span.kind == overage.rate.kind
                && segments.is_some_and(|of| of.of_interval(span.interval) == Some(overage.position))
        })
        .collect();
    let local = |at: Timestamp| evidence.zone.local_time(at).to_string();
    LineUsage {
        records: own.iter().map(|span| span.records).sum(),
        first_at: own.iter().map(|span| span.first).min().map(local),
        last_at: own.iter().map(|span| span.last).max().map(local),
        used: overage.used.into(),
        free: overage.free,
        over: overage.over,
        blocks: overage.blocks,
    }
}

/// What is unbillable, and what the plan has for free.
fn free_usage(words: &Words<'_>, evidence: &Evidence<'_>, segments: &Segments<'_>) -> Vec<FreeUsage> {
    let book = evidence.pricer.book();
    let mut found: Vec<FreeUsage> = Vec::new();
    for span in evidence.usage {
        let (unbillable, reason) = match rate_usage(book, segments, span.kind, span.interval) {
            Rating::Undeclared => (true, words.undeclared()),
            Rating::Uncovered => (true, words.uncovered()),
            Rating::Rated(position) => {
                let plan = segments.base()[position].plan;
                if plan.usage.iter().any(|rate| rate.kind == span.kind) {
                    continue;
                }
                (false, words.unlimited(plan))
            }
        };
        match found.iter_mut().find(|other| other.kind == span.kind && other.reason == reason) {
            Some(other) => {
                other.records += span.records;
                other.quantity += span.quantity;
            }
            None => found.push(FreeUsage {
                kind: span.kind.to_owned(),
                records: span.records,
                quantity: span.quantity,
                unbillable,
                reason,
            }),
        }
    }
    found.sort_by(|one, other| (&one.kind, &one.reason).cmp(&(&other.kind, &other.reason)));
    found
}

/// Numbers that can exceed what JSON readers keep exactly.
fn as_text<S: Serializer>(number: &i128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
