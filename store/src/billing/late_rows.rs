//! What was loaded or taken back after a cut-off. Of all members it is counted from what each load
//! recorded, not from the rows, so that it can be read at any time.

use domain::ids::LoadNumber;
use domain::month::BillingMonth;
use sqlx::{PgConnection, PgPool};

use super::billing_error::BillingError;
use super::revision::RevisionKey;
use super::scope::ScopeRule;
use crate::decode::read_month;
use crate::error::During as _;

/// Rows that concern a month and that a cut-off leaves out, of finished loads that were not taken
/// back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LateRows {
    /// New members. They concern every month.
    pub members: i64,
    pub subscriptions: i64,
    pub grants: i64,
    pub adjustments: i64,
    pub usage_rows: i64,
    /// Rows within the cut-off whose load was taken back after it.
    pub taken_back: i64,
}

/// What is late for the highest live revision of a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateMonth {
    pub month: BillingMonth,
    pub rows: LateRows,
}

/// Counts what is late for a month that is billed with this cut-off.
pub(super) async fn count_late_rows(
    tx: &mut PgConnection,
    month: BillingMonth,
    cutoff: LoadNumber,
) -> Result<LateRows, BillingError> {
    let rows = sqlx::query_as!(
        LateRows,
        r#"select coalesce(sum(rows) filter (where not voided and file = 'members' and kind = 'NEW'), 0)::bigint as "members!",
                  coalesce(sum(rows) filter (where not voided and file = 'subscriptions'), 0)::bigint as "subscriptions!",
                  coalesce(sum(rows) filter (where not voided and file = 'grants'), 0)::bigint as "grants!",
                  coalesce(sum(rows) filter (where not voided and file = 'adjustments'), 0)::bigint as "adjustments!",
                  coalesce(sum(rows) filter (where not voided and file = 'usage'), 0)::bigint as "usage_rows!",
                  coalesce(sum(rows) filter (where voided), 0)::bigint as "taken_back!"
           from (select t.file, t.kind, t.rows, l.taken_back_by is not null as voided
                 from load l join load_total t on t.load = l.number
                 where (l.number > $2 and l.taken_back_by is null or l.number <= $2 and l.taken_back_by > $2)
                   and $1 between t.from_month and t.to_month) late"#,
        month.to_string(),
        cutoff.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot count what was loaded after the cut-off")?;
    Ok(rows)
}

/// Counts what is late for the members of a revision's scope.
pub(super) async fn count_late_rows_of_scope(
    tx: &mut PgConnection,
    key: &RevisionKey,
    scope: ScopeRule,
    cutoff: LoadNumber,
) -> Result<LateRows, BillingError> {
    let rows = sqlx::query_as!(
        LateRows,
        r#"select count(*) filter (where not taken_back and file = 'members') as "members!",
                  count(*) filter (where not taken_back and file = 'subscriptions') as "subscriptions!",
                  count(*) filter (where not taken_back and file = 'grants') as "grants!",
                  count(*) filter (where not taken_back and file = 'adjustments') as "adjustments!",
                  count(*) filter (where not taken_back and file = 'usage') as "usage_rows!",
                  count(*) filter (where taken_back) as "taken_back!"
           from late_row($1, $2, $3)
           where member_id between $4 and $5 and (not $6::boolean or member_id in (
               select s.member_id from scope_member s where s.month = $1 and s.revision = $7))"#,
        key.month.to_string(),
        cutoff.get(),
        i64::MAX,
        scope.from,
        scope.to,
        scope.listed,
        key.revision.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot count what was loaded after the cut-off for the members of the scope")?;
    Ok(rows)
}

/// Counts what is late now, for the last 24 months that are live, sorted by month.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_late_months(pool: &PgPool) -> Result<Vec<LateMonth>, BillingError> {
    let rows = sqlx::query!(
        r#"select r.month as "month!",
                  coalesce(sum(rows) filter (where not voided and file = 'members' and kind = 'NEW'), 0)::bigint as "members!",
                  coalesce(sum(rows) filter (where not voided and file = 'subscriptions'), 0)::bigint as "subscriptions!",
                  coalesce(sum(rows) filter (where not voided and file = 'grants'), 0)::bigint as "grants!",
                  coalesce(sum(rows) filter (where not voided and file = 'adjustments'), 0)::bigint as "adjustments!",
                  coalesce(sum(rows) filter (where not voided and file = 'usage'), 0)::bigint as "usage_rows!",
                  coalesce(sum(rows) filter (where voided), 0)::bigint as "taken_back!"
           from (select month, data_cutoff from highest_live_revision order by month desc limit 24) r
           left join lateral (
               select t.file, t.kind, t.rows, l.taken_back_by is not null as voided
               from load l join load_total t on t.load = l.number
               where (l.number > r.data_cutoff and l.taken_back_by is null
                   or l.number <= r.data_cutoff and l.taken_back_by > r.data_cutoff)
                 and r.month between t.from_month and t.to_month) late on true
           group by r.month order by r.month"#
    )
    .fetch_all(pool)
    .await
    .during("cannot count what was loaded after the months were billed")?;
    rows.into_iter()
        .map(|row| {
            let rows = LateRows {
                members: row.members,
                subscriptions: row.subscriptions,
                grants: row.grants,
                adjustments: row.adjustments,
                usage_rows: row.usage_rows,
                taken_back: row.taken_back,
            };
            Ok(LateMonth { month: read_month("revision.month", &row.month)?, rows })
        })
        .collect()
}
