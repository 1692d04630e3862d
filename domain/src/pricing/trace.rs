//! The steps of a calculation, recorded by the code that calculates. A step holds the values that were
//! computed with, so an explanation made of steps cannot differ from the bill.

use super::inputs::AdjustmentIdentity;
use super::segments::Segment;
use crate::money::{Decimal, Fraction};
use crate::month::DaySet;
use crate::price_book::{BillRounding, Discount, Tax, UsageRate};

/// Takes the steps in the order in which they are made.
pub(super) trait Trace<'a> {
    /// `step` is called only by a recorder that keeps it.
    fn record(&mut self, step: impl FnOnce() -> Step<'a>);
}

/// Keeps nothing.
impl<'a> Trace<'a> for () {
    #[inline]
    fn record(&mut self, _: impl FnOnce() -> Step<'a>) {}
}

impl<'a> Trace<'a> for Vec<Step<'a>> {
    fn record(&mut self, step: impl FnOnce() -> Step<'a>) {
        self.push(step());
    }
}

/// One step. Its amount is that of its item, or zero without an item; the tax that is contained in a
/// bill has an amount and no item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The item that the step has added.
    pub line_no: Option<i32>,
    pub amount: i128,
    pub kind: StepKind<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepKind<'a> {
    /// The amount is `so_far` less `before`, each rounded.
    Fee {
        segment: Segment<'a>,
        addon: bool,
        /// The fee of the plan's days up to and including this segment.
        so_far: Fraction,
        /// The fee of the plan's days before.
        before: Fraction,
    },
    Overage(Overage<'a>),
    Discount(Discounting<'a>),
    Adjustment {
        id: AdjustmentIdentity,
        code: &'a str,
    },
    Tax {
        tax: Tax,
        /// The sum of the items before.
        net: i128,
        /// Exclusive: the tax. Inclusive: the part of `net` without tax.
        exact: Fraction,
    },
    Rounding {
        rounding: BillRounding,
        /// The sum of the items before.
        sum: i128,
    },
}

/// One usage kind in one base segment, also when nothing is to pay for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overage<'a> {
    /// The position of the segment among the base segments.
    pub position: usize,
    pub segment: Segment<'a>,
    pub rate: &'a UsageRate,
    /// Raw units used.
    pub used: i64,
    /// The part of the allowance for the plan's days up to and including this segment.
    pub allowance_so_far: Fraction,
    /// The part for the plan's days before.
    pub allowance_before: Fraction,
    /// Raw units that are free: `allowance_so_far` less `allowance_before`, each rounded down.
    pub free: i128,
    /// Raw units beyond the free ones.
    pub over: i128,
    pub blocks: i128,
    /// Empty without blocks.
    pub tiers: Vec<TierPart>,
    /// The sum over the tiers; none if it does not fit into 128 bits.
    pub price: Option<Fraction>,
}

/// The blocks that one tier prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierPart {
    /// The number of blocks in the tiers before.
    pub after: i128,
    pub blocks: i128,
    /// Minor units for each block.
    pub rate: Decimal,
}

/// A granted discount, also when nothing is left to discount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discounting<'a> {
    pub discount: &'a Discount,
    /// The days that both a grant and a base segment cover.
    pub days: DaySet,
    /// The days that base segments cover.
    pub covered: DaySet,
    /// The undiscounted amount that it applies to.
    pub target: i128,
    /// The discount before it is rounded and limited.
    pub exact: Fraction,
    /// What is left of its target.
    pub room: i128,
}
