//! Compares a member's inputs before with those after. If several differ, the member is priced
//! again with all inputs after but one: an input that makes no difference is no cause.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::ChangeCause;
use crate::bill_digest::BillDigest;
use crate::price_book::PlanKind;
use crate::pricing::{Adjustment, Eligibility, Grant, Outcome, Pricer, Subscription, UsageSum};

/// What one revision prices a member from, without the usage. Subscriptions, grants and adjustments
/// may be in any order.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    pub pricer: Pricer<'a>,
    /// Whether there is a member of this id.
    pub known: bool,
    pub subscriptions: Vec<Subscription<'a>>,
    pub grants: Vec<Grant<'a>>,
    pub adjustments: Vec<Adjustment<'a>>,
}

/// Usage in an interval between the instants of [`Comparison::usage_boundaries`], all of which
/// counts before, after, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedUsage<'a> {
    pub sum: UsageSum<'a>,
    pub before: bool,
    pub after: bool,
}

/// The inputs of one member whose outcome changes. In two stages as in [`pricing`](crate::pricing):
/// the caller sums the usage between the instants that the first stage gives.
#[derive(Debug)]
pub struct Comparison<'a> {
    before: Inputs<'a>,
    after: Inputs<'a>,
    /// The inputs that differ, without the usage.
    differing: Vec<ChangeCause>,
    boundaries: Vec<Timestamp>,
}

impl<'a> Comparison<'a> {
    pub fn new(mut before: Inputs<'a>, mut after: Inputs<'a>) -> Self {
        for inputs in [&mut before, &mut after] {
            inputs.subscriptions.sort_unstable_by_key(|own| (own.plan, own.from, own.to));
            inputs.grants.sort_unstable_by_key(|own| (own.discount, own.from, own.to));
            inputs.adjustments.sort_unstable_by_key(|own| own.id);
        }
        let mut compared = Self { before, after, differing: Vec::new(), boundaries: Vec::new() };
        compared.differing =
            ChangeCause::INPUTS.into_iter().filter(|input| compared.differs(*input)).collect();
        // Usage is priced with the plans after, and with each other choice of what decides about the segments.
        let mut boundaries: BTreeSet<Timestamp> =
            compared.eligibility(None).usage_boundaries().iter().copied().collect();
        for input in &compared.differing {
            if matches!(input, ChangeCause::PriceBook | ChangeCause::Plan | ChangeCause::Addon) {
                boundaries.extend(compared.eligibility(Some(*input)).usage_boundaries());
            }
        }
        compared.boundaries = boundaries.into_iter().collect();
        compared
    }

    /// The instants within the month, in order, at which the usage has to be divided.
    pub fn usage_boundaries(&self) -> &[Timestamp] {
        &self.boundaries
    }

    /// Why the outcome changes, which must be a bill or none both before and after.
    pub fn cause(&self, usage: &[ComparedUsage<'_>]) -> ChangeCause {
        let mut differing = self.differing.clone();
        if usage.iter().any(|of| of.before && !of.after) {
            differing.push(ChangeCause::Usage);
        } else if usage.iter().any(|of| of.after && !of.before) {
            differing.push(ChangeCause::LateUsage);
        }
        match *differing {
            [] => return ChangeCause::Calculation,
            [only] => return only,
            _ => {}
        }
        let outcome = self.outcome(None, usage);
        differing.retain(|input| !is_same(&self.outcome(Some(*input), usage), &outcome));
        match *differing {
            [only] => only,
            _ => ChangeCause::MoreThanOne,
        }
    }

    fn differs(&self, input: ChangeCause) -> bool {
        let (before, after) = (&self.before, &self.after);
        match input {
            ChangeCause::PriceBook => before.pricer.book().sha256 != after.pricer.book().sha256,
            ChangeCause::Plan => {
                before.known != after.known
                    || !self.subscriptions(before, false).eq(self.subscriptions(after, false))
            }
            ChangeCause::Addon => !self.subscriptions(before, true).eq(self.subscriptions(after, true)),
            ChangeCause::Discount => before.grants != after.grants,
            ChangeCause::Adjustment => before.adjustments != after.adjustments,
            _ => unreachable!("{input} is none of the inputs without the usage"),
        }
    }

    /// The subscriptions to add-ons or to base plans. If a price book does not have a plan, the
    /// other one decides.
    fn subscriptions<'b>(
        &'b self,
        inputs: &'b Inputs<'a>,
        addons: bool,
    ) -> impl Iterator<Item = Subscription<'a>> + use<'a, 'b> {
        let (before, after) = (self.before.pricer.book(), self.after.pricer.book());
        let is_addon = move |code: &str| {
            after.plan(code).or_else(|| before.plan(code)).is_some_and(|plan| plan.kind == PlanKind::Addon)
        };
        inputs.subscriptions.iter().copied().filter(move |own| is_addon(own.plan) == addons)
    }

    /// The inputs that are used for `input`: those after, unless it is the one that stays as it was.
    fn side(&self, input: ChangeCause, as_before: Option<ChangeCause>) -> &Inputs<'a> {
        if as_before == Some(input) { &self.before } else { &self.after }
    }

    fn eligibility(&self, as_before: Option<ChangeCause>) -> Eligibility<'a> {
        let plans = self.side(ChangeCause::Plan, as_before);
        if !plans.known {
            return Eligibility::NotEligible;
        }
        let addons = self.side(ChangeCause::Addon, as_before);
        let subscriptions: Vec<Subscription<'_>> =
            self.subscriptions(plans, false).chain(self.subscriptions(addons, true)).collect();
        self.side(ChangeCause::PriceBook, as_before).pricer.eligibility(&subscriptions)
    }

    /// The outcome with all inputs after, of which one can stay as it was before.
    fn outcome(&self, as_before: Option<ChangeCause>, usage: &[ComparedUsage<'_>]) -> Outcome<'a> {
        let eligibility = self.eligibility(as_before);
        let usage: Vec<UsageSum<'_>> = usage
            .iter()
            .filter(|of| match as_before {
                Some(ChangeCause::LateUsage | ChangeCause::Usage) => of.before,
                _ => of.after,
            })
            .map(|of| UsageSum { interval: self.interval_in(&eligibility, of.sum.interval), ..of.sum })
            .collect();
        self.side(ChangeCause::PriceBook, as_before).pricer.price(
            &eligibility,
            &self.side(ChangeCause::Discount, as_before).grants,
            &self.side(ChangeCause::Adjustment, as_before).adjustments,
            &usage,
        )
    }

    /// The interval of an eligibility, whose boundaries are among those of the comparison, that
    /// contains an interval of the comparison.
    fn interval_in(&self, eligibility: &Eligibility<'_>, interval: usize) -> usize {
        match interval.checked_sub(1).map(|before| self.boundaries[before]) {
            Some(start) => eligibility.usage_boundaries().partition_point(|boundary| *boundary <= start),
            None => 0,
        }
    }
}

/// Whether two outcomes are the same as far as they are stored: the words of a quarantine and counts
/// of usage rows do not matter.
fn is_same(one: &Outcome<'_>, other: &Outcome<'_>) -> bool {
    match (one, other) {
        (Outcome::Billed(one), Outcome::Billed(other)) => BillDigest::of(one) == BillDigest::of(other),
        (Outcome::Quarantined { quarantine: one, .. }, Outcome::Quarantined { quarantine: other, .. }) => {
            one.code == other.code
        }
        (Outcome::NotEligible { .. }, Outcome::NotEligible { .. }) => true,
        _ => false,
    }
}
