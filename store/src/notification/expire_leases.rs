//! Ends leases that have expired: the consumer that held them is gone, or too slow.

use domain::month::BillingMonth;
use sqlx::{PgConnection, PgPool};

use super::delivery::reasons;
use super::notification_error::NotificationError;
use crate::error::{During as _, expect_rows_affected};

/// How many leases [`end_expired_leases`] ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpiredLeases {
    /// Hand-overs without an outcome: the outcome is unknown.
    pub unknown: i64,
    /// Claims: the delivery has the state from before the claim again.
    pub freed: i64,
}

/// Ends the expired leases of a month: the outcome of a hand-over becomes UNKNOWN, and a claim is
/// released. Rows that another transaction has locked are left to it.
///
/// # Errors
/// When the database fails.
pub async fn end_expired_leases(
    pool: &PgPool,
    month: BillingMonth,
) -> Result<ExpiredLeases, NotificationError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    end_expired_leases_on(&mut connection, month).await
}

pub(super) async fn end_expired_leases_on(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<ExpiredLeases, NotificationError> {
    let row = sqlx::query!(
        r#"with expired as materialized (
               select member_id, revision, state, notification from delivery
               where month = $1 and state in ('CLAIMED', 'HANDED_OVER') and lease_until < clock_timestamp()
               for update skip locked
           ), moved as (
               update delivery d
               set state = case e.state when 'HANDED_OVER' then 'UNKNOWN' else coalesce(d.before, 'PENDING') end,
                   attempt = d.attempt - (e.state = 'CLAIMED')::int,
                   ended_at = case e.state when 'HANDED_OVER' then clock_timestamp() else d.ended_at end,
                   reason = case e.state when 'HANDED_OVER' then $2 else d.reason end,
                   before = null, holder = null, lease_until = null
               from expired e
               where d.month = $1 and d.member_id = e.member_id and d.revision = e.revision and d.channel = 'EMAIL'
               returning 1
           ), closed as (
               update notice_target t set outcome = 'UNKNOWN', reason = $2, ended_at = clock_timestamp()
               from expired e
               where e.state = 'HANDED_OVER' and t.month = $1 and t.notification = e.notification
                 and t.member_id = e.member_id and t.revision = e.revision and t.outcome is null
               returning 1
           )
           select (select count(*) from expired) as "expired!", (select count(*) from moved) as "moved!",
                  (select count(*) from expired where state = 'HANDED_OVER') as "unknown!",
                  (select count(*) from closed) as "closed!""#,
        month.to_string(),
        reasons::OUTCOME_UNKNOWN
    )
    .fetch_one(connection)
    .await
    .during("cannot end the expired leases")?;
    expect_rows_affected("ending expired leases", row.moved.unsigned_abs(), row.expired.unsigned_abs())?;
    expect_rows_affected(
        "ending targets of unknown outcome",
        row.closed.unsigned_abs(),
        row.unknown.unsigned_abs(),
    )?;
    Ok(ExpiredLeases { unknown: row.unknown, freed: row.expired - row.unknown })
}
