//! What a worker of a shard needs besides its chunks: the pinned inputs of the run, the settings of
//! its connection, the totals of the shard.

use domain::ids::Revision;
use sqlx::PgConnection;

use crate::billing::begin_run::AfterSent;
use crate::billing::billing_error::BillingError;
use crate::billing::revision::{RevisionKey, RevisionState};
use crate::decode::read_number;
use crate::error::{DatabaseError, During as _};
use crate::load::DataVersion;

/// The inputs that the run pinned when it began. Every chunk is priced from them.
#[derive(Debug, Clone)]
pub struct PinnedInputs {
    pub state: RevisionState,
    pub data: DataVersion,
    pub shards: i32,
    /// The live revision that this one bills again.
    pub of_revision: Option<Revision>,
    pub after_sent: AfterSent,
    /// The text of the price book.
    pub price_book: String,
}

/// Reads the inputs that the run pinned.
///
/// # Errors
/// When there is no such revision of that run, or the database fails.
pub async fn read_pinned_inputs(
    connection: &mut PgConnection,
    key: &RevisionKey,
) -> Result<PinnedInputs, BillingError> {
    let row = sqlx::query!(
        "select r.state, r.data_cutoff, r.shards, r.of_revision, r.after_sent, b.content
         from revision r join price_book b on b.sha256 = r.price_book
         where r.month = $1 and r.revision = $2 and r.run_uid = $3",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid
    )
    .fetch_optional(&mut *connection)
    .await
    .during("cannot read the inputs that the run pinned")?
    .ok_or_else(|| BillingError::no_such_revision(key))?;
    let cutoff = read_number("revision.data_cutoff", row.data_cutoff)?;
    Ok(PinnedInputs {
        state: RevisionState::parse(&row.state)?,
        data: DataVersion::read(connection, cutoff).await?,
        shards: row.shards,
        of_revision: row
            .of_revision
            .map(|number| read_number("revision.of_revision", number.into()))
            .transpose()?,
        after_sent: AfterSent::parse(&row.after_sent)?,
        price_book: row.content,
    })
}

/// Sets what a connection needs that works on chunks.
///
/// # Errors
/// When the database fails.
pub async fn prepare_connection(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    // Every statement is small and is executed thousands of times. JIT compilation costs more than it
    // saves, and without statistics the planner, which then expects millions of rows, would choose
    // it. The same holds for parallel processes.
    sqlx::query!(
        "select set_config('jit', 'off', false) as jit, set_config('max_parallel_workers_per_gather', '0', false) as parallel"
    )
        .fetch_one(&mut *connection)
        .await
        .during("cannot prepare the connection")?;
    // A plan for any list of members and of loads that are taken back expects nearly no row, and reads
    // a chunk by nested loops. Both lists are mostly absent.
    sqlx::raw_sql("set plan_cache_mode = force_custom_plan")
        .execute(connection)
        .await
        .during("cannot prepare the connection")?;
    Ok(())
}

/// The chunks of a shard.
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
