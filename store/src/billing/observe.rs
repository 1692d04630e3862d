//! What the operator observes of billing runs: for their status and housekeeping. Reads only.

use domain::ids::{LoadNumber, Revision};
use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::types::Uuid;
use sqlx::{Connection as _, PgPool};

use super::amounts::{Amounts, Counts};
use super::billing_error::BillingError;
use super::chunk_sums::sum_chunks;
use super::diff::Diff;
use super::late_rows::LateRows;
use super::month_figures::{Baselines, read_baselines};
use super::not_charged::NotCharged;
use super::posted_differences::PostedDifferences;
use super::revision::{RevisionKey, RevisionState};
use super::scope::ScopeKind;
use super::verification::{Verification, read_checks, read_late_rows};
use crate::decode::{read_month, read_number};
use crate::error::During as _;

/// Everything about one run at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSnapshot {
    pub key: RevisionKey,
    /// `NAMESPACE/NAME`.
    pub run: String,
    pub state: RevisionState,
    /// False once the revision is closed, or another run holds the month.
    pub holds_lock: bool,
    pub data_cutoff: LoadNumber,
    pub price_book_version: String,
    pub price_book_sha256: String,
    pub chunk_size: i32,
    pub shards: i32,
    pub pricing: PricingVersions,
    /// Eligible members of the scope, as counted when the run began. Counts and amounts are of the
    /// same members.
    pub members: i64,
    pub chunks: i64,
    pub chunks_done: i64,
    pub counts: Counts,
    pub amounts: Amounts,
    pub not_charged: NotCharged,
    pub opened_at: Timestamp,
    /// When the first chunk that is done was claimed.
    pub first_claim_at: Option<Timestamp>,
    pub last_done_at: Option<Timestamp>,
    /// Members of the chunks done within the ten seconds before `now`, for the current rate.
    pub members_done_recently: i64,
    /// None: the month's first billing.
    pub rebilling: Option<RebillingSnapshot>,
    pub verification: Option<Verification>,
    /// The differences of the chunks that are done.
    pub posted: PostedDifferences,
    /// The later month that bills the differences; none until the revision is issued.
    pub posts_to: Option<BillingMonth>,
    /// What a verified re-billing changes.
    pub diff: Option<Diff>,
    /// What a verified draft is compared with; none in any other state.
    pub baselines: Option<Baselines>,
    pub issued_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    pub decided_by: Option<String>,
    pub reason: Option<String>,
    /// The database's clock when this was read.
    pub now: Timestamp,
}

/// Versions of the pricing rules: see [`domain::pricing::VERSION`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PricingVersions {
    /// Of the operator that began the run. None: of a version that recorded none.
    pub pinned: Option<i32>,
    /// Of the workers that priced its chunks, ascending.
    pub of_chunks: Vec<i32>,
}

/// What a re-billing has to do with the revision below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebillingSnapshot {
    pub of_revision: Revision,
    /// Whom it bills again.
    pub scope: ScopeKind,
    /// Members of the chunks that are done whose outcome differs from their live one.
    pub changed: i64,
}

impl RunSnapshot {
    /// Every chunk is done, so that the run can be verified.
    #[must_use]
    pub fn all_chunks_done(&self) -> bool {
        self.chunks_done == self.chunks
    }

    /// Members that have an outcome: billed or quarantined.
    #[must_use]
    pub fn members_done(&self) -> i64 {
        self.counts.billed + self.counts.quarantined
    }
}

/// Reads everything about the run's revision; none when the run has not begun. All of it is of one
/// moment.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn observe(pool: &PgPool, run_uid: Uuid) -> Result<Option<RunSnapshot>, BillingError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    let mut tx = connection
        .begin_with("begin isolation level repeatable read, read only")
        .await
        .during("cannot open the transaction that observes a run")?;
    let Some(row) = sqlx::query!(
        r#"select r.month, r.revision, r.run, r.state, r.fence, r.data_cutoff, r.price_book, b.version, r.chunk_size, r.shards, r.pricing_version,
                  r.members, r.of_revision, r.scope, r.scope_from, r.scope_to, r.verification, r.late_usage, r.late, r.digest, r.diff,
                  r.posts_to, r.decided_by, r.reason,
                  r.opened_at as "opened_at: jiff_sqlx::Timestamp", r.verified_at as "verified_at: jiff_sqlx::Timestamp",
                  r.issued_at as "issued_at: jiff_sqlx::Timestamp", r.closed_at as "closed_at: jiff_sqlx::Timestamp",
                  coalesce(l.fence = r.fence and l.run_uid = r.run_uid, false) as "holds_lock!",
                  clock_timestamp() as "now!: jiff_sqlx::Timestamp"
           from revision r
           join price_book b on b.sha256 = r.price_book
           left join month_lock l on l.month = r.month
           where r.run_uid = $1"#,
        run_uid
    )
    .fetch_optional(&mut *tx)
    .await
    .during("cannot read the run's revision")?
    else {
        return Ok(None);
    };
    let key = RevisionKey {
        month: read_month("revision.month", &row.month)?,
        revision: read_number("revision.revision", row.revision.into())?,
        run_uid,
        fence: row.fence,
    };
    let sums = sum_chunks(&mut tx, &key).await?;
    let state = RevisionState::parse(&row.state)?;
    let baselines = if state == RevisionState::Draft && row.verified_at.is_some() {
        read_baselines(&mut tx, &key).await?
    } else {
        None
    };
    tx.commit().await.during("cannot end the transaction that observes a run")?;
    let rebilling = row
        .of_revision
        .map(|number| {
            let of_revision = read_number("revision.of_revision", number.into())?;
            let scope = ScopeKind::read(&row.scope, row.scope_from, row.scope_to)?;
            Ok::<_, BillingError>(RebillingSnapshot { of_revision, scope, changed: sums.changed })
        })
        .transpose()?;
    let verification = match (row.verified_at, row.verification, row.digest, row.late_usage) {
        (Some(at), Some(checks), Some(digest), Some(late_usage)) => {
            // An earlier version counted the usage only.
            let late = match row.late {
                Some(late) => read_late_rows(late)?,
                None => LateRows { usage_rows: late_usage, ..LateRows::default() },
            };
            Some(Verification { checks: read_checks(checks)?, digest, late, at: at.to_jiff() })
        }
        _ => None,
    };
    Ok(Some(RunSnapshot {
        key,
        run: row.run,
        state,
        holds_lock: row.holds_lock,
        data_cutoff: read_number("revision.data_cutoff", row.data_cutoff)?,
        price_book_version: row.version,
        price_book_sha256: row.price_book,
        chunk_size: row.chunk_size,
        shards: row.shards,
        pricing: PricingVersions { pinned: row.pricing_version, of_chunks: sums.pricing_versions },
        members: row.members,
        chunks: sums.chunks,
        chunks_done: sums.chunks_done,
        counts: sums.counts,
        amounts: sums.amounts,
        not_charged: sums.not_charged,
        opened_at: row.opened_at.to_jiff(),
        first_claim_at: sums.first_claim_at,
        last_done_at: sums.last_done_at,
        members_done_recently: sums.members_done_recently,
        rebilling,
        verification,
        posted: sums.posted,
        posts_to: row.posts_to.map(|month| read_month("revision.posts_to", &month)).transpose()?,
        diff: row.diff.map(Diff::read).transpose()?,
        baselines,
        issued_at: row.issued_at.map(jiff_sqlx::Timestamp::to_jiff),
        closed_at: row.closed_at.map(jiff_sqlx::Timestamp::to_jiff),
        decided_by: row.decided_by,
        reason: row.reason,
        now: row.now.to_jiff(),
    }))
}

/// A revision that is neither issued nor rejected, and its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub key: RevisionKey,
    /// `NAMESPACE/NAME`.
    pub run: String,
}

/// Reads every draft; a month has at most one.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_drafts(pool: &PgPool) -> Result<Vec<Draft>, BillingError> {
    let rows = sqlx::query!(
        "select month, revision, run, run_uid, fence from revision where state = 'DRAFT' order by month"
    )
    .fetch_all(pool)
    .await
    .during("cannot read the drafts")?;
    rows.into_iter()
        .map(|row| {
            let key = RevisionKey {
                month: read_month("revision.month", &row.month)?,
                revision: read_number("revision.revision", row.revision.into())?,
                run_uid: row.run_uid,
                fence: row.fence,
            };
            Ok(Draft { key, run: row.run })
        })
        .collect()
}
