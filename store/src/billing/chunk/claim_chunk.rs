//! Claims the next chunk of a shard.

use jiff::Timestamp;
use sqlx::PgConnection;

use crate::billing::billing_error::BillingError;
use crate::billing::revision::RevisionKey;
use crate::error::During as _;
use crate::migrate;

/// A chunk that this transaction has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedChunk {
    pub chunk_no: i32,
    pub from_member: i64,
    /// Inclusive.
    pub to_member: i64,
    /// The chunk's members, if the revision lists them; otherwise everyone from the first to the
    /// last id.
    pub members: Option<Vec<i64>>,
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
/// [`BillingError::Fenced`] when the run no longer holds the month; `StoreError::OtherSchema` when the
/// database has another schema than this program; otherwise when the database fails.
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
        return Err(BillingError::fenced(key));
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
        let members = if row.scope_listed {
            Some(list_members(tx, key, row.from_member, row.to_member).await?)
        } else {
            None
        };
        return Ok(ChunkClaim::Claimed(ClaimedChunk {
            chunk_no: row.chunk_no,
            from_member: row.from_member,
            to_member: row.to_member,
            members,
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
    .during("cannot look for remaining chunks")?;
    Ok(if left { ChunkClaim::HeldByOthers } else { ChunkClaim::ShardDone })
}

/// The listed members of a chunk, ascending.
async fn list_members(
    tx: &mut PgConnection,
    key: &RevisionKey,
    from_member: i64,
    to_member: i64,
) -> Result<Vec<i64>, BillingError> {
    // The span of a chunk of listed members can be most of all ids. A plan that was made without the
    // list would read all of it.
    sqlx::query!("select set_config('plan_cache_mode', 'force_custom_plan', true) as plan")
        .fetch_one(&mut *tx)
        .await
        .during("cannot prepare the chunk's transaction")?;
    sqlx::query_scalar!(
        "select member_id from scope_member
         where month = $1 and revision = $2 and member_id between $3 and $4
         order by member_id",
        key.month.to_string(),
        key.revision.get(),
        from_member,
        to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read the listed members of the chunk")
    .map_err(BillingError::from)
}
