//! Deliveries and targets of each month in numbers, over all its runs, for the metrics. Reads only.

use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::PgPool;

use super::notification_error::NotificationError;
use super::run::Selection;
use super::target_counts::NotificationCounts;
use crate::decode::read_month;
use crate::error::During as _;

/// One month, over all its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthTotals {
    pub month: BillingMonth,
    /// Deliveries by `delivery.state`.
    pub deliveries: Vec<(String, i64)>,
    pub targets: Vec<TargetTotals>,
}

/// The targets of all runs of a month with the same selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTotals {
    pub selection: Selection,
    pub rehearsal: bool,
    pub counts: NotificationCounts,
    pub open: i64,
    /// When the oldest run began that has an open target: its targets are as old. None for rehearsals
    /// and for runs that are suspended or over, as nothing is sent for them.
    pub oldest_open: Option<Timestamp>,
}

/// Reads the totals of the latest 24 months that had a run. With `only_changing`, only of months
/// with a run that has not ended, or ended less than ten minutes ago: counting every delivery is
/// expensive, and the totals of other months do not change.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_totals(pool: &PgPool, only_changing: bool) -> Result<Vec<MonthTotals>, NotificationError> {
    let months = sqlx::query_scalar!(
        "select month from notification group by month
         having not $1 or bool_or(closed_at is null or closed_at > now() - interval '10 minutes')
         order by month desc limit 24",
        only_changing
    )
    .fetch_all(pool)
    .await
    .during("cannot read the months of notifications")?;
    let deliveries = sqlx::query!(
        r#"select month, state::text as "state!", count(*) as "deliveries!" from delivery
           where month = any($1) group by month, state order by month, state"#,
        &months
    )
    .fetch_all(pool)
    .await
    .during("cannot count the deliveries")?;
    let targets = sqlx::query!(
        r#"select n.month, n.selection, n.rehearsal,
                  sum(t.sent)::bigint as "sent!", sum(t.failed)::bigint as "failed!", sum(t.unknown)::bigint as "unknown!",
                  sum(t.skipped)::bigint as "skipped!", sum(t.rendered)::bigint as "rendered!", sum(t.open)::bigint as "open!",
                  min(n.opened_at) filter (where n.state = 'OPEN' and not n.rehearsal and t.open > 0) as "oldest_open: jiff_sqlx::Timestamp"
           from (select notification,
                        count(*) filter (where outcome = 'SENT') as sent,
                        count(*) filter (where outcome = 'FAILED') as failed,
                        count(*) filter (where outcome = 'UNKNOWN') as unknown,
                        count(*) filter (where outcome = 'SKIPPED') as skipped,
                        count(*) filter (where outcome = 'RENDERED') as rendered,
                        count(*) filter (where outcome is null) as open
                 from notice_target where month = any($1) group by notification) t
           join notification n on n.id = t.notification
           group by n.month, n.selection, n.rehearsal
           order by n.month, n.selection, n.rehearsal"#,
        &months
    )
    .fetch_all(pool)
    .await
    .during("cannot count the targets")?;
    let mut totals = Vec::new();
    for month in months {
        let parsed: BillingMonth = read_month("notification.month", &month)?;
        let of_month = targets.iter().filter(|row| row.month == month).map(|row| {
            Ok(TargetTotals {
                selection: Selection::parse(&row.selection)?,
                rehearsal: row.rehearsal,
                counts: NotificationCounts {
                    sent: row.sent,
                    failed: row.failed,
                    unknown: row.unknown,
                    skipped: row.skipped,
                    rendered: row.rendered,
                },
                open: row.open,
                oldest_open: row.oldest_open.map(jiff_sqlx::Timestamp::to_jiff),
            })
        });
        totals.push(MonthTotals {
            month: parsed,
            deliveries: deliveries
                .iter()
                .filter(|row| row.month == month)
                .map(|row| (row.state.clone(), row.deliveries))
                .collect(),
            targets: of_month.collect::<Result<_, NotificationError>>()?,
        });
    }
    Ok(totals)
}
