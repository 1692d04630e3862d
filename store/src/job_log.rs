//! `job_log`: one row for each job, written when the job starts and completed when it ends. A job
//! that is one process holds an advisory lock in its session; if the lock is free and the row is
//! not complete, the process died and the row is closed as FAILED.

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _, StoreError};
use crate::locks::Lock;

/// The kinds of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Seed,
    Load,
    Billing,
    /// One revision is taken back.
    Rollback,
    /// One round of publishing the open targets of a notification.
    Publish,
    Send,
    Recovery,
    Rehearsal,
}

impl JobKind {
    pub const ALL: [Self; 8] = [
        Self::Seed,
        Self::Load,
        Self::Billing,
        Self::Rollback,
        Self::Publish,
        Self::Send,
        Self::Recovery,
        Self::Rehearsal,
    ];

    /// None for a kind that only another version has.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seed => "SEED",
            Self::Load => "LOAD",
            Self::Billing => "BILLING",
            Self::Rollback => "ROLLBACK",
            Self::Publish => "PUBLISH",
            Self::Send => "SEND",
            Self::Recovery => "RECOVERY",
            Self::Rehearsal => "REHEARSAL",
        }
    }

    /// Whether the job ends with its run, even if the processes that work for it die.
    const fn ends_with_its_run(self) -> bool {
        match self {
            Self::Seed | Self::Load => false,
            Self::Billing
            | Self::Rollback
            | Self::Publish
            | Self::Send
            | Self::Recovery
            | Self::Rehearsal => true,
        }
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    Succeeded,
    CompletedWithFailures,
    Failed,
    Cancelled,
}

impl JobStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "SUCCEEDED",
            Self::CompletedWithFailures => "COMPLETED_WITH_FAILURES",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// The units of a job by result; they add up to its total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    pub succeeded: i64,
    pub failed: i64,
    pub skipped: i64,
}

impl JobCounts {
    #[must_use]
    pub const fn total(self) -> i64 {
        self.succeeded + self.failed + self.skipped
    }
}

/// Writes the row of a job that starts, in the transaction of `connection`, and returns its id.
///
/// # Errors
/// When the database fails.
pub async fn start(
    connection: &mut PgConnection,
    kind: JobKind,
    run: Option<&str>,
    month: Option<&str>,
    detail: &Value,
) -> Result<i64, DatabaseError> {
    sqlx::query_scalar!(
        "insert into job_log (kind, run, month, detail) values ($1, $2, $3, $4) returning id",
        kind.as_str(),
        run,
        month,
        detail,
    )
    .fetch_one(connection)
    .await
    .during("cannot write the job's row to job_log")
}

/// Marks the job as alive as long as this session lasts. Must be called in the transaction that
/// writes the row, so that no other session sees the row without the lock.
///
/// # Errors
/// When the database fails.
pub async fn hold_process_lock(connection: &mut PgConnection, job: i64) -> Result<(), DatabaseError> {
    sqlx::query!("select pg_advisory_lock($1)", Lock::Job(job).key())
        .execute(connection)
        .await
        .during("cannot mark the job as alive")?;
    Ok(())
}

/// Writes `progress` to the detail of a running job, where a process that waits for the job reads
/// it.
///
/// # Errors
/// When the database fails.
pub async fn update_progress(
    connection: &mut PgConnection,
    job: i64,
    progress: &Value,
) -> Result<(), DatabaseError> {
    sqlx::query!(
        "update job_log set detail = detail || $2 where id = $1 and status = 'RUNNING'",
        job,
        json!({ "progress": progress }),
    )
    .execute(connection)
    .await
    .during("cannot write the job's progress to job_log")?;
    Ok(())
}

/// Completes the row of a job, in the transaction of `connection`. `detail` is merged into the
/// stored detail, and the progress is removed.
///
/// # Errors
/// When the database fails, or the row is complete already.
pub async fn finish(
    connection: &mut PgConnection,
    job: i64,
    status: JobStatus,
    counts: JobCounts,
    detail: &Value,
) -> Result<(), StoreError> {
    let done = sqlx::query!(
        "update job_log
         set status = $2, ended_at = clock_timestamp(), total = $3, succeeded = $4, failed = $5, skipped = $6,
             detail = (detail - 'progress') || $7
         where id = $1 and status = 'RUNNING'",
        job,
        status.as_str(),
        counts.total(),
        counts.succeeded,
        counts.failed,
        counts.skipped,
        detail,
    )
    .execute(connection)
    .await
    .during("cannot complete the job's row in job_log")?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::State(format!(
            "row {job} of job_log is complete already: another process took this one for dead"
        )))
    }
}

/// For how many seconds the oldest job of each kind has been running. A kind without a running job is
/// left out.
///
/// # Errors
/// When the database fails.
pub async fn read_open_ages(connection: &mut PgConnection) -> Result<Vec<(JobKind, i64)>, DatabaseError> {
    let rows = sqlx::query!(
        r#"select kind, greatest(extract(epoch from clock_timestamp() - min(started_at)), 0)::bigint as "age!"
           from job_log where status = 'RUNNING' group by kind"#
    )
    .fetch_all(connection)
    .await
    .during("cannot read which jobs are running")?;
    Ok(rows.into_iter().filter_map(|row| Some((JobKind::parse(&row.kind)?, row.age))).collect())
}

/// When the last job of each kind succeeded. A kind of which none has is left out. Reads the whole
/// `job_log`, which has a row for each job and none for a member.
///
/// # Errors
/// When the database fails.
pub async fn read_last_successes(
    connection: &mut PgConnection,
) -> Result<Vec<(JobKind, Timestamp)>, DatabaseError> {
    let rows = sqlx::query!(
        r#"select kind, max(ended_at) as "ended_at!: jiff_sqlx::Timestamp"
           from job_log where status = 'SUCCEEDED' group by kind"#
    )
    .fetch_all(connection)
    .await
    .during("cannot read when jobs succeeded last")?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((JobKind::parse(&row.kind)?, row.ended_at.to_jiff())))
        .collect())
}

/// Closes the rows of jobs of these kinds whose process died, as FAILED, and returns their ids.
/// Kinds that end with their run are ignored: no process holds their lock.
///
/// # Errors
/// When the database fails.
pub async fn fail_dead_jobs(
    connection: &mut PgConnection,
    kinds: &[JobKind],
) -> Result<Vec<i64>, DatabaseError> {
    const OPERATION: &str = "cannot close the rows of dead jobs in job_log";
    let kinds: Vec<String> =
        kinds.iter().filter(|kind| !kind.ends_with_its_run()).map(|kind| kind.as_str().to_owned()).collect();
    let running = sqlx::query_scalar!(
        "select id from job_log where status = 'RUNNING' and kind = any($1) order by id",
        &kinds
    )
    .fetch_all(&mut *connection)
    .await
    .during(OPERATION)?;
    let mut closed = Vec::new();
    // One statement for each: a lock can only be tested by taking it, and dead jobs are few.
    for job in running {
        let free = sqlx::query_scalar!(r#"select pg_try_advisory_lock($1) as "free!""#, Lock::Job(job).key())
            .fetch_one(&mut *connection)
            .await
            .during(OPERATION)?;
        if !free {
            continue;
        }
        let done = sqlx::query!(
            "update job_log
             set status = 'FAILED', ended_at = clock_timestamp(), total = succeeded + failed + skipped,
                 detail = detail || '{\"error\": \"the process died before the end\"}'
             where id = $1 and status = 'RUNNING'",
            job,
        )
        .execute(&mut *connection)
        .await
        .during(OPERATION);
        sqlx::query_scalar!("select pg_advisory_unlock($1)", Lock::Job(job).key())
            .fetch_one(&mut *connection)
            .await
            .during(OPERATION)?;
        if done?.rows_affected() == 1 {
            closed.push(job);
        }
    }
    Ok(closed)
}
