//! Where the deliveries of a month's live bills stand, and its notification runs.

use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _};

/// Deliveries of live bills, as the view `live_bill` has their status. A bill without a row is `READY`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Bills whose delivery was begun and given back. The bills without a row are not among them.
    pub pending: i64,
    pub sending: i64,
    pub sent: i64,
    pub failed: i64,
    pub unknown: i64,
    pub skipped: i64,
}

impl DeliveryCounts {
    /// All that have a row.
    #[must_use]
    pub fn recorded(&self) -> i64 {
        self.pending + self.sending + self.sent + self.failed + self.unknown + self.skipped
    }
}

/// Counts the deliveries of the month's live bills. Reads the month's deliveries, and the outcomes of its
/// re-billings, once; no bill.
///
/// # Errors
/// When the database fails.
pub async fn count_deliveries(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<DeliveryCounts, DatabaseError> {
    let counts = sqlx::query_as!(
        DeliveryCounts,
        r#"select count(*) filter (where d.state = 'PENDING') as "pending!",
                  count(*) filter (where d.state in ('CLAIMED', 'HANDED_OVER')) as "sending!",
                  count(*) filter (where d.state = 'SENT') as "sent!",
                  count(*) filter (where d.state = 'FAILED') as "failed!",
                  count(*) filter (where d.state = 'UNKNOWN') as "unknown!",
                  count(*) filter (where d.state = 'SKIPPED') as "skipped!"
           from delivery d
           join revision r on r.month = d.month and r.revision = d.revision and r.state = 'LIVE'
           where d.month = $1 and d.channel = 'EMAIL' and not exists (
               select from revision later
               join outcome o on o.month = later.month and o.revision = later.revision
               where later.month = d.month and later.revision > d.revision and later.state = 'LIVE'
                 and later.of_revision is not null and o.member_id = d.member_id)"#,
        month.to_string()
    )
    .fetch_one(connection)
    .await
    .during("cannot count the deliveries")?;
    Ok(counts)
}

/// A notification run of the month. Its counts are those of `job_log`, which has them once it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationRow {
    /// `NAMESPACE/NAME`.
    pub run: String,
    pub selection: String,
    pub rehearsal: bool,
    pub state: String,
    pub targets: i64,
    pub round: i32,
    pub succeeded: i64,
    pub failed: i64,
    pub skipped: i64,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// Why it was cancelled or failed.
    pub reason: Option<String>,
}

/// Reads the notification runs of the month, in the order in which they began.
///
/// # Errors
/// When the database fails.
pub async fn read_notifications(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<Vec<NotificationRow>, DatabaseError> {
    let rows = sqlx::query!(
        r#"select n.run, n.selection, n.rehearsal, n.state, n.targets, n.round, j.succeeded, j.failed, j.skipped,
                  n.opened_at as "opened_at: jiff_sqlx::Timestamp", n.closed_at as "closed_at: jiff_sqlx::Timestamp", n.reason
           from notification n join job_log j on j.id = n.job
           where n.month = $1 order by n.id"#,
        month.to_string()
    )
    .fetch_all(connection)
    .await
    .during("cannot read the notification runs")?;
    let found = rows.into_iter().map(|row| NotificationRow {
        run: row.run,
        selection: row.selection,
        rehearsal: row.rehearsal,
        state: row.state,
        targets: row.targets,
        round: row.round,
        succeeded: row.succeeded,
        failed: row.failed,
        skipped: row.skipped,
        opened_at: row.opened_at.to_jiff(),
        closed_at: row.closed_at.map(jiff_sqlx::Timestamp::to_jiff),
        reason: row.reason,
    });
    Ok(found.collect())
}
