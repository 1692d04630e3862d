//! Reads the live outcomes of a chunk's members, which a re-billing compares its own with. The
//! number of statements does not depend on the number of members. No revision of the month is
//! issued or rolled back meanwhile, as the run holds the month.

use std::collections::BTreeMap;

use domain::ids::{MemberId, Revision};
use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::pricing::Amounts;
use sqlx::PgConnection;

use super::claim_chunk::ClaimedChunk;
use super::comparison::{LiveBill, LiveItem, LiveOutcome};
use crate::billing::billing_error::BillingError;
use crate::decode::read_number;
use crate::error::{During as _, StoreError};

/// The live outcomes of a chunk's members. Empty for a first billing.
#[derive(Debug, Default)]
pub struct LiveOutcomes {
    by_member: BTreeMap<MemberId, LiveOutcome>,
}

impl LiveOutcomes {
    pub(super) fn take(&mut self, member: MemberId) -> Option<LiveOutcome> {
        self.by_member.remove(&member)
    }

    /// The members that were not taken, ascending.
    pub(super) fn take_rest(&mut self) -> impl Iterator<Item = MemberId> + use<> {
        std::mem::take(&mut self.by_member).into_keys()
    }
}

/// Reads the live outcomes of the chunk's members, or none without a revision to bill again.
///
/// # Errors
/// When the database fails.
pub async fn read_live_outcomes(
    tx: &mut PgConnection,
    chunk: &ClaimedChunk,
    month: BillingMonth,
    of_revision: Option<Revision>,
) -> Result<LiveOutcomes, BillingError> {
    if of_revision.is_none() {
        return Ok(LiveOutcomes::default());
    }
    let mut by_member = read_bills(tx, chunk, month).await?;
    add_items(tx, chunk, month, &mut by_member).await?;
    add_quarantined(tx, chunk, month, &mut by_member).await?;
    Ok(LiveOutcomes { by_member })
}

/// The bills of `live_bill`, without its look at deliveries.
async fn read_bills(
    tx: &mut PgConnection,
    chunk: &ClaimedChunk,
    month: BillingMonth,
) -> Result<BTreeMap<MemberId, LiveOutcome>, BillingError> {
    let rows = sqlx::query!(
        "select b.member_id, b.base_amount, b.usage_amount, b.discount_amount, b.adjustment_amount, b.tax_amount,
                b.rounding_amount, b.total_amount
         from bill b
         join revision r on r.month = b.month and r.revision = b.revision and r.state = 'LIVE'
         where b.month = $1 and b.member_id between $2 and $3
           and not exists (
               select from revision later
               join outcome o on o.month = later.month and o.revision = later.revision
               where later.month = b.month and later.revision > b.revision and later.state = 'LIVE'
                 and o.member_id = b.member_id)",
        month.to_string(),
        chunk.from_member,
        chunk.to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read the live bills")?;
    rows.into_iter()
        .map(|row| {
            let amounts = Amounts {
                base: MinorUnits::new(row.base_amount),
                usage: MinorUnits::new(row.usage_amount),
                discount: MinorUnits::new(row.discount_amount),
                adjustment: MinorUnits::new(row.adjustment_amount),
                tax: MinorUnits::new(row.tax_amount),
                rounding: MinorUnits::new(row.rounding_amount),
                total: MinorUnits::new(row.total_amount),
            };
            let member = read_number("bill.member_id", row.member_id)?;
            Ok((member, LiveOutcome::Billed(LiveBill { amounts, items: Vec::new() })))
        })
        .collect()
}

async fn add_items(
    tx: &mut PgConnection,
    chunk: &ClaimedChunk,
    month: BillingMonth,
    by_member: &mut BTreeMap<MemberId, LiveOutcome>,
) -> Result<(), BillingError> {
    let rows = sqlx::query!(
        r#"select member_id as "member_id!", line_no as "line_no!", kind as "kind!", code as "code!", quantity as "quantity!",
                  amount as "amount!", days, used_quantity, free_allowance
           from live_bill_item
           where month = $1 and member_id between $2 and $3
           order by member_id, line_no"#,
        month.to_string(),
        chunk.from_member,
        chunk.to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read the items of the live bills")?;
    for row in rows {
        let member = read_number("bill_item.member_id", row.member_id)?;
        let Some(LiveOutcome::Billed(bill)) = by_member.get_mut(&member) else {
            return Err(StoreError::unreadable("bill_item.member_id without a bill", row.member_id).into());
        };
        bill.items.push(LiveItem {
            line_no: row.line_no,
            kind: row.kind,
            code: row.code,
            quantity: row.quantity,
            amount: row.amount,
            days: row.days,
            used: row.used_quantity,
            free: row.free_allowance,
        });
    }
    Ok(())
}

async fn add_quarantined(
    tx: &mut PgConnection,
    chunk: &ClaimedChunk,
    month: BillingMonth,
    by_member: &mut BTreeMap<MemberId, LiveOutcome>,
) -> Result<(), BillingError> {
    let rows = sqlx::query!(
        r#"select member_id as "member_id!", code as "code!"
           from quarantine where month = $1 and member_id between $2 and $3"#,
        month.to_string(),
        chunk.from_member,
        chunk.to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read the live quarantine")?;
    for row in rows {
        let member = read_number("quarantined_member.member_id", row.member_id)?;
        by_member.insert(member, LiveOutcome::Quarantined { code: row.code });
    }
    Ok(())
}
