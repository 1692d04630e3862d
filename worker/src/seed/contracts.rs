//! Generates one member's subscriptions, discounts and adjustment. Every member has a base plan in
//! the month.

use domain::month::BillingMonth;
use domain::price_book::{PlanKind, PriceBook};
use jiff::ToSpan as _;
use jiff::civil::Date;

use super::random::Random;

/// The codes of the price book that members get.
pub(super) struct Catalogue {
    base: Vec<String>,
    /// The first plans are the most popular.
    base_weights: Vec<u64>,
    addons: Vec<String>,
    discounts: Vec<String>,
    pub(super) kinds: Vec<String>,
    pub(super) kind_weights: Vec<u64>,
}

impl Catalogue {
    /// None if the price book has no base plan.
    pub(super) fn of(book: &PriceBook) -> Option<Self> {
        let codes =
            |kind| book.plans().iter().filter(move |plan| plan.kind == kind).map(|plan| plan.code.clone());
        let base: Vec<_> = codes(PlanKind::Base).collect();
        let weight = |kind: &String| match kind.as_str() {
            "data" => 45,
            "voice" => 40,
            "sms" => 15,
            _ => 10,
        };
        let kinds: Vec<String> = book.usage_kinds().map(str::to_owned).collect();
        (!base.is_empty()).then(|| Self {
            base_weights: (2..)
                .take(base.len())
                .map(|rank| 720 / rank)
                .map(|weight: u64| weight.max(1))
                .collect(),
            base,
            addons: codes(PlanKind::Addon).collect(),
            discounts: book.discounts().iter().map(|discount| discount.code.clone()).collect(),
            kind_weights: kinds.iter().map(weight).collect(),
            kinds,
        })
    }
}

/// A plan or discount, and from when to when (exclusive) the member has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<'a> {
    pub(super) code: &'a str,
    pub(super) from: Date,
    pub(super) to: Option<Date>,
}

/// Charges and credits: code, reason, lowest and highest amount in tens of minor units.
const ADJUSTMENTS: [(&str, &str, i64, i64); 4] = [
    ("GOODWILL", "Credit after an outage", -500, -50),
    ("REFUND", "Refund of a double charge", -3000, -100),
    ("EQUIPMENT", "Replacement SIM card", 770, 770),
    ("LATE-FEE", "Late payment", 50, 600),
];

/// One member's contracts.
#[derive(Default)]
pub(super) struct Contracts<'a> {
    pub(super) subscriptions: Vec<Span<'a>>,
    pub(super) grants: Vec<Span<'a>>,
    /// Code, reason, amount.
    pub(super) adjustment: Option<(&'static str, &'static str, i64)>,
    /// The days of the month, from 0, on which the member has a plan: first, and the one after the
    /// last.
    pub(super) active: (u32, u32),
}

impl<'a> Contracts<'a> {
    /// Generates the contracts of another member, and reuses the memory.
    pub(super) fn regenerate(&mut self, random: &mut Random, catalogue: &'a Catalogue, month: BillingMonth) {
        let days = month.days();
        let first = month.first_day();
        // Not the first day, so that there are days of the month before and after it.
        let inner = |random: &mut Random| u32::try_from(random.between(1, i64::from(days) - 1)).unwrap_or(1);
        let day = |number: u32| first.saturating_add(i64::from(number).days());
        self.subscriptions.clear();
        self.grants.clear();
        self.active = (0, days);
        let plan = &catalogue.base[random.weighted(&catalogue.base_weights)];
        let since = before(random, first);
        let mut add = |code: &'a str, from, to| self.subscriptions.push(Span { code, from, to });
        match random.below(1000) {
            0..25 => {
                self.active.0 = inner(random);
                add(plan, day(self.active.0), None);
            }
            25..45 => {
                self.active.1 = inner(random);
                add(plan, since, Some(day(self.active.1)));
            }
            45..75 => {
                // The new plan may be the old one again: two adjacent subscriptions.
                let next = &catalogue.base[random.weighted(&catalogue.base_weights)];
                let change = day(inner(random));
                add(plan, since, Some(change));
                add(next, change, None);
            }
            75..80 => {
                let (one, other) = (inner(random), inner(random));
                if one == other {
                    add(plan, since, None);
                } else {
                    add(plan, since, Some(day(one.min(other))));
                    add(plan, day(one.max(other)), None);
                }
            }
            80..90 => add(plan, since, Some(day(days + inner(random)))),
            _ => add(plan, since, None),
        }
        if !catalogue.addons.is_empty() && random.chance(250) {
            let addon = random.index(catalogue.addons.len());
            let from = if random.chance(60) { day(inner(random)) } else { before(random, first) };
            add(&catalogue.addons[addon], from, None);
            if catalogue.addons.len() > 1 && random.chance(150) {
                let another = (addon + 1) % catalogue.addons.len();
                add(&catalogue.addons[another], before(random, first), None);
            }
        }
        for (rank, discount) in catalogue.discounts.iter().enumerate() {
            let share = [400, 180, 60].get(rank).copied().unwrap_or(40);
            if random.chance(share) {
                let starts = random.chance(50);
                let from = if starts { day(inner(random)) } else { before(random, first) };
                let to = (!starts && random.chance(50)).then(|| day(inner(random)));
                self.grants.push(Span { code: discount, from, to });
            }
        }
        self.adjustment = random.chance(20).then(|| {
            let (code, reason, lowest, highest) = *random.pick(&ADJUSTMENTS);
            (code, reason, random.between(lowest, highest) * 10)
        });
    }
}

/// A day before the month, up to five years earlier.
fn before(random: &mut Random, first: Date) -> Date {
    let day = first.saturating_sub(random.between(1, 1800).days());
    day.max(Date::constant(2000, 1, 1)).min(first)
}
