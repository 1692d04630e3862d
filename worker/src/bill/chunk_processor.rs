//! Bills one chunk in one transaction: claims it, reads it, prices its members and writes their
//! bills. Repeats nothing and opens no connection: the caller does both.

use domain::ids::Revision;
use domain::price_book::{PriceBook, PriceBookError};
use domain::pricing::Pricer;
use domain::zone::ZonedMonth;
use sqlx::{Connection as _, PgConnection};
use store::billing::chunk::{self, ChunkClaim, ClaimedChunk, ShardTotals};
use store::billing::{AfterSent, BillingError, Counts, RevisionKey};
use store::error::{DatabaseError, During as _, StoreError};
use store::installation;
use store::load::DataVersion;

use super::causes::{Prior, find_causes};
use super::price::price_chunk;
use crate::database_retry::Retryable;

/// The result of one call.
#[derive(Debug)]
pub(super) enum Step {
    /// A chunk is done.
    Chunk { span: ClaimedChunk, counts: Counts },
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

/// What the revision was opened with, ready for use. It is the same for all of its chunks.
struct Pinned {
    price_book: PriceBook,
    month: ZonedMonth,
    data: DataVersion,
    of_revision: Option<Revision>,
    after_sent: AfterSent,
    /// What the live outcomes were priced from. Empty for a first billing.
    prior: Vec<Prior>,
}

/// Bills the chunks of one shard, one at each call.
pub(super) struct ChunkProcessor<'a> {
    key: RevisionKey,
    shard: i32,
    worker: &'a str,
    pinned: Option<Pinned>,
    /// A chunk whose COMMIT was sent and not answered.
    uncertain_chunk: Option<i32>,
    chunks_done: u64,
}

impl<'a> ChunkProcessor<'a> {
    /// `worker` is the name that is stored with each chunk.
    pub(super) fn new(key: RevisionKey, shard: i32, worker: &'a str) -> Self {
        Self { key, shard, worker, pinned: None, uncertain_chunk: None, chunks_done: 0 }
    }

    /// How many chunks this processor is known to have done.
    pub(super) fn chunks_done(&self) -> u64 {
        self.chunks_done
    }

    /// Bills one chunk, if there is one.
    pub(super) async fn process_next(&mut self, connection: &mut PgConnection) -> Result<Step, ChunkError> {
        let pinned = match &mut self.pinned {
            Some(pinned) => pinned,
            none => none.insert(read_pinned(connection, &self.key, self.shard).await?),
        };
        if let Some(chunk_no) = self.uncertain_chunk {
            // The claim below is right either way. This is for the log and the count.
            let done = chunk::is_chunk_done(connection, &self.key, chunk_no).await?;
            tracing::info!(chunk = chunk_no, done, "checked the chunk whose COMMIT got no answer");
            self.chunks_done += u64::from(done);
            self.uncertain_chunk = None;
        }
        let mut tx = connection.begin().await.during("cannot open a chunk's transaction")?;
        let span = match chunk::claim_chunk(&mut tx, &self.key, self.shard).await? {
            ChunkClaim::Claimed(span) => span,
            ChunkClaim::HeldByOthers => return Ok(Step::ClaimedByOthers),
            ChunkClaim::ShardDone => {
                return Ok(Step::ShardDone(chunk::read_shard_totals(&mut tx, &self.key, self.shard).await?));
            }
        };
        let pricer = Pricer::new(&pinned.price_book, &pinned.month);
        let mut outcomes = price_chunk(
            &mut tx,
            &pricer,
            &self.key,
            &span,
            &pinned.data,
            pinned.of_revision,
            pinned.after_sent,
        )
        .await?;
        if pinned.of_revision.is_some() {
            let changes = outcomes.changes();
            let causes =
                find_causes(&mut tx, &span, &pricer, &pinned.month, &pinned.data, &pinned.prior, changes)
                    .await?;
            outcomes.explain(causes);
        }
        let counts = *outcomes.counts();
        chunk::complete_chunk(&mut tx, &self.key, &span, outcomes, self.worker).await?;
        self.uncertain_chunk = Some(span.chunk_no);
        tx.commit().await.during("a chunk's COMMIT failed or got no answer")?;
        self.uncertain_chunk = None;
        self.chunks_done += 1;
        Ok(Step::Chunk { span, counts })
    }
}

async fn read_pinned(
    connection: &mut PgConnection,
    key: &RevisionKey,
    shard: i32,
) -> Result<Pinned, ChunkError> {
    let pinned = chunk::read_pinned_inputs(connection, key).await?;
    if !(0..pinned.shards).contains(&shard) {
        return Err(ChunkError::NoSuchShard { key: key.clone(), shard, shards: pinned.shards });
    }
    let installation = installation::read(connection).await?;
    let price_book = PriceBook::parse(&pinned.price_book)?;
    price_book.check_installation(&installation.zone, installation.currency)?;
    price_book.check_month(key.month)?;
    let month = installation.zone.month(key.month);
    let of_revision = pinned.of_revision;
    let mut prior = Vec::new();
    if let Some(of_revision) = of_revision {
        for layer in chunk::read_prior_revisions(connection, key.month, of_revision).await? {
            prior.push(Prior::parse(layer)?);
        }
    }
    Ok(Pinned { price_book, month, data: pinned.data, of_revision, after_sent: pinned.after_sent, prior })
}
