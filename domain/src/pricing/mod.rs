//! How one member's month becomes one bill, a quarantine record, or neither.
//!
//! In two stages, because usage belongs to the segment that covers its local date: [`Pricer::cover`] turns
//! subscriptions into segments and says at which instants usage has to be cut; the caller sums usage between those
//! instants; [`Pricer::price`] does the rest. Intermediates are exact; only what is stored has to fit 64 bits.

mod bill;
mod segments;

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;

pub use segments::{Coverage, Segment, Segments};

use crate::ids::AdjustmentId;
use crate::money::MinorUnits;
use crate::price_book::PriceBook;
use crate::zone::MonthOnClock;

/// Prices members of one month by one price book.
#[derive(Clone, Copy, Debug)]
pub struct Pricer<'a> {
    book: &'a PriceBook,
    month: &'a MonthOnClock,
}

impl<'a> Pricer<'a> {
    /// The caller has checked that the price book is valid for the month: see [`PriceBook::check_month`].
    pub fn new(book: &'a PriceBook, month: &'a MonthOnClock) -> Self {
        Self { book, month }
    }

    /// Stage 1: what the member's subscriptions (in any order, of any time) come to in the month.
    pub fn cover(&self, subscriptions: &[Subscription<'_>]) -> Coverage<'a> {
        segments::cover(self.book, self.month, subscriptions)
    }

    /// Stage 2: the outcome. Grants, adjustments and usage come in any order; adjustments and usage are the month's.
    pub fn price<'b>(
        &self,
        coverage: &Coverage<'a>,
        grants: &[Grant<'_>],
        adjustments: &[Adjustment<'b>],
        usage: &[UsageSum<'_>],
    ) -> Outcome<'b>
    where
        'a: 'b,
    {
        let usage_rows = || usage.iter().map(|sum| sum.rows).sum();
        let segments = match coverage {
            Coverage::Eligible(segments) => segments,
            Coverage::NotEligible => return Outcome::NotEligible { usage_rows: usage_rows() },
            Coverage::Quarantined(quarantine) => {
                return Outcome::Quarantined { quarantine: quarantine.clone(), usage_rows: usage_rows() };
            }
        };
        match bill::draw_up(self, segments, grants, adjustments, usage) {
            Ok(bill) => Outcome::Billed(bill),
            Err(quarantine) => Outcome::Quarantined { quarantine, usage_rows: usage_rows() },
        }
    }
}

/// Dates are inclusive in `from` and exclusive in `to`; no `to`: open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    pub plan: &'a str,
    pub from: Date,
    pub to: Option<Date>,
}

/// Dates are inclusive in `from` and exclusive in `to`; no `to`: open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    pub discount: &'a str,
    pub from: Date,
    pub to: Option<Date>,
}

/// A one-off charge (positive) or credit (negative).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjustment<'a> {
    pub id: AdjustmentId,
    pub code: &'a str,
    pub amount: MinorUnits,
}

/// The member's usage of one kind between two of the cuts that [`Coverage::cuts`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageSum<'a> {
    pub kind: &'a str,
    /// How many of the cuts are at or before `started_at`: what `width_bucket(started_at, cuts)` returns.
    pub bucket: usize,
    pub quantity: i128,
    pub rows: u64,
}

/// What comes of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    Billed(Bill<'a>),
    /// No bill; all the usage rows count as quarantined.
    Quarantined {
        quarantine: Quarantine,
        usage_rows: u64,
    },
    /// No base segment: no bill; all the usage rows are unbillable.
    NotEligible {
        usage_rows: u64,
    },
}

/// Why a member cannot be priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    pub code: QuarantineCode,
    pub detail: String,
}

/// In the order in which they are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuarantineCode {
    UnknownPlan,
    OverlappingSubscriptions,
    UnknownDiscount,
    AmountOverflow,
}

impl QuarantineCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPlan => "UNKNOWN_PLAN",
            Self::OverlappingSubscriptions => "OVERLAPPING_SUBSCRIPTIONS",
            Self::UnknownDiscount => "UNKNOWN_DISCOUNT",
            Self::AmountOverflow => "AMOUNT_OVERFLOW",
        }
    }
}

impl fmt::Display for QuarantineCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A bill with its items. `total_amount` is the sum of the items, and equals base + usage − discount + adjustment +
/// exclusive tax + rounding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill<'a> {
    pub base_amount: MinorUnits,
    pub usage_amount: MinorUnits,
    pub discount_amount: MinorUnits,
    pub adjustment_amount: MinorUnits,
    pub tax_amount: MinorUnits,
    pub rounding_amount: MinorUnits,
    pub total_amount: MinorUnits,
    /// In the order of their lines.
    pub items: Vec<Item<'a>>,
    /// Usage rows that a segment covers, of a declared kind; free ones included.
    pub rated_rows: u64,
    /// Usage rows that no segment covers, or of a kind that isn't declared.
    pub unbillable_rows: u64,
}

/// The sums that a bill is kept with; see [`Bill`]. They are as private as a name, so they can't be printed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    pub base: MinorUnits,
    pub usage: MinorUnits,
    /// What was taken off, zero or positive.
    pub discount: MinorUnits,
    pub adjustment: MinorUnits,
    pub tax: MinorUnits,
    pub rounding: MinorUnits,
    pub total: MinorUnits,
}

impl fmt::Debug for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Amounts(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// From 1.
    pub line_no: i32,
    pub kind: ItemKind,
    /// The plan's, the usage kind, the discount's, the adjustment's; for tax and rounding `tax` and `rounding`.
    pub code: &'a str,
    /// Days of a fee, blocks of usage, otherwise 1.
    pub quantity: i64,
    pub amount: MinorUnits,
    /// Days of the segment (fees and usage), or covered by both grant and segment (discounts).
    pub days: Option<i32>,
    /// Raw units used in the segment (usage only).
    pub used: Option<i64>,
    /// Raw units of it that were free to use (usage only): the segment's part of the allowance.
    pub free: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    Base,
    Usage,
    Addon,
    Discount,
    Adjustment,
    Tax,
    Rounding,
}

impl ItemKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "BASE",
            Self::Usage => "USAGE",
            Self::Addon => "ADDON",
            Self::Discount => "DISCOUNT",
            Self::Adjustment => "ADJUSTMENT",
            Self::Tax => "TAX",
            Self::Rounding => "ROUNDING",
        }
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Coverage<'_> {
    /// The instants within the month, in order, at which usage has to be cut. Usually there are none.
    pub fn cuts(&self) -> &[Timestamp] {
        match self {
            Self::Eligible(segments) => segments.cuts(),
            Self::NotEligible | Self::Quarantined(_) => &[],
        }
    }
}
