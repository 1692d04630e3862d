//! One chunk's transaction, step by step: prove that the month is still the run's, claim, read, write, check off. What
//! happens between reading and writing is the caller's. Nothing here is done member by member.
//!
//! A claim is the chunk's row lock, so a worker that dies needs no clean-up: its lock goes with its connection.

mod outcomes;
mod rows;

use domain::ids::LoadNumber;
use jiff::Timestamp;
use sqlx::PgConnection;

pub use self::outcomes::ChunkOutcomes;
pub use self::rows::{
    AdjustmentRow, GrantRow, SubscriptionRow, UsageBoundaries, UsageRow, read_adjustments, read_grants,
    read_members, read_subscriptions, read_usage,
};
use super::{BillingError, RevisionKey, RevisionState, number, touched};
use crate::error::{DatabaseError, During as _};

/// What a run pinned at planning, for whoever prices its chunks.
#[derive(Debug, Clone)]
pub struct PinnedInputs {
    pub state: RevisionState,
    pub data_cutoff: LoadNumber,
    pub shards: i32,
    pub price_book: String,
}

/// Reads what the run pinned.
///
/// # Errors
/// When there is no such revision of that run, or the database fails.
pub async fn read_pinned_inputs(
    connection: &mut PgConnection,
    key: &RevisionKey,
) -> Result<PinnedInputs, BillingError> {
    let row = sqlx::query!(
        "select r.state, r.data_cutoff, r.shards, b.content
         from revision r join price_book b on b.sha256 = r.price_book
         where r.month = $1 and r.revision = $2 and r.run_uid = $3",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid
    )
    .fetch_optional(connection)
    .await
    .during("cannot read what the run pinned")?
    .ok_or(BillingError::NoSuchRevision {
        month: key.month,
        revision: key.revision,
        run_uid: key.run_uid,
    })?;
    Ok(PinnedInputs {
        state: RevisionState::parse(&row.state)?,
        data_cutoff: number("revision.data_cutoff", row.data_cutoff)?,
        shards: row.shards,
        price_book: row.content,
    })
}

/// Makes a connection fit for chunks.
///
/// # Errors
/// When the database fails.
pub async fn prepare_connection(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    // Every statement is small and runs thousands of times: compiling one costs more than it could ever save, and would
    // be tried wherever statistics are missing and the planner expects millions of rows.
    sqlx::query!("select set_config('jit', 'off', false)")
        .fetch_one(connection)
        .await
        .during("cannot prepare the connection")?;
    Ok(())
}

/// A claimed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedChunk {
    pub chunk_no: i32,
    pub from_member: i64,
    /// Inclusive.
    pub to_member: i64,
    pub claimed_at: Timestamp,
}

/// What a shard has for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkClaim {
    Claimed(ClaimedChunk),
    /// What is left is in other workers' hands, who may yet fail.
    HeldByOthers,
    ShardDone,
}

/// Makes sure that the month is the run's and stays so until the transaction ends, and claims the shard's next chunk.
///
/// # Errors
/// [`BillingError::Fenced`] when the month is no longer the run's; otherwise when the database fails.
pub async fn claim_chunk(
    tx: &mut PgConnection,
    key: &RevisionKey,
    shard: i32,
) -> Result<ChunkClaim, BillingError> {
    let month = key.month.to_string();
    let held = sqlx::query!(
        "select fence from month_lock where month = $1 and fence = $2 and run_uid = $3 for share",
        month,
        key.fence,
        key.run_uid
    )
    .fetch_optional(&mut *tx)
    .await
    .during("cannot read the month's lock")?;
    if held.is_none() {
        return Err(BillingError::fenced(key));
    }
    let claimed = sqlx::query!(
        r#"select chunk_no, from_member, to_member, clock_timestamp() as "claimed_at!: jiff_sqlx::Timestamp"
           from chunk where month = $1 and revision = $2 and shard = $3 and state = 'PENDING'
           order by chunk_no limit 1 for update skip locked"#,
        month,
        key.revision.get(),
        shard
    )
    .fetch_optional(&mut *tx)
    .await
    .during("cannot claim a chunk")?;
    if let Some(row) = claimed {
        return Ok(ChunkClaim::Claimed(ClaimedChunk {
            chunk_no: row.chunk_no,
            from_member: row.from_member,
            to_member: row.to_member,
            claimed_at: row.claimed_at.to_jiff(),
        }));
    }
    let left = sqlx::query_scalar!(
        r#"select exists (select from chunk where month = $1 and revision = $2 and shard = $3 and state = 'PENDING') as "left!""#,
        month,
        key.revision.get(),
        shard
    )
    .fetch_one(tx)
    .await
    .during("cannot look for chunks that are left")?;
    Ok(if left { ChunkClaim::HeldByOthers } else { ChunkClaim::ShardDone })
}

/// Writes what came of the chunk's members and checks the chunk off.
///
/// # Errors
/// When the chunk is no longer claimed by this transaction, or the database fails.
pub async fn complete_chunk(
    tx: &mut PgConnection,
    key: &RevisionKey,
    span: &ClaimedChunk,
    outcomes: ChunkOutcomes,
    worker: &str,
) -> Result<(), BillingError> {
    let month = key.month.to_string();
    let ChunkOutcomes { counts, amounts, digest, bills, items, quarantined, .. } = outcomes;
    if bills.rows() > 0 {
        let sent =
            (bills.rows(), bills.send(tx, outcomes::COPY_BILLS).await.during("cannot copy the bills")?);
        touched("copying the bills", sent.1, sent.0)?;
        let sent =
            (items.rows(), items.send(tx, outcomes::COPY_ITEMS).await.during("cannot copy the items")?);
        touched("copying the items", sent.1, sent.0)?;
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
        touched(
            "writing the quarantined members",
            written.rows_affected(),
            quarantined.members.len() as u64,
        )?;
    }
    let digest = digest.finish();
    let done = sqlx::query!(
        "update chunk
         set state = 'DONE', worker = $4, started_at = $5, done_at = clock_timestamp(), digest = $6,
             billed = $7, quarantined = $8, items = $9, rated_usage = $10, unbillable_usage = $11, quarantined_usage = $12,
             base_amount = $13::text::numeric, usage_amount = $14::text::numeric, discount_amount = $15::text::numeric,
             adjustment_amount = $16::text::numeric, tax_amount = $17::text::numeric,
             rounding_amount = $18::text::numeric, total_amount = $19::text::numeric
         where month = $1 and revision = $2 and chunk_no = $3 and state = 'PENDING'",
        month,
        key.revision.get(),
        span.chunk_no,
        worker,
        jiff_sqlx::Timestamp::from(span.claimed_at) as _,
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
        amounts.total.to_string()
    )
    .execute(tx)
    .await
    .during("cannot check the chunk off")?;
    touched("checking the chunk off", done.rows_affected(), 1)
}

/// A shard in figures, as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardTotals {
    pub chunks: i64,
    pub chunks_done: i64,
    pub billed: i64,
    pub quarantined: i64,
}

/// Sums the shard's chunks.
///
/// # Errors
/// When the database fails.
pub async fn read_shard_totals(
    connection: &mut PgConnection,
    key: &RevisionKey,
    shard: i32,
) -> Result<ShardTotals, BillingError> {
    let row = sqlx::query!(
        r#"select count(*) as "chunks!", count(*) filter (where state = 'DONE') as "chunks_done!",
                  coalesce(sum(billed), 0)::bigint as "billed!", coalesce(sum(quarantined), 0)::bigint as "quarantined!"
           from chunk where month = $1 and revision = $2 and shard = $3"#,
        key.month.to_string(),
        key.revision.get(),
        shard
    )
    .fetch_one(connection)
    .await
    .during("cannot sum the shard's chunks")?;
    Ok(ShardTotals {
        chunks: row.chunks,
        chunks_done: row.chunks_done,
        billed: row.billed,
        quarantined: row.quarantined,
    })
}

/// Whether the chunk is done: the first thing to look at when a COMMIT got no answer.
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
