//! What differs between the stored outcome of a member and the priced one, in words. Pure. Names
//! lines, codes and amounts, and nothing of the person.

use std::fmt;

use domain::bill_digest::BillDigest;
use domain::pricing::{Bill, Item, Outcome};
use store::verify::replay::{StoredBill, StoredItem, StoredOutcome};

/// At most so many differences of one member are named.
const MAX_DIFFERENCES: usize = 5;

/// What differs, or none if the stored outcome is the priced one in every column. The words of a
/// quarantine are not compared, as a re-billing does not write them again if only they change.
pub(crate) fn compare(stored: &StoredOutcome, priced: &Outcome<'_>) -> Option<String> {
    let StoredOutcome { bill, items, quarantine } = stored;
    let differences = match (bill, quarantine, priced) {
        (Some(bill), None, Outcome::Billed(priced)) => compare_bills(bill, items, priced),
        (None, Some(code), Outcome::Quarantined { quarantine, .. })
            if items.is_empty() && code == quarantine.code.as_str() =>
        {
            Vec::new()
        }
        (None, None, Outcome::NotEligible { .. }) if items.is_empty() => Vec::new(),
        _ => vec![format!("{}, priced: {}", describe_stored(stored), describe_priced(priced))],
    };
    let named = differences.iter().take(MAX_DIFFERENCES).cloned().collect::<Vec<_>>().join("; ");
    match differences.len().saturating_sub(MAX_DIFFERENCES) {
        0 => (!named.is_empty()).then_some(named),
        more => Some(format!("{named}; and {more} more")),
    }
}

fn describe_stored(stored: &StoredOutcome) -> String {
    let mut parts = Vec::new();
    match &stored.bill {
        Some(bill) => parts.push(format!("a bill of {}", bill.amounts.total.get())),
        None if stored.items.is_empty() => {}
        None => parts.push(format!("{} items without a bill", stored.items.len())),
    }
    if let Some(code) = &stored.quarantine {
        parts.push(format!("quarantine for {code}"));
    }
    if parts.is_empty() { "no outcome".to_owned() } else { parts.join(" and ") }
}

fn describe_priced(priced: &Outcome<'_>) -> String {
    match priced {
        Outcome::Billed(bill) => format!("a bill of {}", bill.total_amount.get()),
        Outcome::Quarantined { quarantine, .. } => format!("quarantine for {}", quarantine.code),
        Outcome::NotEligible { .. } => "no outcome, not eligible".to_owned(),
    }
}

fn compare_bills(stored: &StoredBill, items: &[StoredItem], priced: &Bill<'_>) -> Vec<String> {
    let mut found = compare_columns(stored, items, priced);
    if !stored.may_have_stayed {
        // A revision that corrects a bill takes back what was posted instead.
        found.extend(difference("posted differences", stored.posted, 0));
        return found;
    }
    // The replay of the bill's own revision has compared its columns.
    if found.is_empty() && stored.posted == 0 {
        return found;
    }
    let (total, priced) = (i128::from(stored.amounts.total.get()) + stored.posted, priced.total_amount.get());
    if total == priced.into() {
        return Vec::new();
    }
    vec![format!("total amount and posted differences {total}, priced {priced}")]
}

fn compare_columns(stored: &StoredBill, items: &[StoredItem], priced: &Bill<'_>) -> Vec<String> {
    let amounts = &stored.amounts;
    let mut found: Vec<String> = [
        ("base amount", amounts.base, priced.base_amount),
        ("usage amount", amounts.usage, priced.usage_amount),
        ("discount amount", amounts.discount, priced.discount_amount),
        ("adjustment amount", amounts.adjustment, priced.adjustment_amount),
        ("tax amount", amounts.tax, priced.tax_amount),
        ("rounding amount", amounts.rounding, priced.rounding_amount),
        ("total amount", amounts.total, priced.total_amount),
    ]
    .into_iter()
    .filter_map(|(column, stored, priced)| difference(column, stored.get(), priced.get()))
    .collect();
    found.extend(compare_items(items, &priced.items));
    // It says nothing more about a bill that differs.
    if found.is_empty() {
        let priced = BillDigest::of(priced);
        found.extend(
            stored
                .digest
                .filter(|digest| *digest != priced)
                .map(|digest| format!("digest {digest:?}, priced {priced:?}")),
        );
    }
    found
}

/// Both are in the order of their line numbers.
fn compare_items(stored: &[StoredItem], priced: &[Item<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    let missing = |item: &Item<'_>| {
        let Item { line_no, kind, code, amount, .. } = *item;
        format!("line {line_no} {kind} {code} is missing, priced {}", amount.get())
    };
    let mut priced = priced.iter().peekable();
    for line in stored {
        while let Some(item) = priced.next_if(|item| item.line_no < line.line_no) {
            found.push(missing(item));
        }
        found.extend(match priced.next_if(|item| item.line_no == line.line_no) {
            Some(item) => compare_item(line, item),
            None => {
                let StoredItem { line_no, kind, code, amount, .. } = line;
                Some(format!("line {line_no} {kind} {code} of {amount} is too many"))
            }
        });
    }
    found.extend(priced.map(missing));
    found
}

fn compare_item(stored: &StoredItem, priced: &Item<'_>) -> Option<String> {
    let StoredItem { line_no, kind, code, quantity, amount, days, used, free } = stored;
    let columns: Vec<String> = [
        difference("kind", kind.as_str(), priced.kind.as_str()),
        difference("code", code.as_str(), priced.code),
        difference("quantity", quantity, &priced.quantity),
        difference("amount", *amount, priced.amount.get()),
        difference("days", Optional(*days), Optional(priced.days)),
        difference("used", Optional(*used), Optional(priced.used)),
        difference("free", Optional(*free), Optional(priced.free)),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!columns.is_empty()).then(|| format!("line {line_no} {kind} {code}: {}", columns.join(", ")))
}

/// A column that can be null.
#[derive(PartialEq)]
struct Optional<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Optional<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}

fn difference<T: PartialEq + fmt::Display>(column: &str, stored: T, priced: T) -> Option<String> {
    (stored != priced).then(|| format!("{column} {stored}, priced {priced}"))
}

#[cfg(test)]
mod tests {
    use domain::money::MinorUnits;
    use domain::pricing::{Amounts, ItemKind, Quarantine, QuarantineCode};

    use super::*;

    fn item(line_no: i32, kind: ItemKind, code: &'static str, amount: i64) -> Item<'static> {
        let amount = MinorUnits::new(amount);
        Item { line_no, kind, code, quantity: 1, amount, days: Some(31), used: None, free: Some(0) }
    }

    fn bill() -> Bill<'static> {
        Bill {
            base_amount: MinorUnits::new(100),
            usage_amount: MinorUnits::new(30),
            discount_amount: MinorUnits::new(0),
            adjustment_amount: MinorUnits::new(-7),
            tax_amount: MinorUnits::new(11),
            rounding_amount: MinorUnits::new(0),
            total_amount: MinorUnits::new(123),
            items: vec![
                item(1, ItemKind::Base, "LTE-33", 100),
                item(2, ItemKind::Usage, "voice", 30),
                item(3, ItemKind::Adjustment, "GOODWILL", -7),
            ],
            rated_rows: 8,
            unbillable_rows: 9,
        }
    }

    /// The bill as the tables have it after it was written.
    fn stored() -> StoredOutcome {
        let bill = bill();
        let amounts = Amounts {
            base: bill.base_amount,
            usage: bill.usage_amount,
            discount: bill.discount_amount,
            adjustment: bill.adjustment_amount,
            tax: bill.tax_amount,
            rounding: bill.rounding_amount,
            total: bill.total_amount,
        };
        let items = bill.items.iter().map(|item| StoredItem {
            line_no: item.line_no,
            kind: item.kind.as_str().to_owned(),
            code: item.code.to_owned(),
            quantity: item.quantity,
            amount: item.amount.get(),
            days: item.days,
            used: item.used,
            free: item.free,
        });
        StoredOutcome {
            items: items.collect(),
            bill: Some(StoredBill {
                amounts,
                may_have_stayed: false,
                posted: 0,
                digest: Some(BillDigest::of(&bill)),
            }),
            quarantine: None,
        }
    }

    fn amounts(stored: &mut StoredOutcome) -> &mut Amounts {
        &mut stored.bill.as_mut().unwrap().amounts
    }

    type Change = fn(&mut StoredOutcome);

    #[test]
    fn every_column_of_a_bill_and_of_an_item_is_compared() {
        let changes: [(Change, &str); 20] = [
            (|s| amounts(s).base = MinorUnits::new(1), "base amount 1, priced 100"),
            (|s| amounts(s).usage = MinorUnits::new(1), "usage amount 1, priced 30"),
            (|s| amounts(s).discount = MinorUnits::new(1), "discount amount 1, priced 0"),
            (|s| amounts(s).adjustment = MinorUnits::new(1), "adjustment amount 1, priced -7"),
            (|s| amounts(s).tax = MinorUnits::new(1), "tax amount 1, priced 11"),
            (|s| amounts(s).rounding = MinorUnits::new(1), "rounding amount 1, priced 0"),
            (|s| amounts(s).total = MinorUnits::new(1), "total amount 1, priced 123"),
            (|s| s.items[0].kind = "ADDON".to_owned(), "line 1 ADDON LTE-33: kind ADDON, priced BASE"),
            (|s| s.items[0].code = "X".to_owned(), "line 1 BASE X: code X, priced LTE-33"),
            (|s| s.items[0].quantity = 2, "line 1 BASE LTE-33: quantity 2, priced 1"),
            (|s| s.items[0].amount = 2, "line 1 BASE LTE-33: amount 2, priced 100"),
            (|s| s.items[0].days = None, "line 1 BASE LTE-33: days none, priced 31"),
            (|s| s.items[0].used = Some(5), "line 1 BASE LTE-33: used 5, priced none"),
            (|s| s.items[0].free = Some(5), "line 1 BASE LTE-33: free 5, priced 0"),
            (|s| drop(s.items.remove(0)), "line 1 BASE LTE-33 is missing, priced 100"),
            (|s| drop(s.items.pop()), "line 3 ADJUSTMENT GOODWILL is missing, priced -7"),
            (|s| s.items.push(s.items[2].clone()), "line 3 ADJUSTMENT GOODWILL of -7 is too many"),
            (
                |s| s.items[1].line_no = 4,
                "line 2 USAGE voice is missing, priced 30; line 4 USAGE voice of 30 is too many",
            ),
            (
                |s| {
                    s.items[0].amount += 10;
                    s.items[1].amount -= 10;
                },
                "line 1 BASE LTE-33: amount 110, priced 100; line 2 USAGE voice: amount 20, priced 30",
            ),
            (
                |s| s.items.clear(),
                "line 1 BASE LTE-33 is missing, priced 100; line 2 USAGE voice is missing, priced 30; \
                 line 3 ADJUSTMENT GOODWILL is missing, priced -7",
            ),
        ];
        for (change, expected) in changes {
            let mut changed = stored();
            change(&mut changed);
            changed.items.sort_by_key(|item| item.line_no);
            let found = compare(&changed, &Outcome::Billed(bill()));
            assert_eq!(found.as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_bill_that_is_as_priced_is_only_compared_by_its_digest() {
        let priced = Outcome::Billed(bill());
        assert_eq!(compare(&stored(), &priced), None);
        let with_digest = |digest| {
            let mut stored = stored();
            stored.bill.as_mut().unwrap().digest = digest;
            compare(&stored, &priced)
        };
        // A bill of a version that stored none.
        assert_eq!(with_digest(None), None);
        let own = BillDigest::of(&bill());
        let other = with_digest(Some(BillDigest::from_bytes([0xab; 16])));
        assert_eq!(other, Some(format!("digest {}, priced {own:?}", "ab".repeat(16))));
    }

    #[test]
    fn a_bill_that_stayed_makes_up_the_priced_total_with_what_is_posted() {
        let with = |may_have_stayed, total, posted| {
            let mut stored = stored();
            let bill = stored.bill.as_mut().unwrap();
            (bill.may_have_stayed, bill.posted, bill.amounts.total) =
                (may_have_stayed, posted, MinorUnits::new(total));
            compare(&stored, &Outcome::Billed(self::bill()))
        };
        let table = [
            (true, 120, 3, None),
            (true, 120, 4, Some("total amount and posted differences 124, priced 123")),
            (true, 120, 0, Some("total amount and posted differences 120, priced 123")),
            // Posted although the bill is right.
            (true, 123, 3, Some("total amount and posted differences 126, priced 123")),
            (false, 120, 3, Some("total amount 120, priced 123; posted differences 3, priced 0")),
            (false, 123, 3, Some("posted differences 3, priced 0")),
        ];
        for (may_have_stayed, total, posted, expected) in table {
            assert_eq!(with(may_have_stayed, total, posted).as_deref(), expected, "{total} {posted}");
        }
        // Other items, and the same total: there was nothing to post.
        let mut other_items = stored();
        other_items.items.clear();
        other_items.bill.as_mut().unwrap().may_have_stayed = true;
        assert_eq!(compare(&other_items, &Outcome::Billed(bill())), None);
    }

    #[test]
    fn a_bill_that_differs_in_many_lines_is_described_by_the_first_ones() {
        let mut many = bill();
        many.items = (1..=7).map(|line_no| item(line_no, ItemKind::Addon, "A", 1)).collect();
        let none = StoredOutcome { items: Vec::new(), ..stored() };
        let found = compare(&none, &Outcome::Billed(many)).unwrap();
        assert!(found.starts_with("line 1 ADDON A is missing, priced 1; line 2 "), "{found}");
        assert!(found.ends_with("line 5 ADDON A is missing, priced 1; and 2 more"), "{found}");
    }

    #[test]
    fn each_kind_of_outcome_against_each_other() {
        let billed = Outcome::Billed(bill());
        let quarantined = Outcome::Quarantined {
            quarantine: Quarantine { code: QuarantineCode::UnknownPlan, detail: "plan `A`".to_owned() },
            usage_rows: 1,
        };
        let not_eligible = Outcome::NotEligible { usage_rows: 1 };
        let nothing = StoredOutcome::default();
        let in_quarantine =
            |code: &str| StoredOutcome { quarantine: Some(code.to_owned()), ..StoredOutcome::default() };
        let unknown_plan = in_quarantine("UNKNOWN_PLAN");
        let only_items = StoredOutcome { bill: None, ..stored() };
        let both = StoredOutcome { quarantine: Some("UNKNOWN_PLAN".to_owned()), ..stored() };
        let table = [
            (&nothing, &not_eligible, None),
            (&nothing, &billed, Some("no outcome, priced: a bill of 123")),
            (&nothing, &quarantined, Some("no outcome, priced: quarantine for UNKNOWN_PLAN")),
            (&unknown_plan, &quarantined, None),
            (&unknown_plan, &billed, Some("quarantine for UNKNOWN_PLAN, priced: a bill of 123")),
            (
                &unknown_plan,
                &not_eligible,
                Some("quarantine for UNKNOWN_PLAN, priced: no outcome, not eligible"),
            ),
            (
                &in_quarantine("UNKNOWN_DISCOUNT"),
                &quarantined,
                Some("quarantine for UNKNOWN_DISCOUNT, priced: quarantine for UNKNOWN_PLAN"),
            ),
            (&stored(), &quarantined, Some("a bill of 123, priced: quarantine for UNKNOWN_PLAN")),
            (&stored(), &not_eligible, Some("a bill of 123, priced: no outcome, not eligible")),
            (&both, &billed, Some("a bill of 123 and quarantine for UNKNOWN_PLAN, priced: a bill of 123")),
            (&only_items, &billed, Some("3 items without a bill, priced: a bill of 123")),
            (&only_items, &not_eligible, Some("3 items without a bill, priced: no outcome, not eligible")),
        ];
        for (stored, priced, expected) in table {
            assert_eq!(compare(stored, priced).as_deref(), expected, "{stored:?}");
        }
    }
}
