//! Invariants of rollbacks: the revision that each took back, and its row of `job_log`.

use sqlx::PgConnection;

use super::report::{LIMIT, VerifyError};
use crate::error::During as _;

pub(super) async fn check_rollbacks(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with taken_back as (
               select revision, r.state, r.issued_at, r.closed_at, r.reason, k.run, k.run_uid, k.job, k.rolled_back_at,
                      k.reason as given_reason, coalesce(c.outcomes, 0) as outcomes
               from (select * from revision where month = $1) r
               full join (select * from rollback where month = $1) k using (revision)
               left join (select revision, sum(coalesce(changed, billed + quarantined)) as outcomes
                          from chunk where month = $1 group by revision) c
                    using (revision)
           )
           select violation as "violation!" from (
               select format('revision %s is %s, closed at %s because of `%s`; rolled back by %s at %s because of `%s`',
                             revision, coalesce(state, 'missing'), closed_at, reason, coalesce(run, 'nobody'),
                             rolled_back_at, given_reason) as violation
               from taken_back
               where (coalesce(state, '') = 'ROLLED_BACK') <> (run_uid is not null)
                  or run_uid is not null
                     and ((closed_at, reason) is distinct from (rolled_back_at, given_reason)
                       or coalesce(issued_at > rolled_back_at, true))
               union all
               select format('revision %s was rolled back at %s, while revision %s was live', t.revision, t.rolled_back_at,
                             later.revision)
               from taken_back t
               join revision later on later.month = $1 and later.revision > t.revision
                                  and later.state in ('LIVE', 'ROLLED_BACK') and later.issued_at < t.rolled_back_at
                                  and coalesce(later.closed_at > t.rolled_back_at, true)
               union all
               select format('the rollback of revision %s, with %s outcomes, by %s: job %s', t.revision, t.outcomes, t.run,
                             row_to_json(j))
               from taken_back t left join job_log j on j.id = t.job
               where t.run_uid is not null
                 and (j.kind, j.run, j.month, j.status, j.total, j.succeeded) is distinct from
                     ('ROLLBACK', t.run, $1, 'SUCCEEDED', t.outcomes, t.outcomes)
               union all
               select format('job %s of %s has rolled nothing back', j.id, j.run)
               from job_log j
               where j.month = $1 and j.kind = 'ROLLBACK' and not exists (select from rollback k where k.job = j.id)
           ) v limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare the rollbacks with their revisions")?;
    Ok(found)
}
