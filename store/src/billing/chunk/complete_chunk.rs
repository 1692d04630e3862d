//! Writes the results of a chunk and marks it done.

use domain::pricing;
use sqlx::PgConnection;

use super::change::CHANGES;
use super::chunk_outcomes::{BILLS, ChunkOutcomes, ITEMS};
use super::claim_chunk::ClaimedChunk;
use crate::billing::billing_error::BillingError;
use crate::billing::revision::RevisionKey;
use crate::error::{During as _, expect_rows_affected};

/// Writes the chunk's outcomes that change, and marks the chunk done.
///
/// # Errors
/// When the chunk is done already, or the database fails.
pub async fn complete_chunk(
    tx: &mut PgConnection,
    key: &RevisionKey,
    chunk: &ClaimedChunk,
    mut outcomes: ChunkOutcomes,
    worker: &str,
) -> Result<(), BillingError> {
    let month = key.month.to_string();
    outcomes.end_rest();
    let changed = outcomes.changed();
    let ChunkOutcomes {
        counts,
        amounts,
        not_charged,
        digest,
        bills,
        items,
        quarantined,
        ineligible,
        explained,
        ..
    } = outcomes;
    if bills.rows() > 0 {
        let sent = (bills.rows(), bills.write(tx, &BILLS).await.during("cannot write the bills")?);
        expect_rows_affected("writing the bills", sent.1, sent.0)?;
        let sent = (items.rows(), items.write(tx, &ITEMS).await.during("cannot write the items")?);
        expect_rows_affected("writing the items", sent.1, sent.0)?;
    }
    if !quarantined.members.is_empty() {
        let written = sqlx::query!(
            "insert into quarantined_member (month, revision, member_id, code, detail)
             select $1, $2, * from unnest($3::bigint[], $4::text[], $5::text[])",
            month,
            key.revision.get(),
            &quarantined.members,
            &quarantined.codes,
            &quarantined.details
        )
        .execute(&mut *tx)
        .await
        .during("cannot write the quarantined members")?;
        expect_rows_affected(
            "writing the quarantined members",
            written.rows_affected(),
            quarantined.members.len() as u64,
        )?;
    }
    if !ineligible.is_empty() {
        let written = sqlx::query!(
            "insert into ineligible_member (month, revision, member_id) select $1, $2, * from unnest($3::bigint[])",
            month,
            key.revision.get(),
            &ineligible
        )
        .execute(&mut *tx)
        .await
        .during("cannot write the members who are no longer eligible")?;
        expect_rows_affected(
            "writing the members who are no longer eligible",
            written.rows_affected(),
            ineligible.len() as u64,
        )?;
    }
    if let Some(changes) = explained.filter(|changes| changes.rows() > 0) {
        let sent = (changes.rows(), changes.write(tx, &CHANGES).await.during("cannot write the changes")?);
        expect_rows_affected("writing the changes", sent.1, sent.0)?;
    }
    let digest = digest.finish();
    let done = sqlx::query!(
        "update chunk
         set state = 'DONE', worker = $4, started_at = $5, done_at = clock_timestamp(), digest = $6,
             billed = $7, quarantined = $8, items = $9, rated_usage = $10, unbillable_usage = $11, quarantined_usage = $12,
             base_amount = $13::text::numeric, usage_amount = $14::text::numeric, discount_amount = $15::text::numeric,
             adjustment_amount = $16::text::numeric, tax_amount = $17::text::numeric,
             rounding_amount = $18::text::numeric, total_amount = $19::text::numeric, changed = $20, pricing_version = $21,
             not_charged_add_ons = $22, not_charged_adjustments = $23,
             not_charged_adjustment_amount = $24::text::numeric, not_charged_usage = $25
         where month = $1 and revision = $2 and chunk_no = $3 and state = 'PENDING'",
        month,
        key.revision.get(),
        chunk.span.chunk_no,
        worker,
        jiff_sqlx::Timestamp::from(chunk.claimed_at) as _,
        digest.as_bytes(),
        counts.billed,
        counts.quarantined,
        counts.items,
        counts.rated_usage,
        counts.unbillable_usage,
        counts.quarantined_usage,
        amounts.base.to_string(),
        amounts.usage.to_string(),
        amounts.discount.to_string(),
        amounts.adjustment.to_string(),
        amounts.tax.to_string(),
        amounts.rounding.to_string(),
        amounts.total.to_string(),
        changed,
        pricing::VERSION,
        not_charged.add_ons,
        not_charged.adjustments,
        not_charged.adjustment_amount.to_string(),
        not_charged.usage_rows
    )
    .execute(tx)
    .await
    .during("cannot mark the chunk done")?;
    Ok(expect_rows_affected("marking the chunk done", done.rows_affected(), 1)?)
}

/// Whether the chunk is done. After a COMMIT without an answer this is how a worker finds out
/// whether it was executed.
///
/// # Errors
/// When the database fails.
pub async fn is_chunk_done(
    connection: &mut PgConnection,
    key: &RevisionKey,
    chunk_no: i32,
) -> Result<bool, BillingError> {
    let state = sqlx::query_scalar!(
        "select state from chunk where month = $1 and revision = $2 and chunk_no = $3",
        key.month.to_string(),
        key.revision.get(),
        chunk_no
    )
    .fetch_one(connection)
    .await
    .during("cannot look at the chunk's state")?;
    Ok(state == "DONE")
}
