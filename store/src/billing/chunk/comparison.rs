//! What becomes of a member's live outcome: it is compared, as the tables have it, with the one that
//! was just priced. Pure.

use domain::bill_digest::BillDigest;
use domain::pricing::Outcome;

/// A member's outcome in the month's live revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LiveOutcome {
    Billed(LiveBill),
    Quarantined { code: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LiveBill {
    /// The revision that wrote it.
    pub(super) revision: i32,
    pub(super) digest: BillDigest,
    pub(super) total: i64,
    /// It was sent, or may have been, and this run leaves such bills.
    pub(super) stays: bool,
    /// What live revisions have posted to later months because the bill stayed; never `i64::MIN`.
    pub(super) posted: i64,
}

/// What a revision does about a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) effect: Effect,
    /// The amount to post to a later month; 0: nothing.
    pub(super) posts: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The priced outcome is the live one.
    Unchanged,
    /// The live bill stays, although another one was priced.
    Left,
    /// The priced outcome is written.
    Written,
}

/// Decides about a member. What is posted is such that the bill that is live afterwards and all that is
/// posted add up to the total that was priced; no bill counts as 0. So what was posted because a
/// bill stayed is posted back once the bill is right or is no more.
///
/// A bill stays only for another bill, and only if what is then posted for the member fits 64 bits.
pub(super) fn decide(live: Option<&LiveOutcome>, priced: &Outcome<'_>) -> Decision {
    let unchanged = is_unchanged(live, priced);
    let effect = if unchanged { Effect::Unchanged } else { Effect::Written };
    let Some(LiveOutcome::Billed(bill)) = live else { return Decision { effect, posts: 0 } };
    if let (false, true, Outcome::Billed(priced)) = (unchanged, bill.stays, priced) {
        let difference = priced.total_amount.exact() - i128::from(bill.total);
        let fits = |amount: i128| i64::try_from(amount).ok().filter(|amount| *amount != i64::MIN);
        if let (Some(_), Some(posts)) = (fits(difference), fits(difference - i128::from(bill.posted))) {
            return Decision { effect: Effect::Left, posts };
        }
    }
    Decision { effect, posts: -bill.posted }
}

/// Whether the priced outcome is the live one: the same kind, and the same code of the quarantine
/// or the same bill. The words of a quarantine and counts of usage rows are not compared. A member
/// without an outcome is the same as one that is not eligible.
fn is_unchanged(live: Option<&LiveOutcome>, priced: &Outcome<'_>) -> bool {
    match (live, priced) {
        (None, Outcome::NotEligible { .. }) => true,
        (Some(LiveOutcome::Billed(live)), Outcome::Billed(priced)) => live.digest == BillDigest::of(priced),
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
            Outcome::Billed(bill) => LiveOutcome::Billed(live_bill(bill)),
            Outcome::Quarantined { quarantine, .. } => {
                LiveOutcome::Quarantined { code: quarantine.code.as_str().to_owned() }
            }
            Outcome::NotEligible { .. } => panic!("no outcome is stored for it"),
        }
    }

    fn live_bill(bill: &Bill<'_>) -> LiveBill {
        let (digest, total) = (BillDigest::of(bill), bill.total_amount.get());
        LiveBill { revision: 1, digest, total, stays: false, posted: 0 }
    }

    #[test]
    fn a_bill_that_stays_and_what_is_posted_add_up_to_what_was_priced() {
        use Effect::{Left, Unchanged, Written};
        let (quarantined, ineligible) =
            (quarantined(QuarantineCode::UnknownPlan, ""), Outcome::NotEligible { usage_rows: 0 });
        let bill = billed;
        let table = [
            // The live total, whether the bill stays, what is posted already; the priced outcome.
            ((100, false, 0), &bill(130), (Written, 0)),
            ((100, true, 0), &bill(130), (Left, 30)),
            ((100, true, 0), &bill(70), (Left, -30)),
            ((100, true, 30), &bill(130), (Left, 0)),
            ((100, true, 30), &bill(125), (Left, -5)),
            // The correction is taken back, or the bill is corrected after all.
            ((100, true, 30), &bill(100), (Unchanged, -30)),
            ((100, false, 30), &bill(100), (Unchanged, -30)),
            ((100, false, 30), &bill(130), (Written, -30)),
            // Without another bill there is no difference of two totals.
            ((100, true, 30), &quarantined, (Written, -30)),
            ((100, true, 30), &ineligible, (Written, -30)),
            // What does not fit 64 bits is not posted.
            ((-2, true, 0), &bill(i64::MAX), (Written, 0)),
            ((i64::MAX, true, 0), &bill(-1), (Written, 0)),
            ((0, true, -2), &bill(i64::MAX), (Written, 2)),
            ((0, true, 0), &bill(i64::MAX), (Left, i64::MAX)),
        ];
        for ((total, stays, posted), priced, (effect, posts)) in table {
            let Outcome::Billed(live) = bill(total) else { unreachable!() };
            let live = LiveOutcome::Billed(LiveBill { stays, posted, ..live_bill(&live) });
            assert_eq!(decide(Some(&live), priced), Decision { effect, posts }, "{live:?} {priced:?}");
        }
        assert_eq!(decide(None, &bill(1)), Decision { effect: Written, posts: 0 });
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
