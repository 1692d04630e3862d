//! Invariants of months that were billed again: which revision each bills again, and for whom it
//! has an outcome. Outside the scope of a revision nobody has one.

use sqlx::PgConnection;

use super::report::{LIMIT, VerifyError};
use crate::error::During as _;

pub(super) async fn check_layers(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select violation as "violation!" from (
               select format('revision %s is live over %s, and the live revision below it is %s', r.revision,
                             coalesce(r.of_revision::text, 'none'), coalesce(b.revision::text, 'none')) as violation
               from revision r
               cross join lateral (
                   select max(revision) as revision from revision
                   where month = $1 and state = 'LIVE' and revision < r.revision) b
               where r.month = $1 and r.state = 'LIVE' and r.of_revision is distinct from b.revision
               union all
               select format('revision %s bills revision %s again, which was never live', r.revision, r.of_revision)
               from revision r join revision b on b.month = $1 and b.revision = r.of_revision
               where r.month = $1 and (b.issued_at is null or b.state not in ('LIVE', 'ROLLED_BACK'))
           ) v limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare revisions with those that they bill again")?;
    Ok(found)
}

/// A column of a bill, or of an item, that differs, another code of the quarantine, or another kind
/// of outcome is a change.
pub(super) async fn check_changes(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with layer as materialized (
               select l.revision, l.layer from revision_layer l
               where l.month = $1 and exists (
                   select from revision r where r.month = $1 and r.revision = l.revision and r.of_revision is not null)
           ), written as materialized (
               select o.member_id, o.revision, count(*) as outcomes,
                      (select max(b.revision)
                       from layer l join outcome b on b.month = $1 and b.revision = l.layer
                       where l.revision = o.revision and l.layer < o.revision and b.member_id = o.member_id) as before
               from outcome o
               where o.month = $1 and o.revision in (select revision from layer)
               group by o.member_id, o.revision
           )
           select violation as "violation!" from (
               select format('member %s has %s outcomes in revision %s', member_id, outcomes, revision) as violation
               from written where outcomes > 1
               union all
               select format('member %s has the same bill in revision %s as in revision %s', w.member_id, w.revision, w.before)
               from written w
               join bill n on n.month = $1 and n.member_id = w.member_id and n.revision = w.revision
               join bill o on o.month = $1 and o.member_id = w.member_id and o.revision = w.before
               where (n.base_amount, n.usage_amount, n.discount_amount, n.adjustment_amount, n.tax_amount, n.rounding_amount,
                      n.total_amount) =
                     (o.base_amount, o.usage_amount, o.discount_amount, o.adjustment_amount, o.tax_amount, o.rounding_amount,
                      o.total_amount)
                 and (select array_agg(row(line_no, kind, code, quantity, amount, days, used_quantity, free_allowance)::text
                                       order by line_no)
                      from bill_item i where i.month = $1 and i.member_id = w.member_id and i.revision = w.revision)
                     is not distinct from
                     (select array_agg(row(line_no, kind, code, quantity, amount, days, used_quantity, free_allowance)::text
                                       order by line_no)
                      from bill_item i where i.month = $1 and i.member_id = w.member_id and i.revision = w.before)
               union all
               select format('member %s is in quarantine with %s in revision %s as in revision %s', w.member_id, n.code, w.revision,
                             w.before)
               from written w
               join quarantined_member n on n.month = $1 and n.member_id = w.member_id and n.revision = w.revision
               join quarantined_member o on o.month = $1 and o.member_id = w.member_id and o.revision = w.before
               where n.code = o.code
               union all
               select format('member %s is no longer eligible in revision %s, and had no bill or quarantine record before',
                             i.member_id, i.revision)
               from ineligible_member i
               left join written w on w.member_id = i.member_id and w.revision = i.revision
               where i.month = $1
                 and (w.before is null
                   or exists (select from ineligible_member o
                              where o.month = $1 and o.member_id = i.member_id and o.revision = w.before))
               union all
               select format('member %s has an outcome in revision %s, and is not of its scope', o.member_id, o.revision)
               from revision r join outcome o on o.month = $1 and o.revision = r.revision
               where r.month = $1 and r.scope <> 'EVERYONE'
                 and (o.member_id < r.scope_from or o.member_id > r.scope_to
                   or r.scope_listed and not exists (
                       select from scope_member s
                       where s.month = $1 and s.revision = r.revision and s.member_id = o.member_id))
           ) v limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare re-billings with what they changed")?;
    Ok(found)
}
