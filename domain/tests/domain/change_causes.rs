//! Why an outcome changes: each cause alone, each pair, and what looks like a cause and is none.

use std::collections::BTreeMap;

use domain::change_cause::{ChangeCause, ComparedUsage, Comparison, Inputs};
use domain::money::MinorUnits;
use domain::price_book::PriceBook;
use domain::pricing::{Adjustment, AdjustmentIdentity, Grant, Pricer, Subscription, UsageSum};
use domain::zone::ZonedMonth;

use crate::members::{Member, UsageRow, month};
use crate::rules::OCTOBER;

const BOOK: &str = r#"
version: test
currency: KRW
timeZone: Asia/Seoul
validFrom: 2026-01
usageKinds: [voice]
plans:
  - { code: A, name: A, baseFee: 10000, usage: { voice: { allowance: 100, per: 60, tiers: [ { rate: "10" } ] } } }
  - { code: B, name: B, baseFee: 20000, usage: {} }
  - { code: X, name: X, type: addon, baseFee: 1000 }
discounts:
  - { code: HALF, name: Half, kind: percent, value: "50", appliesTo: total, priority: 1 }
"#;

/// A member and a price book as one revision reads them. Usage of both states is the same row if
/// it is equal.
#[derive(Clone)]
struct State {
    book: String,
    known: bool,
    member: Member,
}

type Change = fn(&mut State);

impl State {
    fn of(member: Member) -> Self {
        Self { book: BOOK.to_owned(), known: true, member }
    }

    fn with(&self, changes: &[Change]) -> Self {
        let mut changed = self.clone();
        changes.iter().for_each(|change| change(&mut changed));
        changed
    }

    fn inputs<'a>(&'a self, book: &'a PriceBook, month: &'a ZonedMonth) -> Inputs<'a> {
        let member = &self.member;
        Inputs {
            pricer: Pricer::new(book, month),
            known: self.known,
            subscriptions: member
                .subscriptions
                .iter()
                .map(|own| Subscription { plan: &own.code, from: own.from, to: own.to })
                .collect(),
            grants: member
                .grants
                .iter()
                .map(|own| Grant { discount: &own.code, from: own.from, to: own.to })
                .collect(),
            adjustments: member
                .adjustments
                .iter()
                .map(|own| Adjustment {
                    id: AdjustmentIdentity::Loaded(own.id.try_into().unwrap()),
                    code: &own.code,
                    amount: MinorUnits::new(own.amount),
                })
                .collect(),
        }
    }
}

/// Usage is given in the order in which it is read, which does not matter.
fn cause(before: &State, after: &State) -> ChangeCause {
    let month = month("Asia/Seoul", "2026-10");
    let books = [before, after].map(|state| PriceBook::parse(&state.book).unwrap());
    let comparison = Comparison::new(before.inputs(&books[0], &month), after.inputs(&books[1], &month));
    let mut sums: BTreeMap<(&str, usize, bool, bool), (i128, u64)> = BTreeMap::new();
    let has = |state: &State, row: &UsageRow| {
        let same = |own: &UsageRow| (own.started_at, own.quantity) == (row.started_at, row.quantity);
        state.member.usage.iter().any(same)
    };
    let late = after.member.usage.iter().filter(|row| !has(before, row));
    for row in before.member.usage.iter().chain(late) {
        let cuts = comparison.usage_boundaries();
        let interval = cuts.iter().filter(|at| **at <= row.started_at).count();
        let sum = sums.entry((&row.kind, interval, has(before, row), has(after, row))).or_default();
        *sum = (sum.0 + i128::from(row.quantity), sum.1 + 1);
    }
    let usage: Vec<ComparedUsage<'_>> = sums
        .into_iter()
        .map(|((kind, interval, before, after), (quantity, rows))| ComparedUsage {
            sum: UsageSum { kind, interval, quantity, rows },
            before,
            after,
        })
        .collect();
    comparison.cause(&usage)
}

fn a_member() -> State {
    State::of(Member::on("A", "2026-01-01", "").used("voice", 1000, OCTOBER).used("voice", 700, OCTOBER))
}

fn dearer(state: &mut State) {
    state.book = state.book.replace("baseFee: 10000", "baseFee: 11000");
}

/// The usage of the middle of the month stays with plan A.
fn to_plan_b(state: &mut State) {
    state.member.subscriptions.clear();
    state.member = state.member.clone().and_on("A", "2026-01-01", "2026-10-21").and_on("B", "2026-10-21", "");
}

fn with_addon(state: &mut State) {
    state.member = state.member.clone().and_on("X", "2026-10-20", "");
}

fn with_grant(state: &mut State) {
    state.member = state.member.clone().granted("HALF", "2026-01-01", "");
}

fn with_credit(state: &mut State) {
    state.member = state.member.clone().adjusted(1, "GOODWILL", -500);
}

fn with_late_usage(state: &mut State) {
    state.member = state.member.clone().used("voice", 777, OCTOBER);
}

fn without_some_usage(state: &mut State) {
    state.member.usage.remove(0);
}

const KINDS: [(ChangeCause, Change); 7] = [
    (ChangeCause::PriceBook, dearer),
    (ChangeCause::Plan, to_plan_b),
    (ChangeCause::Addon, with_addon),
    (ChangeCause::Discount, with_grant),
    (ChangeCause::Adjustment, with_credit),
    (ChangeCause::LateUsage, with_late_usage),
    (ChangeCause::Usage, without_some_usage),
];

#[test]
fn one_kind_of_change_is_the_cause() {
    let before = a_member();
    for (kind, change) in KINDS {
        let after = before.with(&[change]);
        assert_eq!(cause(&before, &after), kind);
        let back = match kind {
            ChangeCause::LateUsage => ChangeCause::Usage,
            ChangeCause::Usage => ChangeCause::LateUsage,
            other => other,
        };
        assert_eq!(cause(&after, &before), back, "{kind}, taken back");
    }
}

#[test]
fn each_pair_of_changes_is_more_than_one_cause() {
    let before = a_member();
    for (first, (one, change)) in KINDS.into_iter().enumerate() {
        for (other, and_change) in KINDS.into_iter().skip(first + 1) {
            let after = before.with(&[change, and_change]);
            // Usage that is replaced is one change.
            let expected = match (one, other) {
                (ChangeCause::LateUsage, ChangeCause::Usage) => ChangeCause::Usage,
                _ => ChangeCause::MoreThanOne,
            };
            assert_eq!(cause(&before, &after), expected, "{one} and {other}");
            assert_eq!(cause(&after, &before), expected, "{one} and {other}, taken back");
        }
    }
}

#[test]
fn a_change_that_makes_no_difference_is_no_cause() {
    let unlimited = || State::of(Member::on("B", "2026-01-01", "").used("voice", 1000, OCTOBER));
    let later_end: Change = |state| {
        state.member.subscriptions[0].to = Some("2026-12-01".parse().unwrap());
    };
    let late_and_unlimited: Change = |state| {
        state.member = state.member.clone().used("voice", 50, "2026-10-25T00:00:00+09:00");
    };
    let late_of_another_kind: Change = |state| {
        state.member = state.member.clone().used("roaming", 50, OCTOBER);
    };
    let loaded_again: Change = |state| {
        let row = state.member.usage.remove(0);
        let in_another_load = row.started_at + jiff::Span::new().microseconds(1);
        state.member.usage.push(UsageRow { started_at: in_another_load, ..row });
    };
    let other_book: Change = |state| state.book.push_str("# another text\n");
    let table: [(&str, State, &[Change], ChangeCause); 8] = [
        ("the same usage of another load", a_member(), &[loaded_again, with_addon], ChangeCause::Addon),
        ("usage that is free", unlimited(), &[with_late_usage, with_credit], ChangeCause::Adjustment),
        (
            "usage in the part of the new plan",
            a_member(),
            &[to_plan_b, late_and_unlimited],
            ChangeCause::Plan,
        ),
        ("usage of no kind", a_member(), &[late_of_another_kind, with_addon], ChangeCause::Addon),
        ("an end after the month", a_member(), &[later_end, dearer], ChangeCause::PriceBook),
        ("a comment in the price book", a_member(), &[other_book, with_grant], ChangeCause::Discount),
        ("a price that the member does not pay", unlimited(), &[dearer, with_grant], ChangeCause::Discount),
        (
            "three, of which one counts",
            unlimited(),
            &[dearer, with_late_usage, with_addon],
            ChangeCause::Addon,
        ),
    ];
    for (name, before, changes, expected) in table {
        assert_eq!(cause(&before, &before.with(changes)), expected, "{name}");
    }
}

#[test]
fn who_becomes_a_member_or_is_none_any_more_does_so_for_the_plan() {
    let nobody = State::of(Member::default());
    let unknown = State { known: false, ..a_member() };
    let free = State::of(Member::on("B", "2026-01-01", ""));
    let late_addon = free.with(&[with_addon]);
    for (name, before, after, expected) in [
        ("a first subscription", nobody.clone(), free.clone(), ChangeCause::Plan),
        ("a subscription that is taken back", free.clone(), nobody.clone(), ChangeCause::Plan),
        ("a member that becomes known", unknown.clone(), a_member(), ChangeCause::Plan),
        ("a member that is not known any more", a_member(), unknown, ChangeCause::Plan),
        // Whatever else ends, without a plan it would make no difference.
        ("everything is taken back", late_addon, nobody.clone(), ChangeCause::Plan),
        ("a plan and its usage", nobody, a_member(), ChangeCause::MoreThanOne),
    ] {
        assert_eq!(cause(&before, &after), expected, "{name}");
    }
}

#[test]
fn a_price_book_can_turn_a_plan_into_an_addon() {
    let turned: Change = |state| {
        state.book = state.book.replace("code: B, name: B,", "code: B, name: B, type: addon,");
        state.book = state.book.replace("usage: {} }", "}");
    };
    let before = State::of(Member::on("A", "2026-01-01", "2026-10-11").and_on("B", "2026-10-11", ""));
    assert_eq!(cause(&before, &before.with(&[turned])), ChangeCause::PriceBook);
    // Nobody has a plan any more, with the old subscriptions as well as with the old price book.
    let before = State::of(Member::on("B", "2026-01-01", ""));
    let without: Change = |state| state.member.subscriptions.clear();
    assert_eq!(cause(&before, &before.with(&[turned, without])), ChangeCause::MoreThanOne);
}

#[test]
fn the_same_inputs_mean_another_calculation() {
    let mut reordered = a_member().with(&[with_addon]);
    let before = reordered.clone();
    reordered.member.subscriptions.reverse();
    assert_eq!(cause(&before, &reordered), ChangeCause::Calculation);
}

#[test]
fn each_cause_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = ChangeCause::ALL.map(ChangeCause::as_str).into();
    assert_eq!(names.len(), ChangeCause::ALL.len());
}
