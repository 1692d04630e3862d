//! What a member's bill is computed from.

use jiff::civil::Date;

use crate::ids::{AdjustmentId, Revision};
use crate::money::MinorUnits;
use crate::month::BillingMonth;

/// A plan that a member has from `from` (inclusive) to `to` (exclusive); without `to` it has no
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    pub plan: &'a str,
    pub from: Date,
    pub to: Option<Date>,
}

/// A discount that a member has from `from` (inclusive) to `to` (exclusive); without `to` it has no
/// end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    pub discount: &'a str,
    pub from: Date,
    pub to: Option<Date>,
}

/// A one-off charge (positive) or credit (negative).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjustment<'a> {
    pub id: AdjustmentIdentity,
    pub code: &'a str,
    pub amount: MinorUnits,
}

/// What identifies an adjustment. A bill has them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdjustmentIdentity {
    Loaded(AdjustmentId),
    /// The difference that a re-billing of an earlier month has posted to this one.
    Correction {
        month: BillingMonth,
        revision: Revision,
    },
}

/// The member's usage of one kind in one interval between the instants of
/// [`Eligibility::usage_boundaries`](super::Eligibility::usage_boundaries).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageSum<'a> {
    pub kind: &'a str,
    /// The number of boundaries at or before `started_at`: the result of `width_bucket(started_at,
    /// boundaries)` in SQL.
    pub interval: usize,
    pub quantity: i128,
    pub rows: u64,
}
