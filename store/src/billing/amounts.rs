//! What is counted and summed over the bills of a month.

use std::ops::AddAssign;

use crate::decode::read_amount;
use crate::error::StoreError;

/// Members, items and usage rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub billed: i64,
    pub quarantined: i64,
    pub items: i64,
    pub rated_usage: i64,
    pub unbillable_usage: i64,
    pub quarantined_usage: i64,
}

/// Totals of a month in minor units; they can exceed 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    pub base: i128,
    pub usage: i128,
    /// What discounts took off: zero or positive.
    pub discount: i128,
    pub adjustment: i128,
    pub tax: i128,
    pub rounding: i128,
    pub total: i128,
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.base += other.base;
        self.usage += other.usage;
        self.discount += other.discount;
        self.adjustment += other.adjustment;
        self.tax += other.tax;
        self.rounding += other.rounding;
        self.total += other.total;
    }
}

/// Sums of the amount columns of `chunk` or `bill`, cast to text, as they can exceed 64 bits.
pub(super) struct AmountTexts {
    pub(super) base: String,
    pub(super) usage: String,
    pub(super) discount: String,
    pub(super) adjustment: String,
    pub(super) tax: String,
    pub(super) rounding: String,
    pub(super) total: String,
}

impl AmountTexts {
    pub(super) fn parse(&self) -> Result<Amounts, StoreError> {
        Ok(Amounts {
            base: read_amount("base_amount", &self.base)?,
            usage: read_amount("usage_amount", &self.usage)?,
            discount: read_amount("discount_amount", &self.discount)?,
            adjustment: read_amount("adjustment_amount", &self.adjustment)?,
            tax: read_amount("tax_amount", &self.tax)?,
            rounding: read_amount("rounding_amount", &self.rounding)?,
            total: read_amount("total_amount", &self.total)?,
        })
    }
}
