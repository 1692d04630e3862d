//! A worker's connection, and what it does with it: one step is one chunk's transaction. A connection that failed is
//! dropped, never mended; the next step opens another.

use domain::ids::LoadNumber;
use domain::price_book::{PriceBook, PriceBookError};
use domain::pricing::Pricer;
use domain::zone::MonthOnClock;
use secrecy::SecretString;
use sqlx::{Connection as _, PgConnection};
use store::billing::chunk::{self, Claim, ShardTotals, Span};
use store::billing::{BillingError, Counts, RevisionKey};
use store::error::{DatabaseError, During as _, StoreError};
use store::installation;
use store::pool::connect_one;

use super::Bill;
use super::price::price_chunk;

/// What a step came to.
#[derive(Debug)]
pub(super) enum Step {
    /// A chunk is done.
    Chunk { span: Span, counts: Counts },
    /// What is left is claimed by others.
    InOtherHands,
    /// The shard is done.
    NothingLeft(ShardTotals),
}

/// Why a step failed; nothing was written, unless it was the answer to a COMMIT that got lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Billing(#[from] BillingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the run's pinned price book cannot be used")]
    PriceBook(#[from] PriceBookError),
    #[error("the shard must be one of 0 to {} of revision {}, not {}", shards - 1, key.revision, shard)]
    NoSuchShard { key: RevisionKey, shard: i32, shards: i32 },
    #[error("a chunk took longer than {} s", super::TO_GIVE_UP_A_CHUNK.as_secs())]
    TimedOut,
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        Self::Billing(error.into())
    }
}

impl Trouble {
    /// Whether trying again later may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Billing(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::PriceBook(_) | Self::NoSuchShard { .. } => false,
            Self::TimedOut => true,
        }
    }
}

/// What a run pinned, ready for use; the same for all its chunks.
struct Prices {
    book: PriceBook,
    month: MonthOnClock,
    cutoff: LoadNumber,
}

pub(super) struct Session<'a> {
    key: RevisionKey,
    shard: i32,
    worker: &'a str,
    database: &'a SecretString,
    connection: Option<PgConnection>,
    prices: Option<Prices>,
    /// A chunk whose COMMIT got no answer.
    in_doubt: Option<i32>,
    chunks: u64,
}

impl<'a> Session<'a> {
    pub(super) fn new(order: &'a Bill, database: &'a SecretString) -> Self {
        Self {
            key: order.key(),
            shard: order.shard,
            worker: &order.worker,
            database,
            connection: None,
            prices: None,
            in_doubt: None,
            chunks: 0,
        }
    }

    /// How many chunks this session finished, as far as it was told.
    pub(super) fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Gives up the connection; what it had open is rolled back by the server.
    pub(super) fn drop_connection(&mut self) {
        self.connection = None;
    }

    /// Works off one chunk, if there is one.
    pub(super) async fn step(&mut self) -> Result<Step, Trouble> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(self.database).await?),
        };
        let prices = match &mut self.prices {
            Some(prices) => prices,
            none => none.insert(prices(connection, &self.key, self.shard).await?),
        };
        if let Some(chunk_no) = self.in_doubt {
            // Either way the claim below finds the truth; this tells whoever reads the log, and counts.
            let done = chunk::is_done(connection, &self.key, chunk_no).await?;
            tracing::info!(chunk = chunk_no, done, "looked at the chunk whose COMMIT got no answer");
            self.chunks += u64::from(done);
            self.in_doubt = None;
        }
        let mut tx = connection.begin().await.during("cannot open a chunk's transaction")?;
        let span = match chunk::claim(&mut tx, &self.key, self.shard).await? {
            Claim::Claimed(span) => span,
            Claim::InOtherHands => return Ok(Step::InOtherHands),
            Claim::NothingLeft => {
                return Ok(Step::NothingLeft(chunk::shard_totals(&mut tx, &self.key, self.shard).await?));
            }
        };
        let pricer = Pricer::new(&prices.book, &prices.month);
        let outcomes = price_chunk(&mut tx, &pricer, &self.key, &span, prices.cutoff).await?;
        let counts = *outcomes.counts();
        chunk::write(&mut tx, &self.key, &span, outcomes, self.worker).await?;
        self.in_doubt = Some(span.chunk_no);
        tx.commit().await.during("a chunk's COMMIT failed or got no answer")?;
        self.in_doubt = None;
        self.chunks += 1;
        Ok(Step::Chunk { span, counts })
    }
}

async fn connect(database: &SecretString) -> Result<PgConnection, Trouble> {
    let mut connection = connect_one(database, "monthend bill").await?;
    chunk::prepare(&mut connection).await?;
    Ok(connection)
}

async fn prices(connection: &mut PgConnection, key: &RevisionKey, shard: i32) -> Result<Prices, Trouble> {
    let pinned = chunk::pinned(connection, key).await?;
    if !(0..pinned.shards).contains(&shard) {
        return Err(Trouble::NoSuchShard { key: key.clone(), shard, shards: pinned.shards });
    }
    let installation = installation::read(connection).await?;
    let book = PriceBook::parse(&pinned.price_book)?;
    book.check_installation(&installation.zone, installation.currency)?;
    book.check_month(key.month)?;
    let month = installation.zone.month(key.month);
    Ok(Prices { book, month, cutoff: pinned.data_cutoff })
}
