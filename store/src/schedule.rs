//! What the database has of the months that a schedule bills: whether a month is live, was rolled
//! back or is being billed, and what the schedule's own runs did. Reads only.

use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::PgPool;

use crate::decode::read_month;
use crate::error::{During as _, StoreError};

/// A month that any run has begun to bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthRecord {
    pub month: BillingMonth,
    /// It has a live revision.
    pub live: bool,
    /// One of its revisions was rolled back.
    pub rolled_back: bool,
    /// A run bills it at the moment.
    pub draft: bool,
    /// The schedule's run of the month has a revision, in whatever state.
    pub by_schedule: bool,
    /// When the live revision of the schedule's run was issued.
    pub issued_at: Option<Timestamp>,
    /// The schedule's notification of the month has begun, or has ended.
    pub notified: bool,
}

/// Reads the months from `first` on, ascending. The schedule's run of a month is named `prefix` and
/// the month, with `NAMESPACE/` in front.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_months(
    pool: &PgPool,
    prefix: &str,
    first: BillingMonth,
) -> Result<Vec<MonthRecord>, StoreError> {
    let rows = sqlx::query!(
        r#"select m.month as "month!", coalesce(r.live, false) as "live!", coalesce(r.rolled_back, false) as "rolled_back!",
                  coalesce(r.draft, false) as "draft!", coalesce(r.by_schedule, false) as "by_schedule!",
                  r.issued_at as "issued_at: jiff_sqlx::Timestamp",
                  exists (select from notification n where n.month = m.month and n.run = ($1 || n.month) collate "C") as "notified!"
           from (select distinct month from revision where month >= $2) m
           join lateral (
               select bool_or(state = 'LIVE') as live, bool_or(state = 'ROLLED_BACK') as rolled_back,
                      bool_or(state = 'DRAFT') as draft, bool_or(run = ($1 || month) collate "C") as by_schedule,
                      max(issued_at) filter (where state = 'LIVE' and run = ($1 || month) collate "C") as issued_at
               from revision where month = m.month
           ) r on true
           order by m.month"#,
        prefix,
        first.to_string()
    )
    .fetch_all(pool)
    .await
    .during("cannot read what the database has of the schedule's months")?;
    rows.into_iter()
        .map(|row| {
            Ok(MonthRecord {
                month: read_month("revision.month", &row.month)?,
                live: row.live,
                rolled_back: row.rolled_back,
                draft: row.draft,
                by_schedule: row.by_schedule,
                issued_at: row.issued_at.map(jiff_sqlx::Timestamp::to_jiff),
                notified: row.notified,
            })
        })
        .collect()
}

/// The last month that a run of the schedule has begun to bill.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_last_month(pool: &PgPool, prefix: &str) -> Result<Option<BillingMonth>, StoreError> {
    let month = sqlx::query_scalar!(
        r#"select max(month) from revision where run = ($1 || month) collate "C""#,
        prefix
    )
    .fetch_one(pool)
    .await
    .during("cannot read the last month that the schedule has billed")?;
    month.map(|month| read_month("revision.month", &month)).transpose()
}
