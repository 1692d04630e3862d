//! Loads and seeds: numbered, one at a time in a database, visible as a whole when they finish.
//! Owns `load`, the staging tables and every statement that writes members, subscriptions, grants,
//! adjustments or usage. Parses no file.
//!
//! A load can be taken back: from the number of the take-back on, its rows do not count
//! ([`DataVersion`]).
//!
//! A load is written by the session that holds the lock. If the session is lost, the load is dead.

mod data_version;
mod merge;
mod newest;
mod stage;
mod take_back;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

pub use self::data_version::DataVersion;
pub(crate) use self::data_version::read_taken_back;
pub use self::merge::{
    Conflict, EarlierContent, StagedMembers, Written, analyze_reference_data, index_usage, merge_staged_rows,
    open_usage_partition, read_conflicts,
};
pub use self::newest::read_newest;
pub use self::stage::{Batch, StagingTable, clear_staging, copy_to_staging};
pub use self::take_back::{TakeBackRejection, TakeBackResult, TakenBack, take_back_load};
use crate::error::{DatabaseError, During as _, StoreError};
use crate::job_log::{self, JobCounts, JobKind, JobStatus};
use crate::locks::Lock;

/// A running load or seed. It belongs to the session that holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartedLoad {
    pub number: i64,
    /// Its row in `job_log`.
    pub job: i64,
}

/// A load or seed that begins.
#[derive(Debug, Clone)]
pub struct NewLoad<'a> {
    pub kind: JobKind,
    pub source: &'a str,
    /// A seed's parameters.
    pub fingerprint: Option<&'a str>,
    /// The month of a seed.
    pub month: Option<&'a str>,
    /// The local dates that it covers; the second one is exclusive.
    pub days: Option<(Date, Date)>,
    /// For `job_log`.
    pub detail: &'a Value,
}

/// The load or seed that holds the lock, as its rows describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct LockHolder {
    pub number: i64,
    pub kind: String,
    pub source: String,
    pub started_at: Timestamp,
    pub detail: Value,
}

/// A load or seed whose process died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLoad {
    pub number: i64,
    pub kind: String,
}

/// Configures the session for bulk work, and takes the lock of loads if it is free.
///
/// # Errors
/// When the database fails.
pub async fn try_lock(connection: &mut PgConnection) -> Result<bool, DatabaseError> {
    const OPERATION: &str = "cannot take the lock of loads";
    // Each statement is executed once, on tables whose current size the planner must consider, with
    // large sorts and hashes.
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

/// Reads the load or seed that is running.
///
/// # Errors
/// When the database fails.
pub async fn read_lock_holder(connection: &mut PgConnection) -> Result<Option<LockHolder>, DatabaseError> {
    let row = sqlx::query!(
        r#"select l.number, l.kind, l.source, l.started_at as "started_at: SqlTimestamp", j.detail
           from load l join job_log j on j.id = l.job
           where l.state = 'RUNNING' order by l.number desc limit 1"#
    )
    .fetch_optional(connection)
    .await
    .during("cannot read which load is running")?;
    Ok(row.map(|row| LockHolder {
        number: row.number,
        kind: row.kind,
        source: row.source,
        started_at: row.started_at.to_jiff(),
        detail: row.detail,
    }))
}

/// Deletes what dead loads and seeds left, and returns them. The caller must hold the lock of
/// loads, so that no other load is alive.
///
/// # Errors
/// When the database fails.
pub async fn clean_up_dead_loads(connection: &mut PgConnection) -> Result<Vec<DeadLoad>, StoreError> {
    const OPERATION: &str = "cannot clean up a dead load";
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

/// Deletes the rows of an unfinished seed. An unfinished LOAD has written to staging tables only,
/// and searching for its rows would read the whole usage.
async fn discard(connection: &mut PgConnection, number: i64, kind: &str) -> sqlx::Result<()> {
    if kind == JobKind::Seed.as_str() {
        // This waits until every session that writes for the seed has ended, so that no row is written
        // after the deletion.
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

/// Begins the next load or seed, with its row of `job_log`. The session must hold the lock.
///
/// # Errors
/// When the database fails.
pub async fn begin_load(
    connection: &mut PgConnection,
    new_load: &NewLoad<'_>,
) -> Result<StartedLoad, StoreError> {
    const OPERATION: &str = "cannot begin the load";
    let mut tx = connection.begin().await.during(OPERATION)?;
    let job = job_log::start(&mut tx, new_load.kind, None, new_load.month, new_load.detail).await?;
    job_log::hold_process_lock(&mut tx, job).await?;
    let number = sqlx::query_scalar!(
        "insert into load (number, kind, source, fingerprint, job, days_from, days_to)
         select coalesce(max(number), 0) + 1, $1, $2, $3, $4, $5, $6 from load returning number",
        new_load.kind.as_str(),
        new_load.source,
        new_load.fingerprint,
        job,
        new_load.days.map(|(from, _)| from.to_sqlx()) as _,
        new_load.days.map(|(_, to)| to.to_sqlx()) as _,
    )
    .fetch_one(&mut *tx)
    .await
    .during(OPERATION)?;
    tx.commit().await.during(OPERATION)?;
    Ok(StartedLoad { number, job })
}

/// Marks the load as finished, in the transaction of `connection`. With the commit the whole load
/// is visible.
///
/// # Errors
/// When the database fails, or another process took the load for dead.
pub async fn finish_load(
    connection: &mut PgConnection,
    load: StartedLoad,
    counts: JobCounts,
    detail: &Value,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "update load set state = 'FINISHED', finished_at = clock_timestamp() where number = $1 and state = 'RUNNING'",
        load.number
    )
    .execute(&mut *connection)
    .await
    .during("cannot finish the load")?;
    if done.rows_affected() != 1 {
        return Err(StoreError::State(format!(
            "another process took load {} for dead and deleted it",
            load.number
        )));
    }
    let status = if counts.failed > 0 { JobStatus::CompletedWithFailures } else { JobStatus::Succeeded };
    job_log::finish(connection, load.job, status, counts, detail).await
}

/// Abandons the load: deletes its rows, and completes its row of `job_log` with the reason.
///
/// # Errors
/// When the database fails; then the next load cleans up.
pub async fn abandon_load(
    connection: &mut PgConnection,
    load: StartedLoad,
    kind: JobKind,
    status: JobStatus,
    counts: JobCounts,
    detail: &Value,
) -> Result<(), StoreError> {
    const OPERATION: &str = "cannot abandon the load";
    let mut tx = connection.begin().await.during(OPERATION)?;
    discard(&mut tx, load.number, kind.as_str()).await.during(OPERATION)?;
    job_log::finish(&mut tx, load.job, status, counts, detail).await?;
    tx.commit().await.during(OPERATION)?;
    clear_staging(connection).await?;
    Ok(())
}

/// Terminates the session of this server process, from another connection.
///
/// # Errors
/// When the database fails.
pub async fn terminate_session(
    connection: &mut PgConnection,
    server_process: i32,
) -> Result<(), DatabaseError> {
    sqlx::query_scalar!("select pg_terminate_backend($1, 10000)", server_process)
        .fetch_one(connection)
        .await
        .during("cannot terminate the session of the load")?;
    Ok(())
}

/// The id of the server process of a connection.
///
/// # Errors
/// When the database fails.
pub async fn read_server_process(connection: &mut PgConnection) -> Result<i32, DatabaseError> {
    sqlx::query_scalar!(r#"select pg_backend_pid() as "pid!""#)
        .fetch_one(connection)
        .await
        .during("cannot read the id of the server process")
}
