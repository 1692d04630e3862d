//! The high-water mark of a month: a moment that the database and the cluster both have. While
//! something of the month is billed or sent, the operator moves it on in both. A database that does
//! not have the cluster's mark was restored from before it, or is another one.

use domain::month::BillingMonth;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgPool;

use super::notification_error::NotificationError;
use crate::decode::read_month;
use crate::error::During as _;

/// The mark of a month in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HighWaterMark {
    pub mark: Timestamp,
    /// The mark before, if there was one.
    pub before: Option<Timestamp>,
}

/// A month of which something was billed or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkedMonth {
    pub month: BillingMonth,
    pub mark: Option<HighWaterMark>,
    /// Something was billed or sent since the mark, or there is no mark yet.
    pub touched: bool,
}

/// Reads the mark of a month.
///
/// # Errors
/// When the database fails.
pub async fn read_high_water_mark(
    pool: &PgPool,
    month: BillingMonth,
) -> Result<Option<HighWaterMark>, NotificationError> {
    let row = sqlx::query!(
        r#"select mark as "mark: jiff_sqlx::Timestamp", before as "before: jiff_sqlx::Timestamp"
           from high_water_mark where month = $1"#,
        month.to_string()
    )
    .fetch_optional(pool)
    .await
    .during("cannot read the month's high-water mark")?;
    Ok(row.map(|row| HighWaterMark {
        mark: row.mark.to_jiff(),
        before: row.before.map(jiff_sqlx::Timestamp::to_jiff),
    }))
}

/// Reads the marks of the months of which something was billed or sent. A month is touched if a run
/// has not ended or ended since the mark, or a revision was issued or rolled back since. A minute more
/// than since, for transactions that were not yet committed when the mark was set.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_marked_months(pool: &PgPool) -> Result<Vec<MarkedMonth>, NotificationError> {
    let rows = sqlx::query!(
        r#"select m.month as "month!", h.mark as "mark?: jiff_sqlx::Timestamp", h.before as "before?: jiff_sqlx::Timestamp",
                  h.mark is null
                  or exists (select from notification n join job_log j on j.id = n.job
                             where n.month = m.month and not n.rehearsal
                               and (j.ended_at is null or j.ended_at > h.mark - interval '1 minute'))
                  or exists (select from revision r
                             where r.month = m.month and r.issued_at > h.mark - interval '1 minute')
                  or exists (select from rollback b
                             where b.month = m.month and b.rolled_back_at > h.mark - interval '1 minute') as "touched!"
           from (select month from notification where not rehearsal
                 union select month from revision where issued_at is not null) m
           left join high_water_mark h on h.month = m.month
           order by m.month"#
    )
    .fetch_all(pool)
    .await
    .during("cannot read the months of which something was billed or sent")?;
    rows.into_iter()
        .map(|row| {
            let before = row.before.map(jiff_sqlx::Timestamp::to_jiff);
            let mark = row.mark.map(|mark| HighWaterMark { mark: mark.to_jiff(), before });
            let month = read_month("notification.month", &row.month)?;
            Ok(MarkedMonth { month, mark, touched: row.touched })
        })
        .collect()
}

/// Moves the mark of a month on, from this one, and returns the new one. None if the mark is another
/// one by now: then nothing was changed.
///
/// # Errors
/// When the database fails.
pub async fn advance_high_water_mark(
    pool: &PgPool,
    month: BillingMonth,
    from: Option<Timestamp>,
) -> Result<Option<Timestamp>, NotificationError> {
    let mark = sqlx::query_scalar!(
        r#"insert into high_water_mark as h (month, mark) values ($1, clock_timestamp())
           on conflict (month) do update
           set before = h.mark, mark = greatest(clock_timestamp(), h.mark + interval '1 microsecond')
           where h.mark = $2
           returning mark as "mark: jiff_sqlx::Timestamp""#,
        month.to_string(),
        from.map(|from| from.to_sqlx()) as Option<jiff_sqlx::Timestamp>
    )
    .fetch_optional(pool)
    .await
    .during("cannot move the month's high-water mark")?;
    Ok(mark.map(jiff_sqlx::Timestamp::to_jiff))
}

/// Suspends every run of the month that sends, whether the cluster still has it or not. Waits for
/// the claims and hand-overs that have begun. Returns the number of runs.
///
/// # Errors
/// When the database fails.
pub async fn suspend_month(pool: &PgPool, month: BillingMonth) -> Result<u64, NotificationError> {
    // `for update`, as claims and hand-overs share the run's row.
    let suspended = sqlx::query!(
        "with run as (
             select id from notification where month = $1 and state = 'OPEN' and not rehearsal order by id for update
         )
         update notification n set state = 'SUSPENDED' from run where n.id = run.id and n.state = 'OPEN'",
        month.to_string()
    )
    .execute(pool)
    .await
    .during("cannot suspend the month's notifications")?;
    Ok(suspended.rows_affected())
}
