//! Prices a month again: each live revision, chunk by chunk, from the inputs that it pinned and with
//! the code that bills, and compares the outcomes with what the tables have as of the revision.
//! Writes nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use domain::pricing::{self, Outcome};
use sqlx::PgConnection;
use store::billing::chunk;
use store::error::{DatabaseError, StoreError};
use store::verify::MAX_VIOLATIONS;
use store::verify::replay::{self, LiveRevision, PricedChunk, StoredOutcome};
use tokio_util::sync::CancellationToken;

use super::comparison::compare;
use crate::bill::{ChunkError, ChunkInputs, Pinned};
use crate::database_retry::Retryable as _;
use crate::load::REPORT_INTERVAL;
use crate::output::{format_duration, group_digits};

/// The name of the check, in the manner of those of `store::verify`.
pub(crate) const NAME: &str = "replay-equals-bills";
pub(crate) const DESCRIPTION: &str = "pricing each live revision again from its own inputs gives the bills, items and quarantine that are stored";

/// The result of a replay.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// What was compared, for each revision.
    pub(crate) notes: Vec<String>,
    /// A revision was priced by another version of the pricing rules, so that differences can come
    /// from the rules.
    pub(crate) other_rules: bool,
    /// How many violations there are.
    pub(crate) found: u64,
    /// The first of them, at most [`MAX_VIOLATIONS`].
    pub(crate) violations: Vec<String>,
}

impl Replay {
    fn add(&mut self, violation: impl FnOnce() -> String) {
        self.found += 1;
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation());
        }
    }
}

/// Why a month could not be priced again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("revision {revision} of month {month} cannot be priced again")]
    Revision { month: BillingMonth, revision: Revision, source: ChunkError },
}

impl ReplayError {
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            Self::Revision { source, .. } => source.is_transient(),
        }
    }
}

impl From<DatabaseError> for ReplayError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

/// Prices the month's live revisions again, each from what it pinned. None: it was stopped.
///
/// The transaction must read one snapshot, and gets the settings of a worker's session.
///
/// # Errors
/// See [`ReplayError`].
pub(crate) async fn replay_month(
    snapshot: &mut PgConnection,
    month: BillingMonth,
    stop: &CancellationToken,
) -> Result<Option<Replay>, ReplayError> {
    chunk::prepare_connection(snapshot).await?;
    let mut replay = Replay::default();
    let revisions = replay::read_live_revisions(snapshot, month).await?;
    let last = revisions.last().map_or(0, |revision| revision.key.revision.get());
    for revision in revisions {
        let done = replay_revision(snapshot, &revision, last, &mut replay, stop).await;
        let number = revision.key.revision;
        if !done.map_err(|source| ReplayError::Revision { month, revision: number, source })? {
            return Ok(None);
        }
    }
    if replay.notes.is_empty() {
        replay.notes.push(format!("month {month} has no live revision"));
    }
    Ok(Some(replay))
}

/// Returns whether it was not stopped.
async fn replay_revision(
    snapshot: &mut PgConnection,
    revision: &LiveRevision,
    last: i32,
    replay: &mut Replay,
    stop: &CancellationToken,
) -> Result<bool, ChunkError> {
    let key = &revision.key;
    let number = key.revision;
    let pinned = Pinned::read(snapshot, key).await?;
    let sha256 = pinned.price_book.sha256.to_string();
    if sha256 != revision.price_book {
        replay.add(|| {
            format!(
                "revision {number} pinned price book {}, whose text has SHA-256 {sha256}",
                revision.price_book
            )
        });
    }
    let chunks = replay::read_chunks(snapshot, revision).await?;
    let mut members = Members::default();
    let began = Instant::now();
    let mut reported = began;
    for (done, chunk) in chunks.iter().enumerate() {
        if stop.is_cancelled() {
            return Ok(false);
        }
        if reported.elapsed() >= REPORT_INTERVAL {
            let elapsed = format_duration(began.elapsed());
            tracing::info!(
                revision = number.get(),
                last,
                chunks = done,
                of = chunks.len(),
                elapsed,
                "pricing again"
            );
            reported = Instant::now();
        }
        replay_chunk(snapshot, &pinned, revision, chunk, &mut members, replay).await?;
    }
    let Members { billed, quarantined, differing } = members;
    replay.notes.push(format!(
        "revision {number}, data cut-off {}: {} billed and {} in quarantine, of which {} differ",
        pinned.data.cutoff,
        group_digits(billed),
        group_digits(quarantined),
        group_digits(differing)
    ));
    if let Some(versions) = other_rules(chunks.iter().map(|chunk| chunk.pricing_version)) {
        replay.other_rules = true;
        replay.notes.push(format!(
            "revision {number} was priced with other pricing rules: version {versions}; this program has version {}, and \
             differences can come from it",
            pricing::VERSION
        ));
    }
    Ok(true)
}

/// How many members of a revision have which priced outcome.
#[derive(Debug, Default)]
struct Members {
    billed: u64,
    quarantined: u64,
    /// Whose stored outcome is another one.
    differing: u64,
}

async fn replay_chunk(
    snapshot: &mut PgConnection,
    pinned: &Pinned,
    revision: &LiveRevision,
    chunk: &PricedChunk,
    members: &mut Members,
    replay: &mut Replay,
) -> Result<(), ChunkError> {
    let span = replay::read_span(snapshot, revision, chunk).await?;
    let month = revision.key.month;
    let inputs = ChunkInputs::read(snapshot, pinned.pricer(), month, &span, &pinned.data).await?;
    let mut stored = replay::read_outcomes(snapshot, revision, &span).await?;
    let mut add = |member: MemberId, stored: &StoredOutcome, priced: &Outcome<'_>| {
        match priced {
            Outcome::Billed(_) => members.billed += 1,
            Outcome::Quarantined { .. } => members.quarantined += 1,
            Outcome::NotEligible { .. } => {}
        }
        if let Some(difference) = compare(stored, priced) {
            members.differing += 1;
            replay.add(|| format!("member {member} revision {}: {difference}", revision.key.revision));
        }
    };
    inputs.price(|member, priced| {
        add(member, &stored.remove(&member).unwrap_or_default(), priced);
        Ok::<_, ChunkError>(())
    })?;
    // Nothing is known of the others, so they are not eligible.
    for (member, stored) in stored {
        add(member, &stored, &Outcome::NotEligible { usage_rows: 0 });
    }
    Ok(())
}

/// The versions of the pricing rules that priced the chunks, if there are others than this program's.
fn other_rules(versions: impl IntoIterator<Item = Option<i32>>) -> Option<String> {
    let versions: BTreeSet<Option<i32>> = versions.into_iter().collect();
    let own = Some(pricing::VERSION);
    let name = |version: &Option<i32>| version.map_or_else(|| "not recorded".to_owned(), |it| it.to_string());
    let named: Vec<String> = versions.iter().map(name).collect();
    versions.iter().any(|version| *version != own).then(|| named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_pricing_versions_are_named() {
        let own = pricing::VERSION;
        for (versions, expected) in [
            (&[][..], None),
            (&[Some(own), Some(own)], None),
            (&[Some(own + 1)], Some(format!("{}", own + 1))),
            (&[Some(own + 1), Some(own)], Some(format!("{own}, {}", own + 1))),
            (&[Some(own), None], Some(format!("not recorded, {own}"))),
        ] {
            assert_eq!(other_rules(versions.iter().copied()), expected, "{versions:?}");
        }
    }
}
