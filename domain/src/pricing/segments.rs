//! Step 1: from subscriptions to segments, and from segments to the instants that divide usage between them.

use jiff::Timestamp;

use super::{Quarantine, QuarantineCode, Subscription};
use crate::month::DaySet;
use crate::price_book::{Plan, PlanKind, PriceBook};
use crate::zone::MonthOnClock;

/// What a member's subscriptions come to in a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage<'a> {
    Eligible(Segments<'a>),
    /// No base plan on any day of the month.
    NotEligible,
    Quarantined(Quarantine),
}

/// Days of the month under one plan, without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub plan: &'a Plan,
    pub days: DaySet,
    /// Days of this plan's earlier segments.
    pub days_before: u32,
}

impl Segment<'_> {
    /// The plan's days so far, this segment included: what fees and allowances are prorated by.
    pub(super) fn days_so_far(&self) -> u32 {
        self.days_before + self.days.count()
    }
}

/// The segments of an eligible member, and how usage finds its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments<'a> {
    /// In order of time.
    base: Vec<Segment<'a>>,
    /// By code, then in order of time.
    addons: Vec<Segment<'a>>,
    cuts: Vec<Timestamp>,
    /// For each span between cuts, the base segment that covers it. One more than there are cuts.
    buckets: Vec<Option<usize>>,
}

impl<'a> Segments<'a> {
    pub fn base(&self) -> &[Segment<'a>] {
        &self.base
    }

    pub fn addons(&self) -> &[Segment<'a>] {
        &self.addons
    }

    pub(super) fn cuts(&self) -> &[Timestamp] {
        &self.cuts
    }

    /// The position in `base` of the segment that covers the bucket. Panics for a bucket that the cuts don't make.
    pub(super) fn of_bucket(&self, bucket: usize) -> Option<usize> {
        self.buckets[bucket]
    }
}

pub(super) fn cover<'a>(
    book: &'a PriceBook,
    month: &MonthOnClock,
    subscriptions: &[Subscription<'_>],
) -> Coverage<'a> {
    let mut base = Vec::with_capacity(subscriptions.len());
    let mut addons = Vec::new();
    let mut unknown: Option<&str> = None;
    for subscription in subscriptions {
        let days = month.month().days_between(subscription.from, subscription.to);
        if days.is_empty() {
            continue;
        }
        match book.plan(subscription.plan) {
            Some(plan) => {
                let segments = if plan.kind == PlanKind::Base { &mut base } else { &mut addons };
                segments.push(Segment { plan, days, days_before: 0 });
            }
            // The first by code, so that the detail does not depend on the order of input.
            None => unknown = Some(unknown.map_or(subscription.plan, |other| other.min(subscription.plan))),
        }
    }
    if let Some(code) = unknown {
        let detail = format!("plan `{code}` is not in price book {}", book.version);
        return Coverage::Quarantined(Quarantine { code: QuarantineCode::UnknownPlan, detail });
    }
    if base.is_empty() {
        return Coverage::NotEligible;
    }
    base.sort_unstable_by_key(|segment| (segment.days.first(), segment.days.end(), &segment.plan.code));
    addons.sort_unstable_by_key(|segment| (&segment.plan.code, segment.days.first(), segment.days.end()));
    let overlap =
        overlap(&base).or_else(|| addons.chunk_by(|a, b| a.plan.code == b.plan.code).find_map(overlap));
    if let Some((one, other, day)) = overlap {
        let date = month.month().date_of(day);
        let detail = format!("plans `{}` and `{}` both cover {date}", one.code, other.code);
        return Coverage::Quarantined(Quarantine { code: QuarantineCode::OverlappingSubscriptions, detail });
    }
    join_touching(&mut base);
    join_touching(&mut addons);
    let (cuts, buckets) = divide(month, &base);
    Coverage::Eligible(Segments { base, addons, cuts, buckets })
}

/// The first pair that shares a day, among segments in order of time.
fn overlap<'a>(segments: &[Segment<'a>]) -> Option<(&'a Plan, &'a Plan, u32)> {
    segments.iter().enumerate().find_map(|(i, segment)| {
        segments[..i].iter().find_map(|earlier| {
            let shared = earlier.days.intersection(segment.days);
            shared.first().map(|day| (earlier.plan, segment.plan, day))
        })
    })
}

/// Joins neighbours of one plan that touch, and counts each plan's earlier days. The segments share no day.
fn join_touching(segments: &mut Vec<Segment<'_>>) {
    segments.dedup_by(|next, previous| {
        let touch = next.plan.code == previous.plan.code && next.days.first() == Some(previous.days.end());
        if touch {
            previous.days = previous.days.union(next.days);
        }
        touch
    });
    for i in 1..segments.len() {
        let (earlier, rest) = segments.split_at_mut(i);
        let plan = &rest[0].plan.code;
        rest[0].days_before = earlier.iter().filter(|s| s.plan.code == *plan).map(|s| s.days.count()).sum();
    }
}

/// Cuts the month wherever the segment that covers the local date changes.
fn divide(month: &MonthOnClock, base: &[Segment<'_>]) -> (Vec<Timestamp>, Vec<Option<usize>>) {
    // By far the most members keep one plan all month.
    if let [only] = base
        && only.days.count() == month.month().days()
        && month.stays_within()
    {
        return (Vec::new(), vec![Some(0)]);
    }
    let mut cuts = Vec::new();
    let mut buckets: Vec<Option<usize>> = Vec::new();
    for change in month.day_changes() {
        let segment = change.day.and_then(|day| base.iter().position(|segment| segment.days.contains(day)));
        match buckets.last() {
            Some(last) if *last == segment => {}
            last => {
                // The month's start opens the first bucket; it divides nothing.
                if last.is_some() {
                    cuts.push(change.at);
                }
                buckets.push(segment);
            }
        }
    }
    (cuts, buckets)
}
