//! Invariants of bills: items, members, chunks, usage, revisions.

use domain::month::BillingMonth;
use domain::price_book::{PlanKind, PriceBook};
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

use super::report::{LIMIT, MAX_VIOLATIONS, VerifyError};
use crate::error::During as _;
use crate::load::read_taken_back;

pub(super) async fn check_sums(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select format('member %s revision %s: total %s, items %s, parts %s', b.member_id, b.revision, b.total_amount,
                         coalesce(i.amount::text, 'none'), p.parts) as "violation!"
           from bill b
           left join (select member_id, revision, sum(amount) as amount, sum(amount) filter (where kind = 'TAX') as tax
                      from bill_item where month = $1 group by member_id, revision) i
                on i.member_id = b.member_id and i.revision = b.revision
           cross join lateral (
               -- An inclusive tax has no item.
               select b.base_amount::numeric + b.usage_amount - b.discount_amount + b.adjustment_amount + b.rounding_amount
                      + coalesce(i.tax, 0) as parts) p
           where b.month = $1 and (b.total_amount is distinct from i.amount or b.total_amount <> p.parts)
           order by b.member_id limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare bills with their items")?;
    Ok(found)
}

pub(super) async fn check_digests(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select format('member %s revision %s: digest %s, that of its amounts and items %s', member_id, revision,
                         encode(stored, 'hex'), encode(computed, 'hex')) as "violation!"
           from bill_digest
           where month = $1 and stored <> computed
           order by member_id, revision limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare bills with their digests")?;
    Ok(found)
}

/// A live revision, and the codes of its price book.
struct LiveRevision {
    revision: i32,
    data_cutoff: i64,
    base_plans: Vec<String>,
    plans: Vec<String>,
}

/// The live revisions that are the last one to have billed some member: down to the highest one
/// whose scope is everyone.
async fn read_live_revisions(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<Vec<LiveRevision>, VerifyError> {
    let rows = sqlx::query!(
        "select r.revision, r.data_cutoff, b.content from revision r join price_book b on b.sha256 = r.price_book
         where r.month = $1 and r.state = 'LIVE' and r.revision >= (
             select max(revision) from revision where month = $1 and state = 'LIVE' and scope = 'EVERYONE')
         order by r.revision desc",
        month.to_string()
    )
    .fetch_all(connection)
    .await
    .during("cannot read the live revisions")?;
    rows.into_iter()
        .map(|row| {
            let revision = row.revision;
            let book = PriceBook::parse(&row.content).map_err(|source| VerifyError::PriceBook {
                month,
                revision,
                source,
            })?;
            let codes = |kind: Option<PlanKind>| -> Vec<String> {
                let of_kind = book.plans().iter().filter(|plan| kind.is_none_or(|kind| plan.kind == kind));
                of_kind.map(|plan| plan.code.clone()).collect()
            };
            let (base_plans, plans) = (codes(Some(PlanKind::Base)), codes(None));
            Ok(LiveRevision { revision, data_cutoff: row.data_cutoff, base_plans, plans })
        })
        .collect()
}

/// Whether a member is eligible is a question to the highest live revision that billed the member:
/// with scopes, the members of a month have different cut-offs and price books.
pub(super) async fn check_members(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<Vec<String>, VerifyError> {
    let mut all = Vec::new();
    for live in read_live_revisions(connection, month).await? {
        let taken_back = read_taken_back(connection, live.data_cutoff).await?;
        let found = sqlx::query_scalar!(
            r#"with known as (
                   select distinct on (member_id, plan_code, from_date) member_id, plan_code, from_date, to_date
                   from subscription where load <= $2 and load <> all($9)
                   order by member_id, plan_code, from_date, load desc
               ), eligible as (
                   select distinct k.member_id from known k
                   where greatest(k.from_date, $3) < least(coalesce(k.to_date, 'infinity'), $4)
                     and (k.plan_code = any($5) or k.plan_code <> all($6))
                     and exists (select from member m where m.member_id = k.member_id and m.load <= $2 and m.load <> all($9))
               ), outcome as (
                   select member_id from live_bill where month = $1
                   union all
                   select member_id from quarantine where month = $1
               ), counted as (
                   select member_id, count(*) as outcomes from outcome group by member_id
               ), differing as (
                   select member_id, e.member_id is not null as is_eligible, coalesce(c.outcomes, 0) as outcomes
                   from eligible e full join counted c using (member_id)
                   where e.member_id is null or c.outcomes is distinct from 1
               )
               select format('member %s: %s, with %s live bills and quarantine records', d.member_id,
                             case when d.is_eligible then 'eligible' else 'not eligible' end, d.outcomes) as "violation!"
               from differing d
               where $8 = (
                   select max(r.revision) from revision r
                   where r.month = $1 and r.state = 'LIVE' and d.member_id between r.scope_from and r.scope_to
                     and (not r.scope_listed or exists (
                         select from scope_member s
                         where s.month = $1 and s.revision = r.revision and s.member_id = d.member_id)))
               order by d.member_id limit $7"#,
            month.to_string(),
            live.data_cutoff,
            month.first_day().to_sqlx() as _,
            month.next_first_day().to_sqlx() as _,
            &live.base_plans,
            &live.plans,
            LIMIT,
            live.revision,
            &taken_back
        )
        .fetch_all(&mut *connection)
        .await
        .during("cannot compare the eligible members with their bills")?;
        all.extend(found);
    }
    all.truncate(MAX_VIOLATIONS);
    Ok(all)
}

pub(super) async fn check_usage(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with loaded as materialized (
               select load, rows, taken_back_by
               from (select load, count(*) as rows from usage where month = $1 group by load) u left join load l on l.number = u.load
           )
           select format('revision %s: %s rows within the cut-off, of which %s are counted; %s late rows, of which %s are counted',
                         r.revision, u.within, c.counted, u.late, coalesce(r.late_usage::text, 'none')) as "violation!"
           from revision r
           cross join lateral (
               select coalesce(sum(rows) filter (where load <= r.data_cutoff and not coalesce(taken_back_by <= r.data_cutoff, false)),
                               0) as within,
                      coalesce(sum(rows) filter (where load > r.data_cutoff), 0) as late
               from (select load, rows, taken_back_by from loaded where r.scope = 'EVERYONE'
                     union all
                     select i.load, 1, l.taken_back_by from usage i left join load l on l.number = i.load
                     where r.scope = 'RANGE' and i.month = $1 and i.member_id between r.scope_from and r.scope_to
                     union all
                     select i.load, 1, l.taken_back_by
                     from scope_member s join usage i on i.month = $1 and i.member_id = s.member_id
                     left join load l on l.number = i.load
                     where r.scope_listed and s.month = $1 and s.revision = r.revision) of_scope) u
           cross join lateral (
               select coalesce(sum(rated_usage + unbillable_usage + quarantined_usage), 0) as counted
               from chunk where month = $1 and revision = r.revision) c
           -- What is late can become more after the revision was verified.
           where r.month = $1 and r.state = 'LIVE' and (u.within <> c.counted or coalesce(r.late_usage > u.late, true))
           order by r.revision limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare the usage with what was counted")?;
    Ok(found)
}

pub(super) async fn check_chunk_ranges(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select violation as "violation!" from (
               select format('revision %s chunk %s: from %s, after %s', revision, chunk_no, from_member, before) as violation
               from (select revision, chunk_no, from_member,
                            coalesce(lag(to_member) over (partition by revision order by chunk_no), scope_from - 1) as before
                     from chunk join revision using (month, revision) where month = $1) c
               where from_member <> before + 1
               union all
               select format('revision %s ends at %s', revision, max(to_member))
               from chunk join revision using (month, revision)
               where month = $1 group by revision, scope_to having max(to_member) <> scope_to
           ) v limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare chunks with their neighbours")?;
    Ok(found)
}

pub(super) async fn check_chunk_sums(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select format('revision %s chunk %s, %s: its row has %s, the tables have %s', c.revision, c.chunk_no, c.state, s.says, t.tells)
                  as "violation!"
           from chunk c
           join revision r on r.month = c.month and r.revision = c.revision
           -- A chunk that is not done has only what it wrote, which is nothing.
           cross join lateral (select c.state = 'DONE' and r.of_revision is not null as rebilling) k
           cross join lateral (
               select count(*) as bills, coalesce(sum(base_amount), 0) as base, coalesce(sum(usage_amount), 0) as usage,
                      coalesce(sum(discount_amount), 0) as discount, coalesce(sum(adjustment_amount), 0) as adjustment,
                      coalesce(sum(tax_amount), 0) as tax, coalesce(sum(rounding_amount), 0) as rounding,
                      coalesce(sum(total_amount), 0) as total
               from bill_as_of($1, c.revision, k.rebilling, r.scope_listed, c.from_member, c.to_member)) b
           cross join lateral (
               select count(*) as items from bill_item_as_of($1, c.revision, k.rebilling, r.scope_listed, c.from_member, c.to_member)) i
           cross join lateral (
               select count(*) as members from quarantine_as_of($1, c.revision, k.rebilling, r.scope_listed, c.from_member, c.to_member)) q
           cross join lateral (
               select count(*) as outcomes from outcome o
               where o.month = $1 and o.revision = c.revision and o.member_id between c.from_member and c.to_member) o
           cross join lateral (
               select row(coalesce(c.changed, c.billed + c.quarantined, 0), coalesce(c.billed, 0), coalesce(c.items, 0), coalesce(c.quarantined, 0), coalesce(c.base_amount, 0),
                          coalesce(c.usage_amount, 0), coalesce(c.discount_amount, 0), coalesce(c.adjustment_amount, 0),
                          coalesce(c.tax_amount, 0), coalesce(c.rounding_amount, 0), coalesce(c.total_amount, 0)) as says) s
           cross join lateral (
               select row(o.outcomes, b.bills, i.items, q.members, b.base, b.usage, b.discount, b.adjustment, b.tax, b.rounding, b.total)
                      as tells) t
           where c.month = $1 and (r.state in ('LIVE', 'ROLLED_BACK') and c.state <> 'DONE' or s.says::text <> t.tells::text)
           order by c.revision, c.chunk_no limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare chunks with what they wrote")?;
    Ok(found)
}

pub(super) async fn check_revisions(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select violation as "violation!" from (
               select format('revision %s is missing', n) as violation
               from generate_series(1, (select max(revision) from revision where month = $1)) n
               where not exists (select from revision where month = $1 and revision = n)
               union all
               select format('revision %s: digest %s, that of its chunks %s', r.revision, r.digest, c.digest)
               from revision r
               cross join lateral (
                   select encode(sha256(coalesce(string_agg(digest, ''::bytea order by chunk_no), ''::bytea)), 'hex') as digest
                   from chunk where month = $1 and revision = r.revision) c
               where r.month = $1 and r.state in ('LIVE', 'ROLLED_BACK') and r.digest is distinct from c.digest
           ) v limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare the month's revisions")?;
    Ok(found)
}

/// The figures that the highest live revision keeps of the whole month, which drafts are compared
/// with.
pub(super) async fn check_month_figures(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select format('revision %s keeps %s billed, %s quarantined and a total of %s; the month has %s, %s and %s', r.revision,
                         r.month_billed, r.month_quarantined, r.month_total, b.billed, q.quarantined, b.total) as "violation!"
           from (select * from revision where month = $1 and state = 'LIVE' order by revision desc limit 1) r
           cross join (select count(*) as billed, coalesce(sum(total_amount), 0) as total from live_bill where month = $1) b
           cross join (select count(*) as quarantined from quarantine where month = $1) q
           where (r.month_billed, r.month_quarantined, r.month_total) is distinct from (b.billed, q.quarantined, b.total)"#,
        month
    )
    .fetch_all(connection)
    .await
    .during("cannot compare the month's figures with its bills")?;
    Ok(found)
}
