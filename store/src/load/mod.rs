//! Loads and seeds: one at a time in a database, numbered, visible as a whole at their end. Owns `load`, the staging
//! tables and everything written to members, subscriptions, grants, adjustments and usage. Parses no file.
//!
//! All of it happens in the session that holds the lock. When that session is lost, so is the load.

mod merge;
mod stage;

use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

pub use self::merge::{
    Conflict, EarlierContent, Written, analyze_reference_data, index_usage, merge_staged_rows,
    open_usage_partition, read_conflicts,
};
pub use self::stage::{Batch, StagingTable, clear_staging, copy_to_staging};
use crate::error::{DatabaseError, During as _, StoreError};
use crate::job_log::{self, JobCounts, JobKind, JobStatus};
use crate::locks::Lock;

/// A load or seed that has begun, in the session that holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartedLoad {
    pub number: i64,
    /// Its row in `job_log`.
    pub job: i64,
}

/// Who holds the lock, as far as it has told.
#[derive(Debug, Clone, PartialEq)]
pub struct LockHolder {
    pub number: i64,
    pub kind: String,
    pub source: String,
    pub started_at: Timestamp,
    pub detail: Value,
}

/// A load or seed that died before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLoad {
    pub number: i64,
    pub kind: String,
}

/// Makes the session fit for bulk work, and takes the lock if it is free.
///
/// # Errors
/// The database refused.
pub async fn try_lock(connection: &mut PgConnection) -> Result<bool, DatabaseError> {
    const OPERATION: &str = "cannot ask for the lock of loads";
    // Each statement here runs once, on tables whose size the planner must look at; sorts and hashes are large.
    sqlx::raw_sql(
        "set plan_cache_mode = force_custom_plan; set jit = off; set work_mem = '128MB'; set maintenance_work_mem = '512MB'",
    )
    .execute(&mut *connection)
    .await
    .during(OPERATION)?;
    sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "locked!""#, Lock::Load.key())
        .fetch_one(connection)
        .await
        .during(OPERATION)
}

/// The load or seed that is under way.
///
/// # Errors
/// The database refused.
pub async fn read_lock_holder(connection: &mut PgConnection) -> Result<Option<LockHolder>, DatabaseError> {
    let row = sqlx::query!(
        r#"select l.number, l.kind, l.source, l.started_at as "started_at: SqlTimestamp", j.detail
           from load l join job_log j on j.id = l.job
           where l.state = 'RUNNING' order by l.number desc limit 1"#
    )
    .fetch_optional(connection)
    .await
    .during("cannot read which load is under way")?;
    Ok(row.map(|row| LockHolder {
        number: row.number,
        kind: row.kind,
        source: row.source,
        started_at: row.started_at.to_jiff(),
        detail: row.detail,
    }))
}

/// Sweeps away what died: whoever holds the lock knows that no other is alive.
///
/// # Errors
/// The database refused.
pub async fn clean_up_dead_loads(connection: &mut PgConnection) -> Result<Vec<DeadLoad>, StoreError> {
    const OPERATION: &str = "cannot sweep away what a dead load left";
    let dead =
        sqlx::query_as!(DeadLoad, "select number, kind from load where state = 'RUNNING' order by number")
            .fetch_all(&mut *connection)
            .await
            .during(OPERATION)?;
    for load in &dead {
        discard(connection, load.number, &load.kind).await.during(OPERATION)?;
    }
    clear_staging(connection).await?;
    job_log::fail_dead_jobs(connection, &[JobKind::Load, JobKind::Seed]).await?;
    Ok(dead)
}

/// Deletes what an unfinished load brought. A LOAD has written to staging tables only; looking for rows of it would read
/// all usage there is.
async fn discard(connection: &mut PgConnection, number: i64, kind: &str) -> sqlx::Result<()> {
    if kind == JobKind::Seed.as_str() {
        // With the exclusive lock in hand for a moment, none of them is left to write a row after the sweep.
        sqlx::query!("select pg_advisory_xact_lock($1)", Lock::SeedWriters.key())
            .execute(&mut *connection)
            .await?;
        sqlx::query!("select sweep_dead_load($1)", number).execute(connection).await?;
    } else {
        sqlx::query!("update load set state = 'DEAD' where number = $1 and state = 'RUNNING'", number)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Opens the next load or seed, with its row in `job_log`. The session must hold the lock.
///
/// # Errors
/// The database refused.
pub async fn begin_load(
    connection: &mut PgConnection,
    kind: JobKind,
    source: &str,
    fingerprint: Option<&str>,
    month: Option<&str>,
    detail: &Value,
) -> Result<StartedLoad, StoreError> {
    const OPERATION: &str = "cannot open the load";
    let mut tx = connection.begin().await.during(OPERATION)?;
    let job = job_log::start(&mut tx, kind, None, month, detail).await?;
    job_log::hold_process_lock(&mut tx, job).await?;
    let number = sqlx::query_scalar!(
        "insert into load (number, kind, source, fingerprint, job)
         select coalesce(max(number), 0) + 1, $1, $2, $3, $4 from load returning number",
        kind.as_str(),
        source,
        fingerprint,
        job,
    )
    .fetch_one(&mut *tx)
    .await
    .during(OPERATION)?;
    tx.commit().await.during(OPERATION)?;
    Ok(StartedLoad { number, job })
}

/// Marks the load as finished, in the transaction of `connection`: with its commit the load is visible, as a whole.
///
/// # Errors
/// The database refused, or the load is no longer this session's.
pub async fn finish_load(
    connection: &mut PgConnection,
    begun: StartedLoad,
    counts: JobCounts,
    detail: &Value,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "update load set state = 'FINISHED', finished_at = clock_timestamp() where number = $1 and state = 'RUNNING'",
        begun.number
    )
    .execute(&mut *connection)
    .await
    .during("cannot finish the load")?;
    if done.rows_affected() != 1 {
        return Err(StoreError::State(format!("load {} was taken for dead and swept away", begun.number)));
    }
    let status = if counts.failed > 0 { JobStatus::CompletedWithFailures } else { JobStatus::Succeeded };
    job_log::finish(connection, begun.job, status, counts, detail).await
}

/// Gives the load up: what it brought is deleted, and its row in `job_log` says why.
///
/// # Errors
/// The database refused; the next load does the same then.
pub async fn abandon_load(
    connection: &mut PgConnection,
    begun: StartedLoad,
    kind: JobKind,
    status: JobStatus,
    counts: JobCounts,
    detail: &Value,
) -> Result<(), StoreError> {
    const OPERATION: &str = "cannot give the load up";
    let mut tx = connection.begin().await.during(OPERATION)?;
    discard(&mut tx, begun.number, kind.as_str()).await.during(OPERATION)?;
    job_log::finish(&mut tx, begun.job, status, counts, detail).await?;
    tx.commit().await.during(OPERATION)?;
    clear_staging(connection).await?;
    Ok(())
}

/// Ends, from another connection, whatever the session with this server process is doing.
///
/// # Errors
/// The database refused.
pub async fn terminate_session(
    connection: &mut PgConnection,
    server_process: i32,
) -> Result<(), DatabaseError> {
    sqlx::query_scalar!("select pg_terminate_backend($1, 10000)", server_process)
        .fetch_one(connection)
        .await
        .during("cannot interrupt the load's session")?;
    Ok(())
}

/// The number of the server process behind a connection.
///
/// # Errors
/// The database refused.
pub async fn read_server_process(connection: &mut PgConnection) -> Result<i32, DatabaseError> {
    sqlx::query_scalar!(r#"select pg_backend_pid() as "pid!""#)
        .fetch_one(connection)
        .await
        .during("cannot ask for the server process")
}
