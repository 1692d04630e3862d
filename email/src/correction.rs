//! The variables that only the templates of a correction have: the bill that was sent before, and
//! the lines of both bills side by side.

use domain::pricing::ItemKind;
use serde_json::{Map, Value, json};

use crate::bill::{Bill, Line, SentBill};
use crate::line_name::{Wording, line_name};

/// The variables outside of any block, in addition to those of a bill.
pub(crate) const TOP: [&str; 4] = ["oldRevision", "oldTotal", "difference", "lines"];
/// The variables inside `{{#each lines}}`.
pub(crate) const IN_LINES: [&str; 11] = [
    "name",
    "kind",
    "code",
    "days",
    "partial",
    "oldAmount",
    "amount",
    "difference",
    "changed",
    "oldUsed",
    "used",
];

/// Adds the variables.
pub(crate) fn add_variables(
    top: &mut Map<String, Value>,
    bill: &Bill<'_>,
    sent: &SentBill<'_>,
    wording: &Wording<'_>,
) {
    let (old, new) = (sent.amounts.total.get(), bill.amounts.total.get());
    let lines: Vec<Value> =
        pairs(sent.lines, bill.lines).iter().map(|pair| variables(bill, sent, pair, wording)).collect();
    let values = [sent.revision.get().into(), old.into(), new.saturating_sub(old).into(), lines.into()];
    top.extend(TOP.map(str::to_owned).into_iter().zip(values));
}

/// A line of the old bill, of the new one, or of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair<'a> {
    old: Option<&'a Line<'a>>,
    new: Option<&'a Line<'a>>,
}

impl<'a> Pair<'a> {
    /// The line itself, as it is now, or was.
    fn line(&self) -> Option<&'a Line<'a>> {
        self.new.or(self.old)
    }
}

/// Whether a line of the old bill and one of the new bill belong together.
type Fits<'a> = dyn Fn(&Line<'_>, &Line<'_>) -> bool + 'a;

/// Pairs the lines of two bills by kind and code: of several with the same, first those that did not
/// change, then those of as many days and the same reason, then in their order. They come in the
/// order of the new bill; those that it no longer has follow the others of their part.
fn pairs<'a>(old: &'a [Line<'a>], new: &'a [Line<'a>]) -> Vec<Pair<'a>> {
    let same_name = |a: &Line<'_>, b: &Line<'_>| (a.item.kind, a.item.code) == (b.item.kind, b.item.code);
    let same_line = |a: &Line<'_>, b: &Line<'_>| (a.item.days, a.reason) == (b.item.days, b.reason);
    let mut left: Vec<Option<&Line<'_>>> = old.iter().map(Some).collect();
    let mut pairs: Vec<Pair<'_>> = new.iter().map(|line| Pair { old: None, new: Some(line) }).collect();
    let criteria: [&Fits<'_>; 3] = [
        &|a, b| same_name(a, b) && same_line(a, b) && a.item.amount == b.item.amount,
        &|a, b| same_name(a, b) && same_line(a, b),
        &|a, b| same_name(a, b),
    ];
    for fits in criteria {
        for pair in pairs.iter_mut().filter(|pair| pair.old.is_none()) {
            let Some(new) = pair.new else { continue };
            pair.old =
                left.iter_mut().find(|old| old.is_some_and(|old| fits(old, new))).and_then(Option::take);
        }
    }
    pairs.extend(left.into_iter().flatten().map(|line| Pair { old: Some(line), new: None }));
    pairs.sort_by_key(|pair| pair.line().map(|line| part(line.item.kind)));
    pairs
}

/// The part of the bill that lines of this kind are in.
fn part(kind: ItemKind) -> u8 {
    match kind {
        ItemKind::Base | ItemKind::Usage => 0,
        ItemKind::Addon => 1,
        ItemKind::Discount => 2,
        ItemKind::Adjustment => 3,
        ItemKind::Tax | ItemKind::Rounding => 4,
    }
}

/// An amount is 0 in the bill that does not have the line. What was used is known only if both bills
/// have it: usage within the allowance has no line.
fn variables(bill: &Bill<'_>, sent: &SentBill<'_>, pair: &Pair<'_>, wording: &Wording<'_>) -> Value {
    let Some(line) = pair.line() else { return Value::Null };
    let book = if pair.new.is_some() { bill.book } else { sent.book };
    let amount = |line: Option<&Line<'_>>| line.map_or(0, |line| line.item.amount.get());
    let used = |line: Option<&Line<'_>>| line.and_then(|line| line.item.used);
    let (old_used, new_used) = used(pair.old).zip(used(pair.new)).unzip();
    let (old, new) = (amount(pair.old), amount(pair.new));
    let partial = line.item.days.is_some_and(|days| i64::from(days) < i64::from(bill.month.days()));
    json!({
        "name": line_name(line, book, wording),
        "kind": line.item.kind.as_str(),
        "code": line.item.code,
        "days": line.item.days.unwrap_or_default(),
        "partial": partial,
        "oldAmount": old,
        "amount": new,
        "difference": new.saturating_sub(old),
        "changed": old != new,
        "oldUsed": old_used,
        "used": new_used,
    })
}

#[cfg(test)]
mod tests {
    use domain::money::MinorUnits;
    use domain::pricing::Item;

    use super::*;

    fn line(kind: ItemKind, code: &'static str, days: i32, amount: i64) -> Line<'static> {
        let amount = MinorUnits::new(amount);
        let item =
            Item { line_no: 1, kind, code, quantity: 1, amount, days: Some(days), used: None, free: None };
        Line { item, reason: None }
    }

    fn paired(old: &[Line<'_>], new: &[Line<'_>]) -> String {
        let amount = |line: Option<&Line<'_>>| {
            line.map_or("none".to_owned(), |line| line.item.amount.get().to_string())
        };
        let text = |pair: &Pair<'_>| {
            let code = pair.line().map_or("", |line| line.item.code);
            format!("{code} {} {}", amount(pair.old), amount(pair.new))
        };
        pairs(old, new).iter().map(text).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn lines_are_paired_by_kind_and_code_then_by_what_is_the_same() {
        use ItemKind::{Addon, Adjustment, Base, Discount, Rounding, Usage};
        let because = |reason, line| Line { reason: Some(reason), ..line };
        let sorry = because("sorry", line(Adjustment, "GOODWILL", 0, -30));
        let late = because("late", line(Adjustment, "GOODWILL", 0, -20));
        let cases: Vec<(&str, Vec<Line<'_>>, Vec<Line<'_>>, &str)> = vec![
            ("a new fee", vec![line(Base, "A", 31, 100)], vec![line(Base, "A", 31, 90)], "A 100 90"),
            (
                "two segments of one plan, the later one shorter",
                vec![line(Base, "A", 10, 10), line(Base, "A", 11, 11)],
                vec![line(Base, "A", 10, 10), line(Base, "A", 9, 9)],
                "A 10 10, A 11 9",
            ),
            (
                "the earlier segment is gone",
                vec![line(Base, "A", 10, 10), line(Base, "A", 11, 11)],
                vec![line(Base, "A", 11, 12)],
                "A 11 12, A 10 none",
            ),
            (
                "another plan with the same usage",
                vec![line(Base, "A", 31, 100), line(Usage, "data", 31, 7), line(Addon, "M", 31, 5)],
                vec![line(Base, "B", 31, 120), line(Usage, "data", 31, 4), line(Addon, "M", 31, 5)],
                "B none 120, data 7 4, A 100 none, M 5 5",
            ),
            (
                "an adjustment before the same code",
                vec![sorry],
                vec![late, sorry],
                "GOODWILL none -20, GOODWILL -30 -30",
            ),
            (
                "a code of two kinds",
                vec![line(Addon, "X", 31, 1), line(Rounding, "rounding", 0, -3)],
                vec![line(Discount, "X", 31, -1), line(Rounding, "rounding", 0, -4)],
                "X 1 none, X none -1, rounding -3 -4",
            ),
            ("nothing before", vec![], vec![line(Base, "A", 31, 1)], "A none 1"),
        ];
        for (what, old, new, expected) in cases {
            assert_eq!(paired(&old, &new), expected, "{what}");
        }
    }
}
