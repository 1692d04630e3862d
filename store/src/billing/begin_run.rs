//! Begins a billing run: takes the month's lock and a revision number, stores the price book, plans
//! the chunks and opens the row of `job_log`. All of it is one transaction, so that a revision is
//! planned completely or not at all.

use domain::ids::{LoadNumber, Revision};
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use domain::pricing;
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};

use super::billing_error::BillingError;
use super::input_coverage::{describe_missing, find_missing_input};
use super::plan_chunks::plan_chunks;
use super::revision::RevisionKey;
use super::scope::{Scope, ScopeKind, list_members};
use crate::decode::read_number;
use crate::error::{During as _, StoreError, expect_rows_affected};
use crate::load::DataVersion;

/// What a run asks for.
#[derive(Debug, Clone)]
pub struct BeginRequest<'a> {
    /// `NAMESPACE/NAME`.
    pub run: &'a str,
    /// `metadata.uid`: a run that is deleted and created again is another run.
    pub run_uid: Uuid,
    pub month: BillingMonth,
    pub price_book: &'a PriceBook,
    /// The text that `price_book` was parsed from; stored under its digest.
    pub price_book_text: &'a str,
    /// None: the last finished load.
    pub data_cutoff: Option<LoadNumber>,
    /// Eligible members in a chunk, at least 1.
    pub chunk_size: i32,
    /// Into how many shards the chunks are divided, at least 1; one worker at a time bills a shard.
    pub shards: i32,
    /// None: the month's first billing.
    pub rebill: Option<Rebilling<'a>>,
    /// The sources whose loads must cover the month.
    pub require_sources: &'a [String],
}

/// Bill a live month again.
#[derive(Debug, Clone, Copy)]
pub struct Rebilling<'a> {
    /// Must be the month's highest live revision.
    pub of_revision: Revision,
    /// Stored with the new revision.
    pub reason: &'a str,
    pub scope: &'a Scope,
    pub after_sent: AfterSent,
}

/// What a re-billing does for a member whose bill changes and was sent, or may have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AfterSent {
    /// It writes the corrected bill.
    #[default]
    Revise,
    /// It leaves the bill, and posts the difference of the totals to a later month.
    Adjust,
}

impl AfterSent {
    /// The value of `revision.after_sent`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Revise => "REVISE",
            Self::Adjust => "ADJUST",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Revise, Self::Adjust]
            .into_iter()
            .find(|after_sent| after_sent.as_str() == text)
            .ok_or_else(|| StoreError::unreadable("revision.after_sent", text))
    }
}

/// The result of [`begin_run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginResult {
    Started(Started),
    Rejected(Rejection),
}

/// A planned revision, from this call or an earlier call for the same run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub key: RevisionKey,
    pub data_cutoff: LoadNumber,
    pub members: i64,
    pub chunks: i64,
    pub shards: i32,
}

/// Why a run can't begin. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "month {month} is locked by the unfinished run {by}; this run starts when that run has ended or is deleted"
    )]
    MonthLocked { month: BillingMonth, by: String },
    #[error(
        "month {month} is billed already: revision {revision} of run {by} is live; to bill the month again, create a run with \
         spec.rebill and ofRevision: {revision}"
    )]
    MonthAlreadyBilled { month: BillingMonth, revision: Revision, by: String },
    #[error("revision {asked} of month {month} is not the month's highest live revision: {}", live_revision(live.as_ref()))]
    RevisionConflict {
        month: BillingMonth,
        asked: Revision,
        /// The highest live revision and its run.
        live: Option<(Revision, String)>,
    },
    #[error(
        "revision {revision} of month {month} cannot be rolled back: it posted differences to month {posts_to}, of which \
         revision {by_revision} of run {by} is live; bill month {month} again instead, with spec.rebill and ofRevision: {revision}"
    )]
    DifferencesBilled {
        month: BillingMonth,
        revision: Revision,
        posts_to: BillingMonth,
        /// The highest live revision of `posts_to` and its run.
        by_revision: Revision,
        by: String,
    },
    #[error("no load has finished yet; load data with `monthend load FOLDER` or `monthend seed`")]
    NoDataLoaded,
    #[error("dataCutoff {asked} is no finished load; the last finished load is {last}")]
    CutoffUnknown { asked: LoadNumber, last: LoadNumber },
    #[error("the input of month {month} is incomplete: {missing}")]
    InputsIncomplete { month: BillingMonth, missing: String },
}

fn live_revision(live: Option<&(Revision, String)>) -> String {
    match live {
        Some((revision, by)) => {
            format!(
                "revision {revision} of run {by} is; to change that one, create a run with ofRevision: {revision}"
            )
        }
        None => "no revision is live; to bill the month, create a run without rebill and rollback".to_owned(),
    }
}

/// Locks the month for the run and plans its next revision, or returns why the run cannot begin. A
/// repeated call for the same run changes nothing and returns the same.
///
/// # Errors
/// When the database fails; then nothing was written.
pub async fn begin_run(pool: &PgPool, request: &BeginRequest<'_>) -> Result<BeginResult, BillingError> {
    let mut tx = pool.begin().await.during("cannot open the planning transaction")?;
    // First without the lock: the transactions of chunks share it one after the other, and a call that
    // is repeated would wait for all of them.
    if let Some(answer) = find_answer(&mut tx, request).await? {
        return Ok(answer);
    }
    let fence = lock_month(&mut tx, request).await?;
    if let Some(answer) = find_answer(&mut tx, request).await? {
        return Ok(answer);
    }
    let data_cutoff = match check_preconditions(&mut tx, request).await? {
        Ok(cutoff) => cutoff,
        Err(rejection) => return Ok(BeginResult::Rejected(rejection)),
    };
    let data = DataVersion::read(&mut tx, data_cutoff).await?;
    let missing = find_missing_input(&mut tx, request.month, request.require_sources, &data).await?;
    if let Some(missing) = missing {
        return Ok(BeginResult::Rejected(Rejection::InputsIncomplete { month: request.month, missing }));
    }
    let key = open_revision(&mut tx, request, data_cutoff, fence).await?;
    let scope = request.rebill.map_or(&Scope::Everyone, |rebill| rebill.scope);
    list_members(&mut tx, &key, scope, data_cutoff).await?;
    let (chunks, members) = plan_chunks(
        &mut tx,
        &key,
        scope.kind().rule(),
        &data,
        request.price_book,
        request.chunk_size,
        request.shards,
    )
    .await?;
    tx.commit().await.during("cannot commit the planning")?;
    Ok(BeginResult::Started(Started { key, data_cutoff, members, chunks, shards: request.shards }))
}

/// Waits until no other transaction plans or closes this month, and returns the fence of the next
/// holder.
async fn lock_month(tx: &mut PgConnection, request: &BeginRequest<'_>) -> Result<i64, BillingError> {
    let month = request.month.to_string();
    sqlx::query!("insert into month_lock (month, fence) values ($1, 0) on conflict do nothing", month)
        .execute(&mut *tx)
        .await
        .during("cannot open the month's lock")?;
    let fence = sqlx::query_scalar!("select fence from month_lock where month = $1 for update", month)
        .fetch_one(tx)
        .await
        .during("cannot take the month's lock")?;
    Ok(fence + 1)
}

/// The result that needs no planning: the run has begun already, or another run holds the month.
async fn find_answer(
    tx: &mut PgConnection,
    request: &BeginRequest<'_>,
) -> Result<Option<BeginResult>, BillingError> {
    if let Some(started) = find_begun_run(tx, request).await? {
        return Ok(Some(BeginResult::Started(started)));
    }
    let month = request.month;
    let held = sqlx::query_scalar!("select run from month_lock where month = $1", month.to_string())
        .fetch_optional(tx)
        .await
        .during("cannot read the month's lock")?;
    Ok(held.flatten().map(|by| BeginResult::Rejected(Rejection::MonthLocked { month, by })))
}

async fn find_begun_run(
    tx: &mut PgConnection,
    request: &BeginRequest<'_>,
) -> Result<Option<Started>, BillingError> {
    let Some(row) = sqlx::query!(
        r#"select revision, fence, data_cutoff, members, shards,
                  (select count(*) from chunk c where c.month = r.month and c.revision = r.revision) as "chunks!"
           from revision r where month = $1 and run_uid = $2"#,
        request.month.to_string(),
        request.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot look for the run's revision")?
    else {
        return Ok(None);
    };
    Ok(Some(Started {
        key: RevisionKey {
            month: request.month,
            revision: read_number("revision.revision", row.revision.into())?,
            run_uid: request.run_uid,
            fence: row.fence,
        },
        data_cutoff: read_number("revision.data_cutoff", row.data_cutoff)?,
        members: row.members,
        chunks: row.chunks,
        shards: row.shards,
    }))
}

/// The cut-off of the run, or why it cannot begin.
async fn check_preconditions(
    tx: &mut PgConnection,
    request: &BeginRequest<'_>,
) -> Result<Result<LoadNumber, Rejection>, BillingError> {
    let month = request.month;
    let live = sqlx::query!(
        "select revision, run from revision where month = $1 and state = 'LIVE' order by revision desc limit 1",
        month.to_string()
    )
    .fetch_optional(&mut *tx)
    .await
    .during("cannot look for a live revision")?;
    let live: Option<(Revision, String)> = live
        .map(|live| Ok::<_, StoreError>((read_number("revision.revision", live.revision.into())?, live.run)))
        .transpose()?;
    match (request.rebill, live) {
        (None, None) => {}
        (None, Some((revision, by))) => {
            return Ok(Err(Rejection::MonthAlreadyBilled { month, revision, by }));
        }
        (Some(rebill), Some((revision, _))) if revision == rebill.of_revision => {}
        (Some(rebill), live) => {
            return Ok(Err(Rejection::RevisionConflict { month, asked: rebill.of_revision, live }));
        }
    }
    let loads = sqlx::query!(
        r#"select max(number) as last, coalesce(bool_or(number = $1), false) as "asked_is_finished!"
           from load where state = 'FINISHED'"#,
        request.data_cutoff.map(LoadNumber::get)
    )
    .fetch_one(tx)
    .await
    .during("cannot read the finished loads")?;
    let Some(last) = loads.last else {
        return Ok(Err(match describe_missing(month, request.require_sources, &[]) {
            Some(missing) => Rejection::InputsIncomplete { month, missing },
            None => Rejection::NoDataLoaded,
        }));
    };
    let last = read_number("load.number", last)?;
    Ok(match request.data_cutoff {
        None => Ok(last),
        Some(cutoff) if loads.asked_is_finished => Ok(cutoff),
        Some(asked) => Err(Rejection::CutoffUnknown { asked, last }),
    })
}

/// Writes everything but the chunks: the holder of the month, the price book, the job, the
/// revision.
async fn open_revision(
    tx: &mut PgConnection,
    request: &BeginRequest<'_>,
    data_cutoff: LoadNumber,
    fence: i64,
) -> Result<RevisionKey, BillingError> {
    let month = request.month.to_string();
    let book = request.price_book;
    let sha256 = book.sha256.to_string();
    let scope = request.rebill.map_or(ScopeKind::Everyone, |rebill| rebill.scope.kind());
    let after_sent = request.rebill.map(|rebill| rebill.after_sent).unwrap_or_default();
    sqlx::query!("select open_billing_month($1)", month)
        .fetch_one(&mut *tx)
        .await
        .during("cannot create the month's partitions")?;
    let held = sqlx::query!(
        "update month_lock set fence = $2, run = $3, run_uid = $4, since = now()
         where month = $1 and fence = $2::bigint - 1 and run is null",
        month,
        fence,
        request.run,
        request.run_uid
    )
    .execute(&mut *tx)
    .await
    .during("cannot take the month's lock")?;
    expect_rows_affected("taking the month's lock", held.rows_affected(), 1)?;
    sqlx::query!(
        "insert into price_book (sha256, version, content) values ($1, $2, $3) on conflict do nothing",
        sha256,
        book.version,
        request.price_book_text
    )
    .execute(&mut *tx)
    .await
    .during("cannot store the price book")?;
    let revision = sqlx::query_scalar!(
        r#"with job as (
               insert into job_log (kind, run, month, detail)
               values (case when $9::int is null then 'BILLING' else 'REBILLING' end, $2, $1,
                       jsonb_strip_nulls(jsonb_build_object(
                           'runUid', $3::uuid, 'dataCutoff', $5::bigint, 'priceBook', $6::text, 'chunkSize', $7::int,
                           'ofRevision', $9::int, 'rebillReason', $10::text, 'scope', $11::jsonb,
                           'afterSent', nullif($17::text, 'REVISE'))))
               returning id)
           insert into revision (month, revision, run, run_uid, fence, data_cutoff, price_book, chunk_size, shards, members, job,
                                 of_revision, rebill_reason, scope, scope_from, scope_to, scope_listed, pricing_version,
                                 after_sent)
           select $1, 1 + coalesce((select max(revision) from revision where month = $1), 0),
                  $2, $3, $4, $5, $6, $7, $8, 0, job.id, $9, $10, $12, $13, $14, $15, $16, $17
           from job
           returning revision"#,
        month,
        request.run,
        request.run_uid,
        fence,
        data_cutoff.get(),
        sha256,
        request.chunk_size,
        request.shards,
        request.rebill.map(|rebill| rebill.of_revision.get()),
        request.rebill.map(|rebill| rebill.reason),
        request.rebill.and_then(|rebill| rebill.scope.to_json()),
        scope.as_str(),
        scope.rule().from,
        scope.rule().to,
        scope.rule().listed,
        pricing::VERSION,
        after_sent.as_str()
    )
    .fetch_one(tx)
    .await
    .during("cannot write the revision")?;
    let revision: Revision = read_number("revision.revision", revision.into())?;
    Ok(RevisionKey { month: request.month, revision, run_uid: request.run_uid, fence })
}
