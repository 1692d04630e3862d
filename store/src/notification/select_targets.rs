//! Selects the targets of a run, once, chunk by chunk. Each chunk is one transaction, guarded by
//! what is selected already: the process may be killed at any time, and two may select at once.

use sqlx::{Connection as _, PgConnection};

use super::delivery::reasons;
use super::expire_leases::end_expired_leases_on;
use super::notification_error::NotificationError;
use super::run::RunFacts;
use super::run_lock::lock_run;
use crate::error::{During as _, expect_rows_affected};

/// The result of [`select_targets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectionResult {
    /// All targets are written.
    Complete { targets: i64 },
    /// The caller stopped it; the next call continues from there.
    Stopped,
    /// The run has ended; nothing more is selected.
    RunOver,
}

/// Selects the run's targets, `chunk` bills at a time, and continues where an earlier call stopped.
/// After each chunk `go_on` gets the number of targets that this call has selected, and returns
/// whether to continue.
///
/// # Errors
/// When the database fails; the chunks that are selected already stay selected.
pub async fn select_targets(
    connection: &mut PgConnection,
    run: &RunFacts,
    chunk: i64,
    mut go_on: impl FnMut(i64) -> bool,
) -> Result<SelectionResult, NotificationError> {
    let Some(scope) = read_remaining_scope(connection, run).await? else {
        return read_result(connection, run).await;
    };
    // The best plan for a list of members is another than for a range.
    sqlx::query!("select set_config('plan_cache_mode', 'force_custom_plan', false)")
        .fetch_one(&mut *connection)
        .await
        .during("cannot prepare the selection of targets")?;
    // A delivery whose lease has expired may be one that this run selects.
    end_expired_leases_on(connection, run.month).await?;
    let mut after = scope.after;
    let mut selected = 0;
    loop {
        let bound = chunk_end(connection, run, &scope, after, chunk).await?;
        let step = select_chunk(connection, run, &scope, after, bound.unwrap_or(scope.to)).await?;
        if !step.open {
            return read_result(connection, run).await;
        }
        selected += step.selected;
        match bound {
            Some(bound) => after = bound,
            None => break,
        }
        if !go_on(selected) {
            return Ok(SelectionResult::Stopped);
        }
    }
    close_selection(connection, run).await?;
    read_result(connection, run).await
}

/// The members whose bills are not examined yet.
struct RemainingScope {
    after: i64,
    to: i64,
    members: Option<Vec<i64>>,
}

async fn read_remaining_scope(
    connection: &mut PgConnection,
    run: &RunFacts,
) -> Result<Option<RemainingScope>, NotificationError> {
    let row = sqlx::query!(
        r#"select n.to_member, n.member_ids,
                  coalesce((select max(t.member_id) from notice_target t where t.month = n.month and t.notification = n.id),
                           n.from_member - 1) as "after!"
           from notification n where n.id = $1 and not n.selected and n.closed_at is null"#,
        run.id.0
    )
    .fetch_optional(connection)
    .await
    .during("cannot read the run's scope")?;
    Ok(row.map(|row| RemainingScope { after: row.after, to: row.to_member, members: row.member_ids }))
}

struct ChunkResult {
    /// The run may still get targets.
    open: bool,
    selected: i64,
}

/// The member whose bill is the last one of the chunk; none when fewer bills are left. It is read
/// beforehand, as for a range without an end the planner would read and sort all remaining bills,
/// each time.
async fn chunk_end(
    connection: &mut PgConnection,
    run: &RunFacts,
    scope: &RemainingScope,
    after: i64,
    chunk: i64,
) -> Result<Option<i64>, NotificationError> {
    sqlx::query_scalar!(
        "select member_id from bill
         where month = $1 and member_id > $2 and member_id <= $3 and ($4::bigint[] is null or member_id = any($4))
         order by member_id offset $5 limit 1",
        run.month.to_string(),
        after,
        scope.to,
        scope.members.as_deref(),
        chunk - 1
    )
    .fetch_optional(connection)
    .await
    .during("cannot find the end of a chunk of bills")
    .map_err(NotificationError::from)
}

async fn select_chunk(
    connection: &mut PgConnection,
    run: &RunFacts,
    scope: &RemainingScope,
    after: i64,
    upto: i64,
) -> Result<ChunkResult, NotificationError> {
    let row = sqlx::query!(
        r#"with run as (
               select id from notification where id = $1 and not selected and closed_at is null for key share
           ), issued as (
               select count(issued_at) > 1 as several from revision where month = $2
           ), page as materialized (
               select l.member_id, l.revision, l.total_amount from live_bill l
               where l.month = $2 and l.member_id > $3 and l.member_id <= $4
                 and ($5::bigint[] is null or l.member_id = any($5))
           ), standing as (
               select p.member_id, p.revision, p.total_amount, d.reason, coalesce(d.attempt - (d.state = 'CLAIMED')::int, 0) as attempts,
                      case when d.state = 'CLAIMED' and d.lease_until < clock_timestamp() then coalesce(d.before, 'PENDING')
                           else coalesce(d.state, 'PENDING') end as state
               from page p
               left join delivery d on d.month = $2 and d.member_id = p.member_id and d.revision = p.revision
                                   and d.channel = 'EMAIL'
           ), candidate as (
               select s.member_id, s.revision, s.attempts, o.revision as corrects,
                      o.total_amount is distinct from s.total_amount as differs
               from standing s
               left join lateral (
                   select o.revision, b.total_amount
                   from other_sent_bill($2, s.member_id, s.revision) o
                   join bill b on b.month = $2 and b.member_id = s.member_id and b.revision = o.revision
                   where (select several from issued)) o on true
               where s.state = case when $6 in ('READY', 'CORRECTED') then 'PENDING' else $6 end::delivery_state
                 and case $6 when 'SKIPPED' then s.reason = $7 and exists (
                     select from (
                         select m.email from member m
                         where m.member_id = s.member_id
                           and m.load <= (select max(number) from load where load.state = 'FINISHED')
                           and not exists (select from load v where v.number = m.load and v.taken_back_by is not null)
                         order by m.load desc limit 1) m
                     where m.email is not null) else true end
           ), chosen as (
               insert into notice_target (notification, member_id, revision, after_attempt, corrects, month)
               select run.id, c.member_id, c.revision, c.attempts, c.corrects, $2
               from run cross join candidate c
               where case $6 when 'READY' then c.corrects is null
                             when 'CORRECTED' then c.corrects is not null and c.differs
                             else c.differs end
               on conflict do nothing
               returning 1
           )
           select exists (select from run) as "open!", (select count(*) from chosen) as "chosen!""#,
        run.id.0,
        run.month.to_string(),
        after,
        upto,
        scope.members.as_deref(),
        run.selection.as_str(),
        reasons::NO_ADDRESS
    )
    .fetch_one(connection)
    .await
    .during("cannot select targets")?;
    Ok(ChunkResult { open: row.open, selected: row.chosen })
}

async fn close_selection(connection: &mut PgConnection, run: &RunFacts) -> Result<(), NotificationError> {
    let mut tx = connection.begin().await.during("cannot open the transaction that ends the selection")?;
    // Other processes that select for the run share its row: the targets are counted when all of them
    // are done.
    let row = lock_run(&mut tx, run.id).await?;
    if row.selected || row.state.is_over() {
        return Ok(());
    }
    let closed = sqlx::query!(
        "update notification
         set selected = true, targets = (select count(*) from notice_target where month = $2 and notification = $1)
         where id = $1 and not selected and closed_at is null",
        run.id.0,
        run.month.to_string()
    )
    .execute(&mut *tx)
    .await
    .during("cannot end the selection")?;
    expect_rows_affected("ending the selection", closed.rows_affected(), 1)?;
    tx.commit().await.during("cannot commit the selection")?;
    sqlx::query!("select analyze_notices($1)", run.month.to_string())
        .execute(connection)
        .await
        .during("cannot analyze the targets")?;
    Ok(())
}

async fn read_result(
    connection: &mut PgConnection,
    run: &RunFacts,
) -> Result<SelectionResult, NotificationError> {
    let row = sqlx::query!("select selected, targets from notification where id = $1", run.id.0)
        .fetch_optional(connection)
        .await
        .during("cannot read the notification")?
        .ok_or_else(|| NotificationError::NoSuchRun(run.id.0.to_string()))?;
    Ok(if row.selected {
        SelectionResult::Complete { targets: row.targets }
    } else {
        SelectionResult::RunOver
    })
}
