//! Publishes the open targets of a run to the topic, in rounds. Each page is one guarded update of
//! the checkpoint: the publisher may be killed at any time, and there may be two.

use domain::ids::MemberId;
use jiff::Timestamp;
use serde_json::json;
use sqlx::{Connection as _, PgConnection, PgPool};

use super::delivery::BillKey;
use super::notification_error::NotificationError;
use super::notification_state::NotificationState;
use super::run::{NotificationId, RunFacts};
use super::run_lock::lock_run;
use crate::decode::read_number;
use crate::error::{During as _, expect_rows_affected};
use crate::job_log::{self, JobCounts, JobKind, JobStatus};
use crate::locks::Lock;

/// One round: the open targets of a run are published once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub round: i32,
    /// The brokers have acknowledged every message up to this member; 0 before the first.
    pub published_to: i64,
    pub messages: i64,
    /// What the publisher waits for, if it waits.
    pub waiting: Option<String>,
    pub opened_at: Timestamp,
    pub done_at: Option<Timestamp>,
}

/// Makes this session the only one that selects and publishes, or rehearses, for the run; returns
/// false if another one is. Every write is guarded without it: the lock saves two processes from
/// doing the same work.
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
            .during("cannot take the publisher's lock")?;
    Ok(held)
}

/// Opens the round after `after_round` (0: the first round) and returns its number. A repeated call
/// changes nothing.
///
/// # Errors
/// When the run is not open, when the round before is not done, or when the database fails.
pub async fn open_round(
    pool: &PgPool,
    id: NotificationId,
    after_round: i32,
) -> Result<i32, NotificationError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that opens a round")?;
    let row = lock_run(&mut tx, id).await?;
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
    expect_rows_affected("opening the round", opened.rows_affected(), 1)?;
    tx.commit().await.during("cannot commit the round")?;
    Ok(round)
}

/// Reads at most `limit` targets without an outcome, sorted by member, after the member `after`.
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
                member: read_number("notice_target.member_id", row.member_id)?,
                revision: read_number("notice_target.revision", row.revision.into())?,
            })
        })
        .collect()
}

/// Reads a round.
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

/// Records that the brokers have acknowledged all messages after `from` up to `to`, and their
/// number. Returns the state of the run: unless it is open, nothing more is to be published.
///
/// # Errors
/// [`NotificationError::Overtaken`] when the checkpoint is no longer at `from`, because another
/// process publishes the round, or when the round is done. Otherwise when the database fails.
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
    .during("cannot save the checkpoint of the publication")?
    .ok_or(NotificationError::Overtaken { id: id.0, round })?;
    Ok(NotificationState::parse(&state)?)
}

/// Records what the publisher waits for, or that it no longer waits. Returns the state of the run.
///
/// # Errors
/// [`NotificationError::Overtaken`] when the round is done; otherwise when the database fails.
pub async fn record_waiting(
    connection: &mut PgConnection,
    id: NotificationId,
    round: i32,
    reason: Option<&str>,
) -> Result<NotificationState, NotificationError> {
    let state = sqlx::query_scalar!(
        "update publication p set waiting = $3
         from notification n
         where n.id = p.notification and p.notification = $1 and p.round = $2 and p.done_at is null
         returning n.state",
        id.0,
        round,
        reason
    )
    .fetch_optional(connection)
    .await
    .during("cannot record what the publisher waits for")?
    .ok_or(NotificationError::Overtaken { id: id.0, round })?;
    Ok(NotificationState::parse(&state)?)
}

/// Closes a round whose messages are all acknowledged. A repeated call changes nothing.
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
    job_log::finish(&mut tx, closed.job, JobStatus::Succeeded, counts, &json!({})).await?;
    tx.commit().await.during("cannot commit the end of a round")?;
    Ok(())
}
