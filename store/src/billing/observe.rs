//! Looking at a run: what the status and the metrics show. Reads only.

use domain::month::BillingMonth;
use sqlx::PgPool;

use super::{
    Amounts, BillingError, Check, Counts, RevisionKey, RevisionState, RunSnapshot, Uuid, Verification,
    amount, number,
};
use crate::error::During as _;

/// Everything about the run's revision; none when it has none yet.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn observe(pool: &PgPool, run_uid: Uuid) -> Result<Option<RunSnapshot>, BillingError> {
    let Some(row) = sqlx::query!(
        r#"select r.month, r.revision, r.run, r.state, r.fence, r.data_cutoff, r.price_book, b.version, r.chunk_size, r.shards,
                  r.members, r.verification, r.late_usage, r.digest, r.decided_by, r.reason,
                  r.opened_at as "opened_at: jiff_sqlx::Timestamp", r.verified_at as "verified_at: jiff_sqlx::Timestamp",
                  r.issued_at as "issued_at: jiff_sqlx::Timestamp", r.closed_at as "closed_at: jiff_sqlx::Timestamp",
                  coalesce(l.fence = r.fence and l.run_uid = r.run_uid, false) as "holds_lock!",
                  c.chunks as "chunks!", c.chunks_done as "chunks_done!", c.recently as "recently!",
                  c.first_claim_at as "first_claim_at: jiff_sqlx::Timestamp",
                  c.last_done_at as "last_done_at: jiff_sqlx::Timestamp",
                  c.billed as "billed!", c.quarantined as "quarantined!", c.items as "items!", c.rated as "rated!",
                  c.unbillable as "unbillable!", c.quarantined_usage as "quarantined_usage!",
                  c.base as "base!", c.usage as "usage!", c.discount as "discount!", c.adjustment as "adjustment!",
                  c.tax as "tax!", c.rounding as "rounding!", c.total as "total!",
                  clock_timestamp() as "now!: jiff_sqlx::Timestamp"
           from revision r
           join price_book b on b.sha256 = r.price_book
           left join month_lock l on l.month = r.month
           cross join lateral (
               select count(*) as chunks, count(*) filter (where state = 'DONE') as chunks_done,
                      min(started_at) as first_claim_at, max(done_at) as last_done_at,
                      coalesce(sum(billed + quarantined) filter (where done_at > now() - interval '10 seconds'), 0)::bigint as recently,
                      coalesce(sum(billed), 0)::bigint as billed, coalesce(sum(quarantined), 0)::bigint as quarantined,
                      coalesce(sum(items), 0)::bigint as items, coalesce(sum(rated_usage), 0)::bigint as rated,
                      coalesce(sum(unbillable_usage), 0)::bigint as unbillable,
                      coalesce(sum(quarantined_usage), 0)::bigint as quarantined_usage,
                      coalesce(sum(base_amount), 0)::text as base, coalesce(sum(usage_amount), 0)::text as usage,
                      coalesce(sum(discount_amount), 0)::text as discount,
                      coalesce(sum(adjustment_amount), 0)::text as adjustment,
                      coalesce(sum(tax_amount), 0)::text as tax, coalesce(sum(rounding_amount), 0)::text as rounding,
                      coalesce(sum(total_amount), 0)::text as total
               from chunk where month = r.month and revision = r.revision
           ) c
           where r.run_uid = $1"#,
        run_uid
    )
    .fetch_optional(pool)
    .await
    .during("cannot read the run's revision and chunks")?
    else {
        return Ok(None);
    };
    let verification = match (row.verified_at, row.verification, row.digest, row.late_usage) {
        (Some(at), Some(checks), Some(digest), Some(late_usage)) => {
            Some(Verification { checks: read_checks(checks)?, digest, late_usage, at: at.to_jiff() })
        }
        _ => None,
    };
    Ok(Some(RunSnapshot {
        key: RevisionKey {
            month: read_month(&row.month)?,
            revision: number("revision.revision", row.revision.into())?,
            run_uid,
            fence: row.fence,
        },
        run: row.run,
        state: RevisionState::parse(&row.state)?,
        holds_lock: row.holds_lock,
        data_cutoff: number("revision.data_cutoff", row.data_cutoff)?,
        price_book_version: row.version,
        price_book_sha256: row.price_book,
        chunk_size: row.chunk_size,
        shards: row.shards,
        members: row.members,
        chunks: row.chunks,
        chunks_done: row.chunks_done,
        counts: Counts {
            billed: row.billed,
            quarantined: row.quarantined,
            items: row.items,
            rated_usage: row.rated,
            unbillable_usage: row.unbillable,
            quarantined_usage: row.quarantined_usage,
        },
        amounts: Amounts {
            base: amount("chunk.base_amount", &row.base)?,
            usage: amount("chunk.usage_amount", &row.usage)?,
            discount: amount("chunk.discount_amount", &row.discount)?,
            adjustment: amount("chunk.adjustment_amount", &row.adjustment)?,
            tax: amount("chunk.tax_amount", &row.tax)?,
            rounding: amount("chunk.rounding_amount", &row.rounding)?,
            total: amount("chunk.total_amount", &row.total)?,
        },
        opened_at: row.opened_at.to_jiff(),
        first_claim_at: row.first_claim_at.map(jiff_sqlx::Timestamp::to_jiff),
        last_done_at: row.last_done_at.map(jiff_sqlx::Timestamp::to_jiff),
        members_done_recently: row.recently,
        verification,
        issued_at: row.issued_at.map(jiff_sqlx::Timestamp::to_jiff),
        closed_at: row.closed_at.map(jiff_sqlx::Timestamp::to_jiff),
        decided_by: row.decided_by,
        reason: row.reason,
        now: row.now.to_jiff(),
    }))
}

/// A revision that is neither issued nor rejected, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub key: RevisionKey,
    /// `NAMESPACE/NAME`.
    pub run: String,
}

/// Every draft; there is at most one for a month.
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
                month: read_month(&row.month)?,
                revision: number("revision.revision", row.revision.into())?,
                run_uid: row.run_uid,
                fence: row.fence,
            };
            Ok(Draft { key, run: row.run })
        })
        .collect()
}

/// One month's latest revision in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthTotals {
    pub month: BillingMonth,
    pub state: RevisionState,
    pub members: i64,
    pub chunks: i64,
    pub chunks_done: i64,
    pub counts: Counts,
    pub late_usage: i64,
    pub total: i128,
}

/// The latest revision of each of the last 24 months that have one, by month.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_totals(pool: &PgPool) -> Result<Vec<MonthTotals>, BillingError> {
    let rows = sqlx::query!(
        r#"select r.month, r.state, r.members, coalesce(r.late_usage, 0) as "late_usage!",
                  count(*) as "chunks!", count(*) filter (where c.state = 'DONE') as "chunks_done!",
                  coalesce(sum(c.billed), 0)::bigint as "billed!", coalesce(sum(c.quarantined), 0)::bigint as "quarantined!",
                  coalesce(sum(c.items), 0)::bigint as "items!", coalesce(sum(c.rated_usage), 0)::bigint as "rated!",
                  coalesce(sum(c.unbillable_usage), 0)::bigint as "unbillable!",
                  coalesce(sum(c.quarantined_usage), 0)::bigint as "quarantined_usage!",
                  coalesce(sum(c.total_amount), 0)::text as "total!"
           from (select distinct on (month) * from revision order by month desc, revision desc limit 24) r
           join chunk c on c.month = r.month and c.revision = r.revision
           group by r.month, r.state, r.members, r.late_usage
           order by r.month"#
    )
    .fetch_all(pool)
    .await
    .during("cannot read the totals of the months")?;
    rows.into_iter()
        .map(|row| {
            Ok(MonthTotals {
                month: read_month(&row.month)?,
                state: RevisionState::parse(&row.state)?,
                members: row.members,
                chunks: row.chunks,
                chunks_done: row.chunks_done,
                counts: Counts {
                    billed: row.billed,
                    quarantined: row.quarantined,
                    items: row.items,
                    rated_usage: row.rated,
                    unbillable_usage: row.unbillable,
                    quarantined_usage: row.quarantined_usage,
                },
                late_usage: row.late_usage,
                total: amount("chunk.total_amount", &row.total)?,
            })
        })
        .collect()
}

fn read_month(text: &str) -> Result<BillingMonth, BillingError> {
    text.parse().map_err(|_| BillingError::stored("revision.month", text))
}

pub(super) fn read_checks(stored: serde_json::Value) -> Result<Vec<Check>, BillingError> {
    let text = stored.to_string();
    serde_json::from_value(stored).map_err(|_| BillingError::stored("revision.verification", text))
}
