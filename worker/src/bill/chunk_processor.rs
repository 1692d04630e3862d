//! Bills one chunk in one transaction: claims it, reads it, prices its members and writes their
//! bills. Repeats nothing and opens no connection: the caller does both.

use domain::price_book::PriceBookError;
use sqlx::{Connection as _, PgConnection};
use store::billing::chunk::{self, ChunkClaim, ChunkOutcomes, ChunkSpan, ShardTotals};
use store::billing::{BillingError, Counts, RevisionKey};
use store::error::{DatabaseError, During as _, StoreError};

use super::causes::{Prior, find_causes};
use super::pinned::Pinned;
use super::price::ChunkInputs;
use crate::database_retry::Retryable;

/// The result of one call.
#[derive(Debug)]
pub(super) enum Step {
    /// A chunk is done.
    Chunk { span: ChunkSpan, counts: Counts },
    /// Other workers have claimed every chunk that is left.
    ClaimedByOthers,
    /// Every chunk of the shard is done.
    ShardDone(ShardTotals),
}

/// Why a chunk was not billed. Nothing was written, unless the chunk was committed and the answer
/// was lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error(transparent)]
    Billing(#[from] BillingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the price book that the revision was opened with cannot be used")]
    PriceBook(#[from] PriceBookError),
    #[error("--shard must be from 0 to {} for revision {}, not {}", shards - 1, key.revision, shard)]
    NoSuchShard { key: RevisionKey, shard: i32, shards: i32 },
}

impl ChunkError {
    /// Whether the database has another schema version than this program.
    pub(super) fn is_other_schema(&self) -> bool {
        match self {
            Self::Billing(error) => error.is_other_schema(),
            Self::Store(error) => error.is_other_schema(),
            Self::PriceBook(_) | Self::NoSuchShard { .. } => false,
        }
    }
}

impl From<DatabaseError> for ChunkError {
    fn from(error: DatabaseError) -> Self {
        Self::Billing(error.into())
    }
}

impl Retryable for ChunkError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Billing(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::PriceBook(_) | Self::NoSuchShard { .. } => false,
        }
    }
}

/// What the shard is billed with.
struct Inputs {
    pinned: Pinned,
    /// What the members were priced from last. Empty for a first billing.
    prior: Vec<Prior>,
}

/// Bills the chunks of one shard, one at each call.
pub(super) struct ChunkProcessor<'a> {
    key: RevisionKey,
    shard: i32,
    worker: &'a str,
    inputs: Option<Inputs>,
    /// A chunk whose COMMIT was sent and not answered.
    uncertain_chunk: Option<i32>,
    chunks_done: u64,
}

impl<'a> ChunkProcessor<'a> {
    /// `worker` is the name that is stored with each chunk.
    pub(super) fn new(key: RevisionKey, shard: i32, worker: &'a str) -> Self {
        Self { key, shard, worker, inputs: None, uncertain_chunk: None, chunks_done: 0 }
    }

    /// How many chunks this processor is known to have done.
    pub(super) fn chunks_done(&self) -> u64 {
        self.chunks_done
    }

    /// Bills one chunk, if there is one.
    pub(super) async fn process_next(&mut self, connection: &mut PgConnection) -> Result<Step, ChunkError> {
        let Inputs { pinned, prior } = match &mut self.inputs {
            Some(inputs) => inputs,
            none => none.insert(read_inputs(connection, &self.key, self.shard).await?),
        };
        if let Some(chunk_no) = self.uncertain_chunk {
            // The claim below is right either way. This is for the log and the count.
            let done = chunk::is_chunk_done(connection, &self.key, chunk_no).await?;
            tracing::info!(chunk = chunk_no, done, "checked the chunk whose COMMIT got no answer");
            self.chunks_done += u64::from(done);
            self.uncertain_chunk = None;
        }
        let mut tx = connection.begin().await.during("cannot open a chunk's transaction")?;
        let claimed = match chunk::claim_chunk(&mut tx, &self.key, self.shard).await? {
            ChunkClaim::Claimed(claimed) => claimed,
            ChunkClaim::HeldByOthers => return Ok(Step::ClaimedByOthers),
            ChunkClaim::ShardDone => {
                return Ok(Step::ShardDone(chunk::read_shard_totals(&mut tx, &self.key, self.shard).await?));
            }
        };
        let (span, month) = (&claimed.span, self.key.month);
        let pricer = pinned.pricer();
        let inputs = ChunkInputs::read(&mut tx, pricer, month, span, &pinned.data).await?;
        let live =
            chunk::read_live_outcomes(&mut tx, span, month, pinned.of_revision, pinned.after_sent).await?;
        let mut outcomes = ChunkOutcomes::new(&self.key, live);
        outcomes.not_charged = inputs.not_charged();
        inputs.price(|member, outcome| outcomes.add(member, outcome))?;
        if pinned.of_revision.is_some() {
            let changes = outcomes.changes();
            let causes =
                find_causes(&mut tx, span, &pricer, &pinned.month, &pinned.data, prior, changes).await?;
            outcomes.explain(causes);
        }
        let counts = *outcomes.counts();
        chunk::complete_chunk(&mut tx, &self.key, &claimed, outcomes, self.worker).await?;
        self.uncertain_chunk = Some(claimed.span.chunk_no);
        tx.commit().await.during("a chunk's COMMIT failed or got no answer")?;
        self.uncertain_chunk = None;
        self.chunks_done += 1;
        Ok(Step::Chunk { span: claimed.span, counts })
    }
}

async fn read_inputs(
    connection: &mut PgConnection,
    key: &RevisionKey,
    shard: i32,
) -> Result<Inputs, ChunkError> {
    let pinned = Pinned::read(connection, key).await?;
    let shards = pinned.shards;
    if !(0..shards).contains(&shard) {
        return Err(ChunkError::NoSuchShard { key: key.clone(), shard, shards });
    }
    let mut prior = Vec::new();
    if let Some(of_revision) = pinned.of_revision {
        for revision in chunk::read_prior_revisions(connection, key.month, of_revision).await? {
            prior.push(Prior::parse(revision)?);
        }
    }
    Ok(Inputs { pinned, prior })
}
