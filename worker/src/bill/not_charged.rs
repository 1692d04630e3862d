//! Counts what nobody is charged for: the add-ons, adjustments and usage of members who are not
//! eligible, known or not. They have no bill that could show it.

use domain::ids::MemberId;
use domain::pricing::{Eligibility, Pricer};
use store::billing::NotCharged;
use store::billing::chunk::{AdjustmentRow, SubscriptionRow, UsageRow};

/// `members` are the known members, ascending, and `coverages` their eligibility.
pub(super) fn count_not_charged(
    pricer: &Pricer<'_>,
    members: &[MemberId],
    coverages: &[Eligibility<'_>],
    subscriptions: &[SubscriptionRow],
    adjustments: &[AdjustmentRow],
    usage: &[UsageRow],
) -> NotCharged {
    let not_eligible = |member: MemberId| match members.binary_search(&member) {
        Ok(at) => coverages[at] == Eligibility::NotEligible,
        Err(_) => true,
    };
    let mut found = NotCharged::default();
    for row in subscriptions {
        if pricer.is_add_on(&row.plan_code) && not_eligible(row.member_id) {
            found.add_ons += 1;
        }
    }
    for row in adjustments.iter().filter(|row| not_eligible(row.member_id)) {
        found.adjustments += 1;
        found.adjustment_amount += i128::from(row.amount);
    }
    for row in usage.iter().filter(|row| not_eligible(row.member_id)) {
        found.usage_rows += i64::try_from(row.rows).unwrap_or(i64::MAX);
    }
    found
}
