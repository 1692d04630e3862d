//! A valid price book: plans, discounts, tax and rounding.

use super::names::Names;
use super::problem::{PriceBookError, Problems};
use crate::digest::Sha256Digest;
use crate::money::{Currency, Decimal, MinorUnits};
use crate::month::BillingMonth;
use crate::zone::Zone;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceBook {
    pub version: String,
    /// The SHA-256 of the exact text, which a bill is traced to.
    pub sha256: Sha256Digest,
    pub currency: Currency,
    pub time_zone: String,
    pub valid_from: BillingMonth,
    /// Inclusive.
    pub valid_to: Option<BillingMonth>,
    pub tax: Option<Tax>,
    pub bill_rounding: Option<BillRounding>,
    /// Sorted by code.
    pub(super) usage_kinds: Vec<UsageKind>,
    /// Sorted by code.
    pub(super) plans: Vec<Plan>,
    /// In the order they apply: by priority, then code.
    pub(super) discounts: Vec<Discount>,
    /// Positions in `discounts`, sorted by code.
    pub(super) discounts_by_code: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub code: String,
    pub names: Names,
    pub kind: PlanKind,
    pub base_fee: MinorUnits,
    /// The usage that the plan charges for, sorted by kind. Other kinds are free. Always empty for
    /// an add-on.
    pub usage: Vec<UsageRate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanKind {
    Base,
    Addon,
}

/// A kind of usage that the price book declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsageKind {
    pub(super) code: String,
    pub(super) names: Option<Names>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRate {
    pub kind: String,
    /// Raw units (seconds, bytes, messages) that are free in a whole month.
    pub allowance: i64,
    /// Raw units in a block, at least 1.
    pub per: i64,
    /// Graduated. Only the last tier is open.
    pub tiers: Vec<Tier>,
    /// The maximum amount of one segment for this kind.
    pub cap: Option<MinorUnits>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The last overage block with this rate, counted from 1. None: all remaining blocks.
    pub up_to: Option<i64>,
    /// Minor units for each block.
    pub rate: Decimal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discount {
    pub code: String,
    pub names: Names,
    pub kind: DiscountKind,
    pub value: Decimal,
    pub applies_to: DiscountTarget,
    pub priority: i64,
    pub prorate: Proration,
    pub cap: Option<MinorUnits>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscountKind {
    Percent,
    Amount,
}

/// The amount that a discount is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscountTarget {
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
    /// Checks that the price book has the installation's currency and time zone.
    ///
    /// # Errors
    /// The fields that differ.
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

    /// Checks that the price book is valid for the month.
    ///
    /// # Errors
    /// The bound that excludes the month.
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

    /// The discount's position in [`Self::discounts`].
    pub(crate) fn discount_position(&self, code: &str) -> Option<usize> {
        let by_code = &self.discounts_by_code;
        by_code
            .binary_search_by(|i| self.discounts[*i].code.as_str().cmp(code))
            .ok()
            .map(|found| by_code[found])
    }

    /// All declared kinds, sorted by name.
    pub fn usage_kinds(&self) -> impl Iterator<Item = &str> {
        self.usage_kinds.iter().map(|kind| kind.code.as_str())
    }

    pub fn declares(&self, kind: &str) -> bool {
        self.usage_kind(kind).is_some()
    }

    /// What the price book calls a kind of usage, if it says so.
    pub fn names_of_usage_kind(&self, kind: &str) -> Option<&Names> {
        self.usage_kind(kind)?.names.as_ref()
    }

    fn usage_kind(&self, code: &str) -> Option<&UsageKind> {
        let found = self.usage_kinds.binary_search_by(|kind| kind.code.as_str().cmp(code)).ok()?;
        self.usage_kinds.get(found)
    }
}
