//! Step 1: turns subscriptions into segments, and segments into the instants at which usage is
//! divided between them.

use jiff::Timestamp;

use super::inputs::Subscription;
use super::outcome::{Quarantine, QuarantineCode};
use crate::month::DaySet;
use crate::price_book::{Plan, PlanKind, PriceBook};
use crate::zone::ZonedMonth;

/// Whether a member gets a bill of the month, decided by the subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eligibility<'a> {
    Eligible(Segments<'a>),
    /// No base plan on any day of the month.
    NotEligible,
    Quarantined(Quarantine),
}

/// Consecutive days of the month with one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub plan: &'a Plan,
    pub days: DaySet,
    /// The number of days in this plan's earlier segments.
    pub days_before: u32,
}

impl Segment<'_> {
    /// The plan's days up to and including this segment. Fees and allowances are prorated by it.
    pub(crate) fn days_so_far(&self) -> u32 {
        self.days_before + self.days.count()
    }
}

/// The segments of an eligible member, and which of them covers which usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments<'a> {
    /// By date.
    base: Vec<Segment<'a>>,
    /// By code, then by date.
    addons: Vec<Segment<'a>>,
    /// The instants within the month at which the covering segment changes.
    boundaries: Vec<Timestamp>,
    /// The base segment that covers each interval between boundaries. One more than there are
    /// boundaries.
    intervals: Vec<Option<usize>>,
}

impl<'a> Segments<'a> {
    pub fn base(&self) -> &[Segment<'a>] {
        &self.base
    }

    pub fn addons(&self) -> &[Segment<'a>] {
        &self.addons
    }

    /// The position in `base` of the segment that covers the interval. Panics if there is no such
    /// interval.
    pub(crate) fn of_interval(&self, interval: usize) -> Option<usize> {
        self.intervals[interval]
    }
}

impl Eligibility<'_> {
    /// The instants within the month, in order, at which the usage has to be divided. Most members
    /// have none.
    pub fn usage_boundaries(&self) -> &[Timestamp] {
        match self {
            Self::Eligible(segments) => &segments.boundaries,
            Self::NotEligible | Self::Quarantined(_) => &[],
        }
    }
}

pub(super) fn eligibility<'a>(
    book: &'a PriceBook,
    month: &ZonedMonth,
    subscriptions: &[Subscription<'_>],
) -> Eligibility<'a> {
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
            // The lowest code, so that the detail does not depend on the order of the input.
            None => unknown = Some(unknown.map_or(subscription.plan, |other| other.min(subscription.plan))),
        }
    }
    if let Some(code) = unknown {
        let detail = format!("plan `{code}` is not in price book {}", book.version);
        return Eligibility::Quarantined(Quarantine { code: QuarantineCode::UnknownPlan, detail });
    }
    if base.is_empty() {
        return Eligibility::NotEligible;
    }
    base.sort_unstable_by_key(|segment| (segment.days.first(), segment.days.end(), &segment.plan.code));
    addons.sort_unstable_by_key(|segment| (&segment.plan.code, segment.days.first(), segment.days.end()));
    let overlap =
        overlap(&base).or_else(|| addons.chunk_by(|a, b| a.plan.code == b.plan.code).find_map(overlap));
    if let Some((one, other, day)) = overlap {
        let date = month.month().date_of(day);
        let detail = format!("plans `{}` and `{}` both cover {date}", one.code, other.code);
        return Eligibility::Quarantined(Quarantine {
            code: QuarantineCode::OverlappingSubscriptions,
            detail,
        });
    }
    join_touching(&mut base);
    join_touching(&mut addons);
    let (boundaries, intervals) = divide(month, &base);
    Eligibility::Eligible(Segments { base, addons, boundaries, intervals })
}

/// The first pair that shares a day. The segments must be sorted by date.
fn overlap<'a>(segments: &[Segment<'a>]) -> Option<(&'a Plan, &'a Plan, u32)> {
    segments.iter().enumerate().find_map(|(i, segment)| {
        segments[..i].iter().find_map(|earlier| {
            let shared = earlier.days.intersection(segment.days);
            shared.first().map(|day| (earlier.plan, segment.plan, day))
        })
    })
}

/// Joins adjacent segments of one plan, and sets `days_before`. The segments must not overlap.
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

/// Divides the month at each instant at which the segment that covers the local date changes.
fn divide(month: &ZonedMonth, base: &[Segment<'_>]) -> (Vec<Timestamp>, Vec<Option<usize>>) {
    // A shortcut: most members have one plan for the whole month.
    if let [only] = base
        && only.days.count() == month.month().days()
        && month.has_only_own_dates()
    {
        return (Vec::new(), vec![Some(0)]);
    }
    let mut boundaries = Vec::new();
    let mut intervals: Vec<Option<usize>> = Vec::new();
    for change in month.day_changes() {
        let segment = change.day.and_then(|day| base.iter().position(|segment| segment.days.contains(day)));
        match intervals.last() {
            Some(last) if *last == segment => {}
            last => {
                // The start of the month begins the first interval and is no boundary.
                if last.is_some() {
                    boundaries.push(change.at);
                }
                intervals.push(segment);
            }
        }
    }
    (boundaries, intervals)
}
