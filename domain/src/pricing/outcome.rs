//! The result of pricing a member: a bill, a quarantine record, or neither.

use std::fmt;

use crate::money::MinorUnits;

/// The result of pricing one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    Billed(Bill<'a>),
    /// No bill. All usage rows count as quarantined.
    Quarantined {
        quarantine: Quarantine,
        usage_rows: u64,
    },
    /// No base plan on any day, so no bill. All usage rows are unbillable.
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

/// In the order in which they are checked.
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

/// A bill with its items. `total_amount` is the sum of the items, and equals base + usage −
/// discount + adjustment + exclusive tax + rounding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill<'a> {
    pub base_amount: MinorUnits,
    pub usage_amount: MinorUnits,
    pub discount_amount: MinorUnits,
    pub adjustment_amount: MinorUnits,
    pub tax_amount: MinorUnits,
    pub rounding_amount: MinorUnits,
    pub total_amount: MinorUnits,
    /// In the order of their line numbers.
    pub items: Vec<Item<'a>>,
    /// Usage rows of a declared kind that a segment covers, including free usage.
    pub rated_rows: u64,
    /// Usage rows that no segment covers, or whose kind is not declared.
    pub unbillable_rows: u64,
}

/// The amounts that are stored with a bill; see [`Bill`]. They are as confidential as names, so
/// `Debug` hides them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    pub base: MinorUnits,
    pub usage: MinorUnits,
    /// The sum of all discounts, zero or positive.
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
    /// Counted from 1.
    pub line_no: i32,
    pub kind: ItemKind,
    /// The code of the plan, discount or adjustment, or the usage kind; for tax and rounding `tax`
    /// and `rounding`.
    pub code: &'a str,
    /// The days of a fee, the blocks of usage, otherwise 1.
    pub quantity: i64,
    pub amount: MinorUnits,
    /// For fees and usage the days of the segment, for discounts the days that both grant and
    /// segment cover.
    pub days: Option<i32>,
    /// For usage: raw units used in the segment.
    pub used: Option<i64>,
    /// For usage: raw units that are free, the segment's part of the allowance.
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
