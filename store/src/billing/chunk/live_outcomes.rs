//! Reads the live outcomes of a chunk's members, which a re-billing compares its own with. The
//! number of statements does not depend on the number of members. No revision of the month is
//! issued or rolled back meanwhile, as the run holds the month.

use std::collections::BTreeMap;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use sqlx::PgConnection;

use super::chunk_span::ChunkSpan;
use super::comparison::{LiveBill, LiveOutcome};
use crate::billing::begin_run::AfterSent;
use crate::billing::billing_error::BillingError;
use crate::decode::{read_amount, read_bill_digest, read_number};
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

    /// The outcomes that were not taken, by ascending member.
    pub(super) fn take_rest(&mut self) -> impl Iterator<Item = (MemberId, LiveOutcome)> + use<> {
        std::mem::take(&mut self.by_member).into_iter()
    }
}

/// Reads the live outcomes of the chunk's members, or none without a revision to bill again. A bill
/// that is sent after this is no longer left as it is.
///
/// # Errors
/// When the database fails.
pub async fn read_live_outcomes(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    of_revision: Option<Revision>,
    after_sent: AfterSent,
) -> Result<LiveOutcomes, BillingError> {
    if of_revision.is_none() {
        return Ok(LiveOutcomes::default());
    }
    let mut by_member = read_bills(tx, chunk, month, after_sent).await?;
    add_posted(tx, chunk, month, &mut by_member).await?;
    add_quarantined(tx, chunk, month, &mut by_member).await?;
    Ok(LiveOutcomes { by_member })
}

/// The digests and totals of the bills of `live_bill`. Deliveries are looked at only if the bills that
/// were sent stay.
async fn read_bills(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    after_sent: AfterSent,
) -> Result<BTreeMap<MemberId, LiveOutcome>, BillingError> {
    let rows = sqlx::query!(
        r#"select b.member_id, b.revision, b.total_amount,
                  $5 and exists (
                      select from delivery d
                      where d.month = b.month and d.member_id = b.member_id and d.revision = b.revision and d.channel = 'EMAIL'
                        and counts_as_sent(d.state, d.before)) as "stays!",
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
        chunk.members.as_deref(),
        after_sent == AfterSent::Adjust
    )
    .fetch_all(tx)
    .await
    .during("cannot read the live bills")?;
    rows.into_iter()
        .map(|row| {
            let member = read_number("bill.member_id", row.member_id)?;
            let bill = LiveBill {
                revision: row.revision,
                digest: read_bill_digest("bill.digest", row.digest)?,
                total: row.total_amount,
                stays: row.stays,
                posted: 0,
            };
            Ok((member, LiveOutcome::Billed(bill)))
        })
        .collect()
}

/// Adds what live revisions of the month have posted to later months.
async fn add_posted(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    by_member: &mut BTreeMap<MemberId, LiveOutcome>,
) -> Result<(), BillingError> {
    let rows = sqlx::query!(
        r#"select d.member_id, sum(d.amount)::text as "posted!"
           from revision r
           join posted_difference d on d.month = r.month and d.revision = r.revision
           where r.month = $1 and r.state = 'LIVE' and r.posts_to is not null
             and d.member_id between $2 and $3 and ($4::bigint[] is null or d.member_id = any($4))
           group by d.member_id"#,
        month.to_string(),
        chunk.from_member,
        chunk.to_member,
        chunk.members.as_deref()
    )
    .fetch_all(tx)
    .await
    .during("cannot read what was posted to later months")?;
    for row in rows {
        let member = read_number("posted_difference.member_id", row.member_id)?;
        let posted = read_amount("posted_difference.amount", &row.posted)?;
        let unreadable = || StoreError::unreadable("the sum of posted_difference.amount", posted);
        // It can be taken back.
        let posted = i64::try_from(posted).ok().filter(|sum| *sum != i64::MIN).ok_or_else(unreadable)?;
        match by_member.get_mut(&member) {
            Some(LiveOutcome::Billed(bill)) => bill.posted = posted,
            // Whose bill ends has nothing posted any more.
            _ if posted == 0 => {}
            _ => return Err(unreadable().into()),
        }
    }
    Ok(())
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
