//! Invariants of the diffs of re-billings: which outcomes they show, and their summaries.

use sqlx::PgConnection;

use super::report::{LIMIT, VerifyError};
use crate::error::During as _;

/// Each outcome of a re-billing has one row, with the outcome in the highest layer below as the one
/// before. A revision without a summary was not verified, or was billed by a version that kept no
/// diff: it may have outcomes without a row.
pub(super) async fn check_diffs(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with layer as materialized (
               select l.revision, l.layer, r.diff
               from revision_layer l join revision r on r.month = l.month and r.revision = l.revision
               where l.month = $1 and r.of_revision is not null
           ), result as materialized (
               select member_id, revision, 'BILLED'::outcome_kind as outcome, total_amount as total from bill where month = $1
               union all
               select member_id, revision, 'QUARANTINED', null from quarantined_member where month = $1
               union all
               select member_id, revision, 'NONE', null from ineligible_member where month = $1
           ), compared as (
               select distinct on (n.member_id, n.revision) n.member_id, n.revision, l.diff,
                      coalesce(o.outcome, 'NONE') as before_outcome, o.total as before_total,
                      n.outcome as after_outcome, n.total as after_total
               from result n
               join layer l on l.revision = n.revision
               left join result o on o.revision = l.layer and o.member_id = n.member_id and l.layer < n.revision
               order by n.member_id, n.revision, o.revision desc nulls last
           ), summary as (
               select revision, count(*) filter (where change = 'CHANGED') as changed,
                      count(*) filter (where change = 'ADDED') as added, count(*) filter (where change = 'REMOVED') as removed,
                      sum(delta) as delta
               from bill_diff where month = $1 group by revision
           )
           select violation as "violation!" from (
               select format('member %s in revision %s: from %s to %s, and the diff has %s', coalesce(d.member_id, c.member_id),
                             coalesce(d.revision, c.revision), coalesce(c.before_total::text, c.before_outcome::text, 'nothing'),
                             coalesce(c.after_total::text, c.after_outcome::text, 'nothing'),
                             case when d.member_id is null then 'no row'
                                  else format('%s to %s', coalesce(d.before_total::text, d.before_outcome::text),
                                              coalesce(d.after_total::text, d.after_outcome::text)) end) as violation
               from (select * from bill_change where month = $1) d
               full join compared c on c.member_id = d.member_id and c.revision = d.revision
               where (d.member_id is not null or c.diff is not null)
                 and (d.before_outcome, d.before_total, d.after_outcome, d.after_total)
                     is distinct from (c.before_outcome, c.before_total, c.after_outcome, c.after_total)
               union all
               select format('revision %s: the summary has %s changed, %s added, %s removed and %s, the rows have %s, %s, %s and %s',
                             r.revision, r.diff->>'changed', r.diff->>'added', r.diff->>'removed', r.diff->>'totalDelta',
                             coalesce(s.changed, 0), coalesce(s.added, 0), coalesce(s.removed, 0), coalesce(s.delta, 0))
               from revision r left join summary s using (revision)
               where r.month = $1 and r.diff is not null
                 and ((r.diff->>'changed')::bigint, (r.diff->>'added')::bigint, (r.diff->>'removed')::bigint,
                      (r.diff->>'totalDelta')::numeric) is distinct from
                     (coalesce(s.changed, 0), coalesce(s.added, 0), coalesce(s.removed, 0), coalesce(s.delta, 0))
           ) v limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare the diffs with the outcomes")?;
    Ok(found)
}
