//! Which months are live, and whose draft waits, for the metrics. Reads only.

use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::PgPool;

use super::billing_error::BillingError;
use crate::decode::read_month;
use crate::error::During as _;

/// How a month stands, over all its revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthStanding {
    pub month: BillingMonth,
    /// It has a live revision; one that is being billed again has it too.
    pub live: bool,
    /// Since when its draft is verified and neither issued nor rejected.
    pub draft_since: Option<Timestamp>,
}

/// Reads the last 24 months that have a revision, sorted by month. Its cost is that of the table of
/// revisions, which has one row for each.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_standings(pool: &PgPool) -> Result<Vec<MonthStanding>, BillingError> {
    let rows = sqlx::query!(
        r#"select month, bool_or(state = 'LIVE') as "live!",
                  max(verified_at) filter (where state = 'DRAFT') as "draft_since: jiff_sqlx::Timestamp"
           from revision group by month order by month desc limit 24"#
    )
    .fetch_all(pool)
    .await
    .during("cannot read which months are live")?;
    rows.into_iter()
        .rev()
        .map(|row| {
            Ok(MonthStanding {
                month: read_month("revision.month", &row.month)?,
                live: row.live,
                draft_since: row.draft_since.map(jiff_sqlx::Timestamp::to_jiff),
            })
        })
        .collect()
}
