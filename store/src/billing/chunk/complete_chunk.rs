//! Writes the results of a chunk and marks it done.

use domain::pricing;
use sqlx::PgConnection;

use super::change::CHANGES;
use super::chunk_outcomes::{BILLS, ChunkOutcomes, ITEMS, LeftBills, Posted};
use super::claim_chunk::ClaimedChunk;
use crate::billing::amounts::{AmountTexts, Amounts};
use crate::billing::billing_error::BillingError;
use crate::billing::revision::RevisionKey;
use crate::error::{During as _, expect_rows_affected};

/// Writes the chunk's outcomes that change and what it posts to a later month, and marks the chunk
/// done.
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
        mut counts,
        mut amounts,
        not_charged,
        digest,
        bills,
        items,
        quarantined,
        ineligible,
        explained,
        left,
        posted,
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
    if !left.members.is_empty() {
        let sums = sum_left_bills(tx, &month, &left).await?;
        counts.items += sums.items;
        amounts += sums.amounts;
    }
    write_posted(tx, key, &posted).await?;
    let digest = digest.finish();
    let done = sqlx::query!(
        "update chunk
         set state = 'DONE', worker = $4, started_at = $5, done_at = clock_timestamp(), digest = $6,
             billed = $7, quarantined = $8, items = $9, rated_usage = $10, unbillable_usage = $11, quarantined_usage = $12,
             base_amount = $13::text::numeric, usage_amount = $14::text::numeric, discount_amount = $15::text::numeric,
             adjustment_amount = $16::text::numeric, tax_amount = $17::text::numeric,
             rounding_amount = $18::text::numeric, total_amount = $19::text::numeric, changed = $20, pricing_version = $21,
             not_charged_add_ons = $22, not_charged_adjustments = $23,
             not_charged_adjustment_amount = $24::text::numeric, not_charged_usage = $25,
             posted = $26, posted_amount = $27::text::numeric
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
        not_charged.usage_rows,
        i64::try_from(posted.members.len()).expect("fewer members than 2^63"),
        posted.amounts.iter().copied().map(i128::from).sum::<i128>().to_string()
    )
    .execute(tx)
    .await
    .during("cannot mark the chunk done")?;
    Ok(expect_rows_affected("marking the chunk done", done.rows_affected(), 1)?)
}

struct LeftSums {
    items: i64,
    amounts: Amounts,
}

/// Sums the bills that stay, which the chunk counts instead of those that it priced.
async fn sum_left_bills(
    tx: &mut PgConnection,
    month: &str,
    left: &LeftBills,
) -> Result<LeftSums, BillingError> {
    let row = sqlx::query!(
        r#"select count(*) as "bills!", coalesce(sum(i.items), 0)::bigint as "items!",
                  coalesce(sum(base_amount), 0)::text as "base!", coalesce(sum(usage_amount), 0)::text as "usage!",
                  coalesce(sum(discount_amount), 0)::text as "discount!",
                  coalesce(sum(adjustment_amount), 0)::text as "adjustment!", coalesce(sum(tax_amount), 0)::text as "tax!",
                  coalesce(sum(rounding_amount), 0)::text as "rounding!", coalesce(sum(total_amount), 0)::text as "total!"
           from unnest($2::bigint[], $3::int[]) as stays (member_id, revision)
           join bill b on b.month = $1 and b.member_id = stays.member_id and b.revision = stays.revision
           cross join lateral (
               select count(*) as items from bill_item
               where bill_item.month = $1 and bill_item.member_id = b.member_id and bill_item.revision = b.revision) i"#,
        month,
        &left.members,
        &left.revisions
    )
    .fetch_one(tx)
    .await
    .during("cannot sum the bills that stay")?;
    expect_rows_affected(
        "summing the bills that stay",
        row.bills.cast_unsigned(),
        left.members.len() as u64,
    )?;
    let amounts = AmountTexts {
        base: row.base,
        usage: row.usage,
        discount: row.discount,
        adjustment: row.adjustment,
        tax: row.tax,
        rounding: row.rounding,
        total: row.total,
    };
    Ok(LeftSums { items: row.items, amounts: amounts.parse()? })
}

async fn write_posted(tx: &mut PgConnection, key: &RevisionKey, posted: &Posted) -> Result<(), BillingError> {
    if posted.members.is_empty() {
        return Ok(());
    }
    let written = sqlx::query!(
        "insert into posted_difference (month, revision, member_id, amount)
         select $1, $2, * from unnest($3::bigint[], $4::bigint[])",
        key.month.to_string(),
        key.revision.get(),
        &posted.members,
        &posted.amounts
    )
    .execute(tx)
    .await
    .during("cannot write the posted differences")?;
    Ok(expect_rows_affected(
        "writing the posted differences",
        written.rows_affected(),
        posted.members.len() as u64,
    )?)
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
