//! Divides the member ids of a revision into chunks, and the chunks among shards.

use domain::price_book::{PlanKind, PriceBook};
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

use super::billing_error::BillingError;
use super::revision::RevisionKey;
use super::scope::ScopeRule;
use crate::error::{During as _, expect_rows_affected};
use crate::load::DataVersion;

/// Divides the ids of the scope into chunks of `chunk_size` eligible members, gives each shard
/// consecutive chunks, and returns the numbers of chunks and of eligible members.
///
/// A member is eligible if it is known as of the cut-off and has, in the month, a day of a base
/// plan, or of a plan that the price book doesn't contain (such a member is quarantined). Eligible
/// members are counted here from the subscriptions alone, so that verification can compare the
/// workers' results with a number that no worker computed.
pub(super) async fn plan_chunks(
    tx: &mut PgConnection,
    key: &RevisionKey,
    scope: ScopeRule,
    data: &DataVersion,
    price_book: &PriceBook,
    chunk_size: i32,
    shards: i32,
) -> Result<(i64, i64), BillingError> {
    let plans = price_book.plans();
    let codes = |kind: Option<PlanKind>| -> Vec<String> {
        plans.iter().filter(|p| kind.is_none_or(|kind| p.kind == kind)).map(|p| p.code.clone()).collect()
    };
    // A million members are sorted once and merged. Without statistics the planner would choose nested
    // loops, which look up each member. JIT compilation takes longer than it saves.
    sqlx::query!(
        "select set_config('enable_nestloop', 'off', true) as nestloop, set_config('jit', 'off', true) as jit,
                set_config('work_mem', '256MB', true) as memory"
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot prepare the count of members")?;
    let cut = sqlx::query!(
        r#"with subscribed as (
               select distinct on (member_id, plan_code, from_date) member_id, from_date, to_date
               from subscription
               where load <= $3 and load <> all($13) and from_date < $5
                 and (plan_code = any($6) or plan_code <> all($7)) and member_id between $10 and $11
                 and (not $12::boolean or member_id in (
                     select s.member_id from scope_member s where s.month = $1 and s.revision = $2))
               order by member_id, plan_code, from_date, load desc
           ), eligible as (
               select member_id, row_number() over (order by member_id) - 1 as position
               from (select distinct member_id from subscribed
                     where to_date is null or to_date > greatest(from_date, $4)) in_month
               where exists (select from member m
                             where m.member_id = in_month.member_id and m.load <= $3 and m.load <> all($13))
           ), cut as (
               select (position / $8)::int as piece, min(member_id) as first_member, count(*)::int as members
               from eligible group by 1
               union all
               select 0, 1, 0 where not exists (select from eligible)
           ), spans as (
               select piece, members,
                      case when piece = 0 then $10 else first_member end as from_member,
                      coalesce(lead(first_member) over (order by piece) - 1, $11) as to_member,
                      count(*) over () as pieces
               from cut
           ), planned as (
               insert into chunk (month, revision, chunk_no, shard, from_member, to_member, members)
               select $1, $2, piece + 1, (piece::bigint * $9::int / pieces)::int, from_member, to_member, members
               from spans
               returning members
           )
           select count(*) as "chunks!", sum(members)::bigint as "members!" from planned"#,
        key.month.to_string(),
        key.revision.get(),
        data.cutoff.get(),
        key.month.first_day().to_sqlx() as _,
        key.month.next_first_day().to_sqlx() as _,
        &codes(Some(PlanKind::Base)),
        &codes(None),
        i64::from(chunk_size),
        shards,
        scope.from,
        scope.to,
        scope.listed,
        &data.taken_back
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot divide the month's members into chunks")?;
    let counted = sqlx::query!(
        "update revision set members = $4, add_ons = $5
         where month = $1 and revision = $2 and run_uid = $3 and state = 'DRAFT'",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid,
        cut.members,
        &codes(Some(PlanKind::Addon))
    )
    .execute(tx)
    .await
    .during("cannot write the number of eligible members")?;
    expect_rows_affected("writing the number of eligible members", counted.rows_affected(), 1)?;
    Ok((cut.chunks, cut.members))
}
