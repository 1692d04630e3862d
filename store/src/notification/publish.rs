//! Choosing a run's targets, once, and putting the open ones on the topic, in rounds. Whoever does it may be killed at any
//! point and be there twice: each chunk is one transaction, guarded by what was there before it.

use domain::ids::MemberId;
use serde_json::json;
use sqlx::{Connection as _, PgConnection, PgPool};

use super::close::{self, stored};
use super::{
    BillKey, NotificationError, NotificationId, NotificationState, Publication, RunFacts, SelectionResult,
    deliver, number, touched,
};
use crate::error::During as _;
use crate::job_log::{self, JobCounts, JobKind, JobStatus};
use crate::locks::Lock;

/// Makes this session the one that chooses and publishes, or rehearses, for the run; false: another one is. What is written
/// is guarded besides: this spares two who do the same work.
///
/// # Errors
/// When the database fails.
pub async fn try_lock_publisher(
    connection: &mut PgConnection,
    id: NotificationId,
) -> Result<bool, NotificationError> {
    let held =
        sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "held!""#, Lock::Publisher(id.0).key())
            .fetch_one(connection)
            .await
            .during("cannot become the run's publisher")?;
    Ok(held)
}

/// Chooses the run's targets, `chunk` bills at a time, and goes on where an earlier call stopped. After each chunk `go_on`
/// is told how many this call has chosen, and says whether to go on.
///
/// # Errors
/// When the database fails; the chunks before stay.
pub async fn select_targets(
    connection: &mut PgConnection,
    run: &RunFacts,
    chunk: i64,
    mut go_on: impl FnMut(i64) -> bool,
) -> Result<SelectionResult, NotificationError> {
    let Some(scope) = scope(connection, run).await? else { return selected(connection, run).await };
    // Whether the scope is a list decides how its bills are found.
    sqlx::query!("select set_config('plan_cache_mode', 'force_custom_plan', false)")
        .fetch_one(&mut *connection)
        .await
        .during("cannot prepare the choosing of targets")?;
    // What nobody will hear of any more may be what this run is about.
    deliver::end_expired_leases_on(connection, run.month).await?;
    let mut after = scope.after;
    let mut chosen = 0;
    loop {
        let bound = chunk_end(connection, run, &scope, after, chunk).await?;
        let step = select_chunk(connection, run, &scope, after, bound.unwrap_or(scope.to)).await?;
        if !step.open {
            return selected(connection, run).await;
        }
        chosen += step.chosen;
        match bound {
            Some(bound) => after = bound,
            None => break,
        }
        if !go_on(chosen) {
            return Ok(SelectionResult::Stopped);
        }
    }
    close_selection(connection, run).await?;
    selected(connection, run).await
}

/// Whose bills are left to be looked at.
struct Scope {
    after: i64,
    to: i64,
    members: Option<Vec<i64>>,
}

async fn scope(connection: &mut PgConnection, run: &RunFacts) -> Result<Option<Scope>, NotificationError> {
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
    Ok(row.map(|row| Scope { after: row.after, to: row.to_member, members: row.member_ids }))
}

struct Step {
    /// The run may still get targets.
    open: bool,
    chosen: i64,
}

/// The member whose bill is the chunk's last; none when there are not so many left. Asked for beforehand: of a range that
/// it can't see the end of, the planner would read and sort all that is left, each time.
async fn chunk_end(
    connection: &mut PgConnection,
    run: &RunFacts,
    scope: &Scope,
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
    scope: &Scope,
    after: i64,
    upto: i64,
) -> Result<Step, NotificationError> {
    let row = sqlx::query!(
        r#"with run as (
               select id from notification where id = $1 and not selected and closed_at is null for key share
           ), page as materialized (
               select l.member_id, l.revision from live_bill l
               where l.month = $2 and l.member_id > $3 and l.member_id <= $4
                 and ($5::bigint[] is null or l.member_id = any($5))
           ), standing as (
               select p.member_id, p.revision, coalesce(d.attempt - (d.state = 'CLAIMED')::int, 0) as attempts,
                      case when d.state = 'CLAIMED' and d.lease_until < clock_timestamp() then coalesce(d.before, 'PENDING')
                           else coalesce(d.state, 'PENDING') end as state
               from page p
               left join delivery d on d.month = $2 and d.member_id = p.member_id and d.revision = p.revision
                                   and d.channel = 'EMAIL'
           ), chosen as (
               insert into notice_target (notification, member_id, revision, after_attempt, month)
               select run.id, s.member_id, s.revision, s.attempts, $2
               from run cross join standing s
               where s.state = case $6 when 'READY' then 'PENDING' else $6 end::delivery_state
                 and ($6 <> 'READY' or not exists (
                     select from delivery o
                     where o.month = $2 and o.member_id = s.member_id and o.revision <> s.revision and o.channel = 'EMAIL'
                       and o.state in ('SENT', 'UNKNOWN', 'HANDED_OVER')))
               on conflict do nothing
               returning 1
           )
           select exists (select from run) as "open!", (select count(*) from chosen) as "chosen!""#,
        run.id.0,
        run.month.to_string(),
        after,
        upto,
        scope.members.as_deref(),
        run.selection.as_str()
    )
    .fetch_one(connection)
    .await
    .during("cannot choose targets")?;
    Ok(Step { open: row.open, chosen: row.chosen })
}

async fn close_selection(connection: &mut PgConnection, run: &RunFacts) -> Result<(), NotificationError> {
    let mut tx = connection.begin().await.during("cannot open the transaction that ends the selection")?;
    // Somebody else who chooses for the run shares its row: counted is when all of them are through.
    let row = close::lock(&mut tx, run.id).await?;
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
    touched("ending the selection", closed.rows_affected(), 1)?;
    tx.commit().await.during("cannot commit the selection")?;
    sqlx::query!("select analyze_notices($1)", run.month.to_string())
        .execute(connection)
        .await
        .during("cannot analyze the targets")?;
    Ok(())
}

async fn selected(
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

/// Opens the round after `after_round` (0: the first) and returns its number. Repeating it changes nothing.
///
/// # Errors
/// When the run is not open, when the round before is not done, or when the database fails.
pub async fn open_round(
    pool: &PgPool,
    id: NotificationId,
    after_round: i32,
) -> Result<i32, NotificationError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that opens a round")?;
    let row = close::lock(&mut tx, id).await?;
    let round = after_round + 1;
    if row.state != NotificationState::Open {
        return Err(NotificationError::WrongState { id: id.0, state: row.state, wanted: "published" });
    }
    if row.round == round {
        return Ok(round);
    }
    let pending = sqlx::query_scalar!(
        r#"select exists (select from publication where notification = $1 and done_at is null) as "pending!""#,
        id.0
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot look for an unfinished publication")?;
    if row.round != after_round || pending {
        return Err(NotificationError::Overtaken { id: id.0, round });
    }
    let detail = json!({ "round": round });
    let job = job_log::start(&mut tx, JobKind::Publish, Some(&row.run), Some(&row.month), &detail).await?;
    sqlx::query!("insert into publication (notification, round, job) values ($1, $2, $3)", id.0, round, job)
        .execute(&mut *tx)
        .await
        .during("cannot write the publication")?;
    let opened = sqlx::query!(
        "update notification set round = $2 where id = $1 and round = $2 - 1 and state = 'OPEN'",
        id.0,
        round
    )
    .execute(&mut *tx)
    .await
    .during("cannot open the round")?;
    touched("opening the round", opened.rows_affected(), 1)?;
    tx.commit().await.during("cannot commit the round")?;
    Ok(round)
}

/// The run's targets without an outcome, by member, after this one.
///
/// # Errors
/// When the database fails.
pub async fn read_open_targets(
    connection: &mut PgConnection,
    run: &RunFacts,
    after: Option<MemberId>,
    limit: i64,
) -> Result<Vec<BillKey>, NotificationError> {
    let rows = sqlx::query!(
        "select member_id, revision from notice_target
         where month = $1 and notification = $2 and member_id > $3 and outcome is null
         order by member_id, revision limit $4",
        run.month.to_string(),
        run.id.0,
        after.map_or(0, MemberId::get),
        limit
    )
    .fetch_all(connection)
    .await
    .during("cannot read the open targets")?;
    rows.into_iter()
        .map(|row| {
            Ok(BillKey {
                member: number("notice_target.member_id", row.member_id)?,
                revision: number("notice_target.revision", row.revision.into())?,
            })
        })
        .collect()
}

/// How far a round came.
///
/// # Errors
/// When there is no such round, or the database fails.
pub async fn read_publication(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
) -> Result<Publication, NotificationError> {
    let row = sqlx::query!(
        r#"select published_to, messages, waiting, opened_at as "opened_at: jiff_sqlx::Timestamp",
                  done_at as "done_at: jiff_sqlx::Timestamp"
           from publication where notification = $1 and round = $2"#,
        id.0,
        round
    )
    .fetch_optional(connection)
    .await
    .during("cannot read the publication")?
    .ok_or_else(|| NotificationError::NotKept(format!("publication {round} of notification {}", id.0)))?;
    Ok(Publication {
        round,
        published_to: row.published_to,
        messages: row.messages,
        waiting: row.waiting,
        opened_at: row.opened_at.to_jiff(),
        done_at: row.done_at.map(jiff_sqlx::Timestamp::to_jiff),
    })
}

/// Writes that everything after `from` up to `to` is acknowledged: so many messages. Returns where the run stands now:
/// unless it is open, nothing more is to be published.
///
/// # Errors
/// [`NotificationError::Overtaken`] when the round is no longer at `from`, as somebody else publishes it, or is done; otherwise
/// when the database fails.
pub async fn save_checkpoint(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
    from: i64,
    to: MemberId,
    messages: i64,
) -> Result<NotificationState, NotificationError> {
    let state = sqlx::query_scalar!(
        "update publication p set published_to = $4, messages = p.messages + $5, waiting = null
         from notification n
         where n.id = p.notification and p.notification = $1 and p.round = $2 and p.published_to = $3 and p.done_at is null
         returning n.state",
        id.0,
        round,
        from,
        to.get(),
        messages
    )
    .fetch_optional(connection)
    .await
    .during("cannot write how far the publication came")?
    .ok_or(NotificationError::Overtaken { id: id.0, round })?;
    NotificationState::parse(&state)
}

/// Writes what the publisher waits for, or that it waits no longer; returns where the run stands now.
///
/// # Errors
/// [`NotificationError::Overtaken`] when the round is done; otherwise when the database fails.
pub async fn record_waiting(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
    what: Option<&str>,
) -> Result<NotificationState, NotificationError> {
    let state = sqlx::query_scalar!(
        "update publication p set waiting = $3
         from notification n
         where n.id = p.notification and p.notification = $1 and p.round = $2 and p.done_at is null
         returning n.state",
        id.0,
        round,
        what
    )
    .fetch_optional(connection)
    .await
    .during("cannot write what the publisher waits for")?
    .ok_or(NotificationError::Overtaken { id: id.0, round })?;
    NotificationState::parse(&state)
}

/// Ends a round of which everything is acknowledged. Repeating it changes nothing.
///
/// # Errors
/// When there is no such round, or the database fails.
pub async fn close_round(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
) -> Result<(), NotificationError> {
    let mut tx = connection.begin().await.during("cannot open the transaction that ends a round")?;
    let closed = sqlx::query!(
        "update publication set done_at = clock_timestamp(), waiting = null
         where notification = $1 and round = $2 and done_at is null returning job, messages",
        id.0,
        round
    )
    .fetch_optional(&mut *tx)
    .await
    .during("cannot end the round")?;
    let Some(closed) = closed else {
        read_publication(&mut tx, id, round).await?;
        return Ok(());
    };
    let counts = JobCounts { succeeded: closed.messages, ..JobCounts::default() };
    job_log::finish(&mut tx, closed.job, JobStatus::Succeeded, counts, &json!({})).await.map_err(stored)?;
    tx.commit().await.during("cannot commit the end of a round")?;
    Ok(())
}
