//! Claims the next chunk of a shard.

use jiff::Timestamp;
use sqlx::PgConnection;

use super::chunk_span::ChunkSpan;
use crate::billing::billing_error::BillingError;
use crate::billing::revision::RevisionKey;
use crate::error::During as _;
use crate::migrate;

/// A chunk that this transaction has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedChunk {
    pub span: ChunkSpan,
    pub claimed_at: Timestamp,
}

/// The result of [`claim_chunk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkClaim {
    Claimed(ClaimedChunk),
    /// Other workers have claimed the remaining chunks, and may still fail.
    HeldByOthers,
    /// Every chunk of the shard is done.
    ShardDone,
}

/// Claims the shard's next chunk, and keeps the month from changing its holder, and the schema from
/// being migrated, until the transaction ends.
///
/// # Errors
/// [`BillingError::Fenced`] when the run no longer holds the month and the shard is not done;
/// `StoreError::OtherSchema` when the database has another schema than this program; otherwise when the
/// database fails.
pub async fn claim_chunk(
    tx: &mut PgConnection,
    key: &RevisionKey,
    shard: i32,
) -> Result<ChunkClaim, BillingError> {
    migrate::hold_version(tx).await?;
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
        // A run that has issued its revision lets go of the month, and pods of its Job still start.
        return if is_shard_done(tx, key, shard).await? {
            Ok(ChunkClaim::ShardDone)
        } else {
            Err(BillingError::fenced(key))
        };
    }
    let claimed = sqlx::query!(
        r#"select c.chunk_no, c.from_member, c.to_member, r.scope_listed as "scope_listed!",
                  clock_timestamp() as "claimed_at!: jiff_sqlx::Timestamp"
           from chunk c join revision r using (month, revision)
           where month = $1 and revision = $2 and c.shard = $3 and c.state = 'PENDING'
           order by c.chunk_no limit 1 for update of c skip locked"#,
        month,
        key.revision.get(),
        shard
    )
    .fetch_optional(&mut *tx)
    .await
    .during("cannot claim a chunk")?;
    if let Some(row) = claimed {
        let span =
            ChunkSpan::read(tx, key, row.chunk_no, row.from_member, row.to_member, row.scope_listed).await?;
        return Ok(ChunkClaim::Claimed(ClaimedChunk { span, claimed_at: row.claimed_at.to_jiff() }));
    }
    Ok(if is_shard_done(tx, key, shard).await? { ChunkClaim::ShardDone } else { ChunkClaim::HeldByOthers })
}

async fn is_shard_done(tx: &mut PgConnection, key: &RevisionKey, shard: i32) -> Result<bool, BillingError> {
    let left = sqlx::query_scalar!(
        r#"select exists (select from chunk where month = $1 and revision = $2 and shard = $3 and state = 'PENDING') as "left!""#,
        key.month.to_string(),
        key.revision.get(),
        shard
    )
    .fetch_one(tx)
    .await
    .during("cannot look for remaining chunks")?;
    Ok(!left)
}
