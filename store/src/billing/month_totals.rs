//! The current revision of each month in numbers, for the metrics. Reads only.

use domain::month::BillingMonth;
use sqlx::PgPool;

use super::amounts::Counts;
use super::billing_error::BillingError;
use super::not_charged::NotCharged;
use super::revision::RevisionState;
use crate::decode::{read_amount, read_month};
use crate::error::During as _;

/// The current revision of one month: the highest one that is a draft or live; without any, the
/// highest one. Of a live one, members and total are those of the whole month; everything else is
/// of the members that the revision billed, except `not_charged`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthTotals {
    pub month: BillingMonth,
    pub state: RevisionState,
    pub members: i64,
    pub chunks: i64,
    pub chunks_done: i64,
    pub counts: Counts,
    pub late_usage: i64,
    /// Of everyone: with a scope, as of the highest live revision of everyone, whatever the scope
    /// changes of it.
    pub not_charged: NotCharged,
    /// Minor units; can exceed 64 bits.
    pub total: i128,
}

/// Reads the current revision of each of the last 24 months that have one, sorted by month. One
/// that was rolled back has no members, usage and total: it bills nobody.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_totals(pool: &PgPool) -> Result<Vec<MonthTotals>, BillingError> {
    let rows = sqlx::query!(
        r#"select r.month, r.state, coalesce(r.live_billed + r.live_quarantined, r.members) as "members!", coalesce(r.late_usage, 0) as "late_usage!",
                  count(*) as "chunks!", count(*) filter (where c.state = 'DONE') as "chunks_done!",
                  coalesce(r.live_billed, sum(c.billed), 0)::bigint as "billed!",
                  coalesce(r.live_quarantined, sum(c.quarantined), 0)::bigint as "quarantined!",
                  coalesce(sum(c.items), 0)::bigint as "items!", coalesce(sum(c.rated_usage), 0)::bigint as "rated!",
                  coalesce(sum(c.unbillable_usage), 0)::bigint as "unbillable!",
                  coalesce(sum(c.quarantined_usage), 0)::bigint as "quarantined_usage!",
                  coalesce(n.add_ons, 0)::bigint as "not_charged_add_ons!",
                  coalesce(n.adjustments, 0)::bigint as "not_charged_adjustments!",
                  coalesce(n.adjustment_amount, 0)::text as "not_charged_adjustment_amount!",
                  coalesce(n.usage, 0)::bigint as "not_charged_usage!",
                  coalesce(r.live_total, sum(c.total_amount), 0)::text as "total!"
           from (select distinct on (month) *, case state when 'LIVE' then month_billed end as live_billed,
                        case state when 'LIVE' then month_quarantined end as live_quarantined,
                        case state when 'LIVE' then month_total end as live_total,
                        case scope when 'EVERYONE' then revision else (
                            select max(e.revision) from revision e
                            where e.month = revision.month and e.state = 'LIVE' and e.scope = 'EVERYONE') end as of_everyone
                 from revision
                 order by month desc, state in ('DRAFT', 'LIVE') desc, revision desc limit 24) r
           join chunk c on c.month = r.month and c.revision = r.revision
           left join lateral (
               select sum(not_charged_add_ons) as add_ons, sum(not_charged_adjustments) as adjustments,
                      sum(not_charged_adjustment_amount) as adjustment_amount, sum(not_charged_usage) as usage
               from chunk where month = r.month and revision = r.of_everyone) n on true
           group by r.month, r.state, r.members, r.late_usage, r.live_billed, r.live_quarantined, r.live_total,
                    n.add_ons, n.adjustments, n.adjustment_amount, n.usage
           order by r.month"#
    )
    .fetch_all(pool)
    .await
    .during("cannot read the totals of the months")?;
    rows.into_iter()
        .map(|row| {
            let state = RevisionState::parse(&row.state)?;
            let totals = MonthTotals {
                month: read_month("revision.month", &row.month)?,
                state,
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
                not_charged: NotCharged {
                    add_ons: row.not_charged_add_ons,
                    adjustments: row.not_charged_adjustments,
                    adjustment_amount: read_amount(
                        "chunk.not_charged_adjustment_amount",
                        &row.not_charged_adjustment_amount,
                    )?,
                    usage_rows: row.not_charged_usage,
                },
                total: read_amount("chunk.total_amount", &row.total)?,
            };
            Ok(match state {
                RevisionState::RolledBack => MonthTotals {
                    members: 0,
                    counts: Counts::default(),
                    late_usage: 0,
                    not_charged: NotCharged::default(),
                    total: 0,
                    ..totals
                },
                _ => totals,
            })
        })
        .collect()
}
