//! Reads the live outcomes of a chunk's members, which a re-billing compares its own with. The
//! number of statements does not depend on the number of members. No revision of the month is
//! issued or rolled back meanwhile, as the run holds the month.

use std::collections::BTreeMap;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use sqlx::PgConnection;

use super::chunk_span::ChunkSpan;
use super::comparison::LiveOutcome;
use crate::billing::billing_error::BillingError;
use crate::decode::{read_bill_digest, read_number};
use crate::error::During as _;

/// The live outcomes of a chunk's members. Empty for a first billing.
#[derive(Debug, Default)]
pub struct LiveOutcomes {
    by_member: BTreeMap<MemberId, LiveOutcome>,
}

impl LiveOutcomes {
    pub(super) fn take(&mut self, member: MemberId) -> Option<LiveOutcome> {
        self.by_member.remove(&member)
    }

    /// The outcomes that were not taken, by ascending member.
    pub(super) fn take_rest(&mut self) -> impl Iterator<Item = (MemberId, LiveOutcome)> + use<> {
        std::mem::take(&mut self.by_member).into_iter()
    }
}

/// Reads the live outcomes of the chunk's members, or none without a revision to bill again.
///
/// # Errors
/// When the database fails.
pub async fn read_live_outcomes(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    of_revision: Option<Revision>,
) -> Result<LiveOutcomes, BillingError> {
    if of_revision.is_none() {
        return Ok(LiveOutcomes::default());
    }
    let mut by_member = read_bills(tx, chunk, month).await?;
    add_quarantined(tx, chunk, month, &mut by_member).await?;
    Ok(LiveOutcomes { by_member })
}

/// The digests and totals of the bills of `live_bill`, without its look at deliveries.
async fn read_bills(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
) -> Result<BTreeMap<MemberId, LiveOutcome>, BillingError> {
    let rows = sqlx::query!(
        r#"select b.member_id, b.total_amount,
                  coalesce(b.digest, (
                      select d.computed from bill_digest d
                      where d.month = b.month and d.member_id = b.member_id and d.revision = b.revision)) as "digest!"
           from bill b
           join revision r on r.month = b.month and r.revision = b.revision and r.state = 'LIVE'
           where b.month = $1 and b.member_id between $2 and $3 and ($4::bigint[] is null or b.member_id = any($4))
             and not exists (
                 select from revision later
                 join outcome o on o.month = later.month and o.revision = later.revision
                 where later.month = b.month and later.revision > b.revision and later.state = 'LIVE'
                   and o.member_id = b.member_id)"#,
        month.to_string(),
        chunk.from_member,
        chunk.to_member,
        chunk.members.as_deref()
    )
    .fetch_all(tx)
    .await
    .during("cannot read the live bills")?;
    rows.into_iter()
        .map(|row| {
            let member = read_number("bill.member_id", row.member_id)?;
            let digest = read_bill_digest("bill.digest", row.digest)?;
            Ok((member, LiveOutcome::Billed { digest, total: row.total_amount }))
        })
        .collect()
}

async fn add_quarantined(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    by_member: &mut BTreeMap<MemberId, LiveOutcome>,
) -> Result<(), BillingError> {
    let rows = sqlx::query!(
        r#"select member_id as "member_id!", code as "code!"
           from quarantine
           where month = $1 and member_id between $2 and $3 and ($4::bigint[] is null or member_id = any($4))"#,
        month.to_string(),
        chunk.from_member,
        chunk.to_member,
        chunk.members.as_deref()
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
