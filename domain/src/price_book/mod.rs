//! The price book: plans, discounts, tax and rounding of the months it is valid for.
//!
//! A [`PriceBook`] in hand is a valid one; [`yaml`] is the only place that knows the shape of the text it comes from. What a member
//! pays is computed in [`crate::pricing`].

mod check;
mod yaml;

use std::fmt;

use crate::digest::Sha256Digest;
use crate::money::{Currency, Decimal, MinorUnits};
use crate::month::BillingMonth;
use crate::zone::Zone;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    pub version: String,
    /// Of the exact text; a bill can be traced to it.
    pub sha256: Sha256Digest,
    pub currency: Currency,
    pub time_zone: String,
    pub valid_from: BillingMonth,
    /// Inclusive.
    pub valid_to: Option<BillingMonth>,
    pub tax: Option<Tax>,
    pub bill_rounding: Option<BillRounding>,
    /// Sorted by name.
    usage_kinds: Vec<String>,
    /// Sorted by code.
    plans: Vec<Plan>,
    /// In the order they apply: by priority, then code.
    discounts: Vec<Discount>,
    /// Positions in `discounts`, sorted by code.
    discounts_by_code: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub code: String,
    pub name: String,
    pub kind: PlanKind,
    pub base_fee: MinorUnits,
    /// What the plan charges for, sorted by kind; a kind it doesn't list is free. Always empty for an add-on.
    pub usage: Vec<UsageRate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanKind {
    Base,
    Addon,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRate {
    pub kind: String,
    /// Free raw units of a whole month.
    pub allowance: i64,
    /// Raw units in a block, at least 1.
    pub per: i64,
    /// Graduated; only the last one is open.
    pub tiers: Vec<Tier>,
    /// The most that a segment pays for this kind.
    pub cap: Option<MinorUnits>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Overage blocks from the start up to which the rate holds; none: all that remain.
    pub up_to: Option<i64>,
    /// Minor units a block.
    pub rate: Decimal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discount {
    pub code: String,
    pub name: String,
    pub kind: DiscountKind,
    pub value: Decimal,
    pub applies_to: Bucket,
    pub priority: i64,
    pub prorate: Proration,
    pub cap: Option<MinorUnits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscountKind {
    Percent,
    Amount,
}

/// What a discount is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    Base,
    Usage,
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proration {
    Days,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tax {
    /// Percent.
    pub rate: Decimal,
    pub mode: TaxMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaxMode {
    Inclusive,
    Exclusive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BillRounding {
    /// At least 1.
    pub unit: MinorUnits,
    pub mode: RoundingMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundingMode {
    /// Toward negative infinity.
    Down,
    /// To the nearest, half away from zero.
    HalfUp,
}

impl PriceBook {
    /// Reads and validates a price book. Refusals name the field and the reason, all of them at once where the text
    /// has the right shape.
    pub fn parse(text: &str) -> Result<Self, PriceBookError> {
        check::validate(yaml::read(text)?, Sha256Digest::of(text.as_bytes()))
    }

    /// Refuses a price book that was written for another installation.
    pub fn check_installation(&self, zone: &Zone, currency: Currency) -> Result<(), PriceBookError> {
        let mut problems = Problems::default();
        if self.currency != currency {
            let reason = format!("is {}, but the installation's currency is {currency}", self.currency);
            problems.add("currency", reason);
        }
        if self.time_zone != zone.name() {
            let reason = format!("is {}, but the installation's time zone is {zone}", self.time_zone);
            problems.add("timeZone", reason);
        }
        problems.none_or_err()
    }

    /// Refuses a month outside the price book's validity.
    pub fn check_month(&self, month: BillingMonth) -> Result<(), PriceBookError> {
        let mut problems = Problems::default();
        if month < self.valid_from {
            problems.add("validFrom", format!("is {}, but the month to bill is {month}", self.valid_from));
        }
        if let Some(valid_to) = self.valid_to.filter(|valid_to| month > *valid_to) {
            problems.add("validTo", format!("is {valid_to}, but the month to bill is {month}"));
        }
        problems.none_or_err()
    }

    pub fn plan(&self, code: &str) -> Option<&Plan> {
        self.plans.binary_search_by(|plan| plan.code.as_str().cmp(code)).ok().map(|found| &self.plans[found])
    }

    /// All plans, sorted by code.
    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// All discounts, in the order they apply.
    pub fn discounts(&self) -> &[Discount] {
        &self.discounts
    }

    /// The discount's place in the order they apply.
    pub(crate) fn discount_position(&self, code: &str) -> Option<usize> {
        let by_code = &self.discounts_by_code;
        by_code
            .binary_search_by(|i| self.discounts[*i].code.as_str().cmp(code))
            .ok()
            .map(|found| by_code[found])
    }

    /// All declared kinds, sorted by name.
    pub fn usage_kinds(&self) -> &[String] {
        &self.usage_kinds
    }

    pub fn declares(&self, kind: &str) -> bool {
        self.usage_kinds.binary_search_by(|declared| declared.as_str().cmp(kind)).is_ok()
    }
}

/// Why a price book is refused: at least one problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the price book is refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PriceBookError(Vec<Problem>);

impl PriceBookError {
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

/// One refused field. The path is empty where the text as a whole is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub path: String,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Problem { path: path.into(), reason: reason.into() });
    }

    fn none_or_err(self) -> Result<(), PriceBookError> {
        if self.0.is_empty() { Ok(()) } else { Err(PriceBookError(self.0)) }
    }
}
