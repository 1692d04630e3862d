//! Invariants of what re-billings post to later months: to which month, that it bills them, and that
//! nothing stays posted for a member whose outcome was written after all.

use sqlx::PgConnection;

use super::report::{LIMIT, VerifyError};
use crate::error::During as _;

/// Of the month as the one that posts.
pub(super) async fn check_posted(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with issued as (
               select * from revision where month = $1 and state in ('LIVE', 'ROLLED_BACK')
           ), standing as materialized (
               select d.member_id, d.revision, d.amount
               from posted_difference d join issued r on r.revision = d.revision and r.state = 'LIVE'
               where d.month = $1
           )
           select violation as "violation!" from (
               select format('revision %s posts to %s, and has %s differences', r.revision, coalesce(r.posts_to, 'no month'), d.rows)
                      as violation
               from issued r
               cross join lateral (
                   select count(*) as rows from posted_difference d where d.month = $1 and d.revision = r.revision) d
               where (r.posts_to is null) <> (d.rows = 0)
               union all
               select format('revision %s posted to %s, or took it back, while revision %s of that month was live', r.revision,
                             r.posts_to, t.revision)
               from issued r
               join revision t on t.month = r.posts_to and t.state in ('LIVE', 'ROLLED_BACK')
               where exists (
                   select from unnest(array[r.issued_at, r.closed_at]) as changed (at)
                   where t.issued_at < changed.at and coalesce(t.closed_at > changed.at, true))
               union all
               select format('revision %s chunk %s: its row has %s differences over %s, the table has %s over %s', c.revision,
                             c.chunk_no, coalesce(c.posted, 0), coalesce(c.posted_amount, 0), d.rows, d.amount)
               from chunk c
               cross join lateral (
                   select count(*) as rows, coalesce(sum(amount), 0) as amount
                   from posted_difference d
                   where d.month = $1 and d.revision = c.revision and d.member_id between c.from_member and c.to_member) d
               where c.month = $1 and (coalesce(c.posted, 0), coalesce(c.posted_amount, 0)) <> (d.rows, d.amount)
               union all
               select format('member %s has an outcome in revision %s, and %s is still posted', o.member_id, o.revision, s.amount)
               from (select distinct member_id from standing) m
               join outcome o on o.month = $1 and o.member_id = m.member_id
               join issued r on r.revision = o.revision and r.state = 'LIVE'
               cross join lateral (
                   select sum(amount) as amount from standing s
                   where s.member_id = o.member_id and s.revision <= o.revision) s
               where s.amount <> 0
           ) v limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare what re-billings post with their outcomes")?;
    Ok(found)
}

/// Of the month as the one that bills what earlier months have posted.
pub(super) async fn check_billed(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select format('member %s: %s times %s is posted to the month, and %s items of the bill have it', p.member_id, p.posted,
                         p.amount, coalesce(i.items, 0)) as "violation!"
           from (select member_id, amount, count(*) as posted from posted_adjustment where month = $1 group by 1, 2) p
           join (select member_id from live_bill where month = $1) b using (member_id)
           left join (select member_id, amount, count(*) as items from live_bill_item
                      where month = $1 and kind = 'ADJUSTMENT' and code = 'CORRECTION' group by 1, 2) i
                using (member_id, amount)
           -- A loaded adjustment can have the same code and amount.
           where coalesce(i.items, 0) < p.posted
           order by p.member_id limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare what is posted to the month with its bills")?;
    Ok(found)
}
