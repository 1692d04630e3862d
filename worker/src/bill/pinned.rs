//! What a revision pinned when its run began, ready for pricing. The same for all of its chunks.

use domain::ids::Revision;
use domain::price_book::PriceBook;
use domain::pricing::Pricer;
use domain::zone::ZonedMonth;
use sqlx::PgConnection;
use store::billing::chunk::{self, PinnedInputs};
use store::billing::{AfterSent, RevisionKey};
use store::installation;
use store::load::DataVersion;

use super::chunk_processor::ChunkError;

/// What the members of a revision are priced with.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub(crate) price_book: PriceBook,
    pub(crate) month: ZonedMonth,
    pub(crate) data: DataVersion,
    pub(crate) shards: i32,
    /// The live revision that this one bills again.
    pub(crate) of_revision: Option<Revision>,
    /// What it does about bills of the live revision that were sent.
    pub(crate) after_sent: AfterSent,
}

impl Pinned {
    /// Reads what the revision pinned.
    ///
    /// # Errors
    /// There is no such revision, its price book cannot be used, or the database fails.
    pub(crate) async fn read(connection: &mut PgConnection, key: &RevisionKey) -> Result<Self, ChunkError> {
        let pinned = chunk::read_pinned_inputs(connection, key).await?;
        let installation = installation::read(connection).await?;
        let price_book = PriceBook::parse(&pinned.price_book)?;
        price_book.check_installation(&installation.zone, installation.currency)?;
        price_book.check_month(key.month)?;
        let month = installation.zone.month(key.month);
        let PinnedInputs { data, shards, of_revision, after_sent, .. } = pinned;
        Ok(Self { price_book, month, data, shards, of_revision, after_sent })
    }

    pub(crate) fn pricer(&self) -> Pricer<'_> {
        Pricer::new(&self.price_book, &self.month)
    }
}
