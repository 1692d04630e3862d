//! Whether a member's outcome changes: the live one, as the tables have it, against the one that
//! was just priced. Pure.

use domain::pricing::{Amounts, Bill, Item, Outcome};

/// A member's outcome in the month's live revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LiveOutcome {
    Billed(LiveBill),
    Quarantined { code: String },
}

/// A live bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveBill {
    pub(super) amounts: Amounts,
    /// In order of `line_no`.
    pub(super) items: Vec<LiveItem>,
}

/// An item of a live bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveItem {
    pub(super) line_no: i32,
    pub(super) kind: String,
    pub(super) code: String,
    pub(super) quantity: i64,
    pub(super) amount: i64,
    pub(super) days: Option<i32>,
    pub(super) used: Option<i64>,
    pub(super) free: Option<i64>,
}

/// Whether the priced outcome is the live one: the same kind, and the same code of the quarantine
/// or the same bill. The words of a quarantine and counts of usage rows are not compared. A member
/// without an outcome is the same as one that is not eligible.
pub(super) fn is_unchanged(live: Option<&LiveOutcome>, priced: &Outcome<'_>) -> bool {
    match (live, priced) {
        (None, Outcome::NotEligible { .. }) => true,
        (Some(LiveOutcome::Billed(live)), Outcome::Billed(priced)) => is_same_bill(live, priced),
        (Some(LiveOutcome::Quarantined { code }), Outcome::Quarantined { quarantine, .. }) => {
            code == quarantine.code.as_str()
        }
        _ => false,
    }
}

fn is_same_bill(live: &LiveBill, priced: &Bill<'_>) -> bool {
    // A column that is added to the bill has to be compared or left out here.
    let Bill {
        base_amount,
        usage_amount,
        discount_amount,
        adjustment_amount,
        tax_amount,
        rounding_amount,
        total_amount,
        items,
        rated_rows: _,
        unbillable_rows: _,
    } = priced;
    let amounts = Amounts {
        base: *base_amount,
        usage: *usage_amount,
        discount: *discount_amount,
        adjustment: *adjustment_amount,
        tax: *tax_amount,
        rounding: *rounding_amount,
        total: *total_amount,
    };
    live.amounts == amounts
        && live.items.len() == items.len()
        && live.items.iter().zip(items).all(|(live, priced)| is_same_item(live, priced))
}

fn is_same_item(live: &LiveItem, priced: &Item<'_>) -> bool {
    let Item { line_no, kind, code, quantity, amount, days, used, free } = *priced;
    live.line_no == line_no
        && live.kind == kind.as_str()
        && live.code == code
        && live.quantity == quantity
        && live.amount == amount.get()
        && (live.days, live.used, live.free) == (days, used, free)
}

#[cfg(test)]
mod tests {
    use domain::money::MinorUnits;
    use domain::pricing::{ItemKind, Quarantine, QuarantineCode};

    use super::*;

    fn item() -> Item<'static> {
        Item {
            line_no: 1,
            kind: ItemKind::Usage,
            code: "voice",
            quantity: 3,
            amount: MinorUnits::new(30),
            days: Some(31),
            used: Some(103),
            free: Some(100),
        }
    }

    fn bill() -> Bill<'static> {
        Bill {
            base_amount: MinorUnits::new(1),
            usage_amount: MinorUnits::new(2),
            discount_amount: MinorUnits::new(3),
            adjustment_amount: MinorUnits::new(4),
            tax_amount: MinorUnits::new(5),
            rounding_amount: MinorUnits::new(6),
            total_amount: MinorUnits::new(7),
            items: vec![item(), Item { line_no: 2, used: None, free: None, days: None, ..item() }],
            rated_rows: 8,
            unbillable_rows: 9,
        }
    }

    type Change = fn(&mut Bill<'static>);

    fn quarantined(code: QuarantineCode, detail: &str) -> Outcome<'static> {
        Outcome::Quarantined { quarantine: Quarantine { code, detail: detail.to_owned() }, usage_rows: 1 }
    }

    /// The outcome as the tables have it after it was written.
    fn live(outcome: &Outcome<'_>) -> LiveOutcome {
        match outcome {
            Outcome::Billed(bill) => LiveOutcome::Billed(LiveBill {
                amounts: Amounts {
                    base: bill.base_amount,
                    usage: bill.usage_amount,
                    discount: bill.discount_amount,
                    adjustment: bill.adjustment_amount,
                    tax: bill.tax_amount,
                    rounding: bill.rounding_amount,
                    total: bill.total_amount,
                },
                items: bill
                    .items
                    .iter()
                    .map(|item| LiveItem {
                        line_no: item.line_no,
                        kind: item.kind.as_str().to_owned(),
                        code: item.code.to_owned(),
                        quantity: item.quantity,
                        amount: item.amount.get(),
                        days: item.days,
                        used: item.used,
                        free: item.free,
                    })
                    .collect(),
            }),
            Outcome::Quarantined { quarantine, .. } => {
                LiveOutcome::Quarantined { code: quarantine.code.as_str().to_owned() }
            }
            Outcome::NotEligible { .. } => panic!("no outcome is stored for it"),
        }
    }

    #[test]
    fn each_kind_of_outcome_against_each_other() {
        let billed = Outcome::Billed(bill());
        let unknown_plan = quarantined(QuarantineCode::UnknownPlan, "plan `A`");
        let table = [
            (None, &Outcome::NotEligible { usage_rows: 5 }, true),
            (None, &billed, false),
            (None, &unknown_plan, false),
            (Some(live(&billed)), &billed, true),
            (Some(live(&billed)), &unknown_plan, false),
            (Some(live(&billed)), &Outcome::NotEligible { usage_rows: 0 }, false),
            (Some(live(&unknown_plan)), &quarantined(QuarantineCode::UnknownPlan, "plan `B`"), true),
            (Some(live(&unknown_plan)), &quarantined(QuarantineCode::UnknownDiscount, "plan `A`"), false),
            (Some(live(&unknown_plan)), &billed, false),
            (Some(live(&unknown_plan)), &Outcome::NotEligible { usage_rows: 0 }, false),
        ];
        for (live, priced, unchanged) in table {
            assert_eq!(is_unchanged(live.as_ref(), priced), unchanged, "{live:?} {priced:?}");
        }
    }

    #[test]
    fn every_column_of_a_bill_and_of_an_item_counts() {
        let live = live(&Outcome::Billed(bill()));
        let changes: [(&str, Change); 17] = [
            ("base", |bill| bill.base_amount = MinorUnits::new(0)),
            ("usage", |bill| bill.usage_amount = MinorUnits::new(0)),
            ("discount", |bill| bill.discount_amount = MinorUnits::new(0)),
            ("adjustment", |bill| bill.adjustment_amount = MinorUnits::new(0)),
            ("tax", |bill| bill.tax_amount = MinorUnits::new(0)),
            ("rounding", |bill| bill.rounding_amount = MinorUnits::new(0)),
            ("total", |bill| bill.total_amount = MinorUnits::new(0)),
            ("one item less", |bill| bill.items.truncate(1)),
            ("one item more", |bill| bill.items.push(item())),
            ("line", |bill| bill.items[0].line_no = 3),
            ("kind", |bill| bill.items[0].kind = ItemKind::Addon),
            ("code", |bill| bill.items[0].code = "data"),
            ("quantity", |bill| bill.items[0].quantity = 4),
            ("amount", |bill| bill.items[1].amount = MinorUnits::new(31)),
            ("days", |bill| bill.items[1].days = Some(1)),
            ("used", |bill| bill.items[1].used = Some(0)),
            ("free", |bill| bill.items[0].free = None),
        ];
        for (name, change) in changes {
            let mut priced = bill();
            change(&mut priced);
            assert!(!is_unchanged(Some(&live), &Outcome::Billed(priced)), "{name}");
        }
    }

    #[test]
    fn usage_rows_are_not_part_of_a_bill() {
        let live = live(&Outcome::Billed(bill()));
        let priced = Bill { rated_rows: 0, unbillable_rows: 0, ..bill() };
        assert!(is_unchanged(Some(&live), &Outcome::Billed(priced)));
    }
}
