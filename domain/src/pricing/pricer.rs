//! The two stages of pricing a member.

use super::calculation;
use super::inputs::{Adjustment, Grant, Subscription, UsageSum};
use super::outcome::Outcome;
use super::segments::{self, Eligibility};
use super::trace::{Step, Trace};
use crate::price_book::{PlanKind, PriceBook};
use crate::zone::ZonedMonth;

/// Prices the members of one month with one price book.
#[derive(Clone, Copy, Debug)]
pub struct Pricer<'a> {
    book: &'a PriceBook,
    month: &'a ZonedMonth,
}

impl<'a> Pricer<'a> {
    /// The price book must be valid for the month: see [`PriceBook::check_month`].
    pub fn new(book: &'a PriceBook, month: &'a ZonedMonth) -> Self {
        Self { book, month }
    }

    pub fn book(&self) -> &'a PriceBook {
        self.book
    }

    pub fn month(&self) -> &'a ZonedMonth {
        self.month
    }

    /// Whether the price book has an add-on with this code.
    pub fn is_add_on(&self, code: &str) -> bool {
        self.book.plan(code).is_some_and(|plan| plan.kind == PlanKind::Addon)
    }

    /// Stage 1: whether the member gets a bill, and the segments of the month. The subscriptions
    /// may be in any order and of any time.
    pub fn eligibility(&self, subscriptions: &[Subscription<'_>]) -> Eligibility<'a> {
        segments::eligibility(self.book, self.month, subscriptions)
    }

    /// Stage 2: the outcome. Grants, adjustments and usage may be in any order. Adjustments and
    /// usage must be those of the month.
    pub fn price<'b>(
        &self,
        eligibility: &Eligibility<'a>,
        grants: &[Grant<'_>],
        adjustments: &[Adjustment<'b>],
        usage: &[UsageSum<'_>],
    ) -> Outcome<'b>
    where
        'a: 'b,
    {
        self.run(eligibility, grants, adjustments, usage, &mut ())
    }

    /// The same, with the steps that led to the outcome. Of a quarantined member, the steps up to the
    /// one that failed.
    pub fn price_with_steps<'b>(
        &self,
        eligibility: &Eligibility<'a>,
        grants: &[Grant<'_>],
        adjustments: &[Adjustment<'b>],
        usage: &[UsageSum<'_>],
    ) -> (Outcome<'b>, Vec<Step<'b>>)
    where
        'a: 'b,
    {
        let mut steps = Vec::new();
        let outcome = self.run(eligibility, grants, adjustments, usage, &mut steps);
        (outcome, steps)
    }

    fn run<'b>(
        &self,
        eligibility: &Eligibility<'a>,
        grants: &[Grant<'_>],
        adjustments: &[Adjustment<'b>],
        usage: &[UsageSum<'_>],
        trace: &mut impl Trace<'b>,
    ) -> Outcome<'b>
    where
        'a: 'b,
    {
        let usage_rows = || usage.iter().map(|sum| sum.rows).sum();
        let segments = match eligibility {
            Eligibility::Eligible(segments) => segments,
            Eligibility::NotEligible => return Outcome::NotEligible { usage_rows: usage_rows() },
            Eligibility::Quarantined(quarantine) => {
                return Outcome::Quarantined { quarantine: quarantine.clone(), usage_rows: usage_rows() };
            }
        };
        match calculation::calculate(self.book, self.month, segments, grants, adjustments, usage, trace) {
            Ok(bill) => Outcome::Billed(bill),
            Err(quarantine) => Outcome::Quarantined { quarantine, usage_rows: usage_rows() },
        }
    }
}
