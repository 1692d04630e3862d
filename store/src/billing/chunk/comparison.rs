//! Whether a member's outcome changes: the live one, as the tables have it, against the one that
//! was just priced. Pure.

use domain::bill_digest::BillDigest;
use domain::pricing::Outcome;

/// A member's outcome in the month's live revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LiveOutcome {
    Billed { digest: BillDigest, total: i64 },
    Quarantined { code: String },
}

/// Whether the priced outcome is the live one: the same kind, and the same code of the quarantine
/// or the same bill. The words of a quarantine and counts of usage rows are not compared. A member
/// without an outcome is the same as one that is not eligible.
pub(super) fn is_unchanged(live: Option<&LiveOutcome>, priced: &Outcome<'_>) -> bool {
    match (live, priced) {
        (None, Outcome::NotEligible { .. }) => true,
        (Some(LiveOutcome::Billed { digest, .. }), Outcome::Billed(priced)) => {
            *digest == BillDigest::of(priced)
        }
        (Some(LiveOutcome::Quarantined { code }), Outcome::Quarantined { quarantine, .. }) => {
            code == quarantine.code.as_str()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use domain::money::MinorUnits;
    use domain::pricing::{Bill, Quarantine, QuarantineCode};

    use super::*;

    fn billed(total: i64) -> Outcome<'static> {
        Outcome::Billed(Bill {
            base_amount: MinorUnits::new(total),
            usage_amount: MinorUnits::new(0),
            discount_amount: MinorUnits::new(0),
            adjustment_amount: MinorUnits::new(0),
            tax_amount: MinorUnits::new(0),
            rounding_amount: MinorUnits::new(0),
            total_amount: MinorUnits::new(total),
            items: Vec::new(),
            rated_rows: 8,
            unbillable_rows: 9,
        })
    }

    fn quarantined(code: QuarantineCode, detail: &str) -> Outcome<'static> {
        Outcome::Quarantined { quarantine: Quarantine { code, detail: detail.to_owned() }, usage_rows: 1 }
    }

    /// The outcome as the tables have it after it was written.
    fn live(outcome: &Outcome<'_>) -> LiveOutcome {
        match outcome {
            Outcome::Billed(bill) => {
                LiveOutcome::Billed { digest: BillDigest::of(bill), total: bill.total_amount.get() }
            }
            Outcome::Quarantined { quarantine, .. } => {
                LiveOutcome::Quarantined { code: quarantine.code.as_str().to_owned() }
            }
            Outcome::NotEligible { .. } => panic!("no outcome is stored for it"),
        }
    }

    #[test]
    fn each_kind_of_outcome_against_each_other() {
        let bill = billed(7);
        let unknown_plan = quarantined(QuarantineCode::UnknownPlan, "plan `A`");
        let table = [
            (None, &Outcome::NotEligible { usage_rows: 5 }, true),
            (None, &bill, false),
            (None, &unknown_plan, false),
            (Some(live(&bill)), &bill, true),
            (Some(live(&bill)), &billed(8), false),
            (Some(live(&bill)), &unknown_plan, false),
            (Some(live(&bill)), &Outcome::NotEligible { usage_rows: 0 }, false),
            (Some(live(&unknown_plan)), &quarantined(QuarantineCode::UnknownPlan, "plan `B`"), true),
            (Some(live(&unknown_plan)), &quarantined(QuarantineCode::UnknownDiscount, "plan `A`"), false),
            (Some(live(&unknown_plan)), &bill, false),
            (Some(live(&unknown_plan)), &Outcome::NotEligible { usage_rows: 0 }, false),
        ];
        for (live, priced, unchanged) in table {
            assert_eq!(is_unchanged(live.as_ref(), priced), unchanged, "{live:?} {priced:?}");
        }
    }
}
