//! Invariants of runs: their rows of `job_log`, and what a run leaves when it has ended.

use sqlx::PgConnection;
use sqlx::types::Uuid;

use super::report::{LIMIT, VerifyError};
use crate::error::During as _;

pub(super) async fn check_billing_log(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select format('revision %s, with %s billed and %s quarantined: job %s', r.revision, c.billed, c.quarantined,
                         row_to_json(j)) as "violation!"
           from revision r
           left join job_log j on j.id = r.job
           cross join lateral (
               select coalesce(sum(billed), 0)::bigint as billed, coalesce(sum(quarantined), 0)::bigint as quarantined
               from chunk where month = $1 and revision = r.revision) c
           where r.month = $1 and r.state in ('LIVE', 'ROLLED_BACK')
             and (j.kind is distinct from case when r.of_revision is null then 'BILLING' else 'REBILLING' end
               or (j.run, j.month, j.status, j.total, j.succeeded, j.failed, j.skipped) is distinct from
                  (r.run, r.month, case c.quarantined when 0 then 'SUCCEEDED' else 'COMPLETED_WITH_FAILURES' end,
                   c.billed + c.quarantined, c.billed, c.quarantined, 0::bigint))
           limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare the job log with the bills")?;
    Ok(found)
}

pub(super) async fn check_notification_log(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with target as (
               select notification, count(*) as targets, count(*) filter (where outcome in ('SENT', 'RENDERED')) as succeeded,
                      count(*) filter (where outcome in ('FAILED', 'UNKNOWN')) as failed,
                      count(*) filter (where outcome = 'SKIPPED' or outcome is null) as skipped
               from notice_target where month = $1 group by notification
           )
           select violation as "violation!" from (
               select format('%s, with %s targets, %s succeeded, %s failed, %s skipped or open: its row has %s targets, job %s', n.run,
                             c.targets, c.succeeded, c.failed, c.skipped, n.targets, row_to_json(j)) as violation
               from notification n
               left join job_log j on j.id = n.job
               left join target t on t.notification = n.id
               cross join lateral (
                   select coalesce(t.targets, 0) as targets, coalesce(t.succeeded, 0) as succeeded,
                          coalesce(t.failed, 0) as failed, coalesce(t.skipped, 0) as skipped) c
               where n.month = $1
                 and (n.selected and n.targets <> c.targets
                   or j.id is null
                   or (j.kind, j.run, j.month) is distinct from
                      (case when n.rehearsal then 'REHEARSAL' when n.selection in ('FAILED', 'UNKNOWN') then 'RECOVERY' else 'SEND' end,
                       n.run, n.month)
                   or j.status <> 'RUNNING'
                      and (j.status, j.total, j.succeeded, j.failed, j.skipped) is distinct from
                          (case n.state when 'FINISHED' then case c.failed when 0 then 'SUCCEEDED' else 'COMPLETED_WITH_FAILURES' end
                                else n.state end,
                           c.targets, c.succeeded, c.failed, c.skipped))
               union all
               select format('%s, round %s, with %s messages: job %s', n.run, p.round, p.messages, row_to_json(j))
               from publication p
               join notification n on n.id = p.notification
               left join job_log j on j.id = p.job
               where n.month = $1
                 and (j.id is null or j.kind <> 'PUBLISH' or (j.status = 'RUNNING') <> (p.done_at is null)
                   or j.status <> 'RUNNING' and (j.total, j.succeeded) is distinct from (p.messages, p.messages))
           ) v limit $2"#,
        month,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare the job log with the notifications")?;
    Ok(found)
}

pub(super) async fn check_ended_runs(
    connection: &mut PgConnection,
    month: &str,
    active: Option<&[Uuid]>,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"select violation as "violation!" from (
               select format('job %s of %s is %s, its revision %s', j.id, j.run, j.status, coalesce(r.state, 'none')) as violation
               from job_log j left join revision r on r.job = j.id
               where j.month = $1 and j.kind in ('BILLING', 'REBILLING', 'ROLLBACK')
                 and ((j.status = 'RUNNING') <> (coalesce(r.state, '') = 'DRAFT')
                   or j.status = 'RUNNING' and not coalesce(r.run_uid = any($2), true))
               union all
               select format('job %s of %s: %s of %s, %s, %s', j.id, j.run, j.status, j.total, j.succeeded, j.failed)
               from job_log j
               where j.month = $1 and j.status <> 'RUNNING'
                 and (j.total <> j.succeeded + j.failed + j.skipped or j.ended_at is null)
               union all
               select format('the month is locked by %s', l.run) from month_lock l
               where l.month = $1 and l.run_uid is not null
                 and (not coalesce(l.run_uid = any($2), true)
                   or not exists (select from revision r where r.month = $1 and r.run_uid = l.run_uid and r.state = 'DRAFT'))
               union all
               select format('revision %s of %s is still a draft', r.revision, r.run) from revision r
               where r.month = $1 and r.state = 'DRAFT'
                 and (not coalesce(r.run_uid = any($2), true)
                   or not exists (select from month_lock l where l.month = $1 and l.run_uid = r.run_uid and l.fence = r.fence))
               union all
               select format('load %s is %s, its job %s', l.number, l.state, j.status)
               from load l join job_log j on j.id = l.job
               -- Of a load that was killed, the operator closes the job, and the next load its own row.
               where (l.state = 'FINISHED') <> (j.status in ('SUCCEEDED', 'COMPLETED_WITH_FAILURES'))
           ) v limit $3"#,
        month,
        active,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot look for remains of ended runs")?;
    Ok(found)
}

pub(super) async fn check_ended_notifications(
    connection: &mut PgConnection,
    month: &str,
    active: Option<&[Uuid]>,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with run as (
               -- A cancelled or failed run completes its job when no delivery is handed over any more.
               select n.id, n.run, n.state, n.selected, j.status <> 'RUNNING' as complete,
                      n.state = 'FINISHED' and j.status = 'RUNNING'
                      or j.status = 'RUNNING' and not coalesce(n.run_uid = any($2), true) as stuck
               from notification n join job_log j on j.id = n.job
               where n.month = $1
           )
           select violation as "violation!" from (
               select format('%s is %s, and its job is still running', run, state) as violation from run where stuck
               union all
               select format('%s is %s, and its job is complete', run, state) from run
               where complete and state in ('OPEN', 'SUSPENDED')
               union all
               select format('job %s of %s is RUNNING without a run', j.id, j.run) from job_log j
               where j.month = $1 and j.status = 'RUNNING' and j.kind in ('PUBLISH', 'SEND', 'RECOVERY', 'REHEARSAL')
                 and not exists (select from notification n where n.job = j.id)
                 and not exists (select from publication p where p.job = j.id)
               union all
               select format('%s is finished, and %s of its targets are open', r.run, count(*))
               from run r join notice_target t on t.month = $1 and t.notification = r.id and t.outcome is null
               where r.state = 'FINISHED' group by r.run
               union all
               select format('%s is finished before its targets were selected', run) from run where state = 'FINISHED' and not selected
               union all
               select format('%s has ended, and its round %s has not', r.run, p.round)
               from run r join publication p on p.notification = r.id and p.done_at is null where r.complete
               union all
               select format('%s has ended, and member %s is %s', r.run, d.member_id, d.state)
               from run r join delivery d on d.month = $1 and d.notification = r.id and d.state in ('CLAIMED', 'HANDED_OVER')
               where r.complete
           ) v limit $3"#,
        month,
        active,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot look for remains of ended notifications")?;
    Ok(found)
}
