//! `job_log`: one row for each batch, written at its start and completed at its end. A batch that belongs to a process
//! holds an advisory lock of its session; once that is free the row of a batch that did not end is closed as FAILED.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _, StoreError};
use crate::locks::Lock;

/// The kinds of batch that this version runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Seed,
    Load,
    Billing,
    /// Putting a notification's open targets on the topic, once.
    Publish,
    Send,
    Recovery,
    Rehearsal,
}

impl JobKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seed => "SEED",
            Self::Load => "LOAD",
            Self::Billing => "BILLING",
            Self::Publish => "PUBLISH",
            Self::Send => "SEND",
            Self::Recovery => "RECOVERY",
            Self::Rehearsal => "REHEARSAL",
        }
    }

    /// Whether it ends with its run, whatever becomes of the processes that work for it.
    const fn ends_with_its_run(self) -> bool {
        match self {
            Self::Seed | Self::Load => false,
            Self::Billing | Self::Publish | Self::Send | Self::Recovery | Self::Rehearsal => true,
        }
    }
}

/// How a batch ended.
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

/// What became of a batch's units; they add up to its total.
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

/// Writes the row of a batch that begins, in the transaction of `connection`, and returns its id.
///
/// # Errors
/// The database refused.
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
    .during("cannot write the batch's row to job_log")
}

/// Marks the batch as alive for as long as this session lives. To be called in the transaction that wrote the row, so
/// that nobody sees the one without the other.
///
/// # Errors
/// The database refused.
pub async fn hold_process_lock(connection: &mut PgConnection, job: i64) -> Result<(), DatabaseError> {
    sqlx::query!("select pg_advisory_lock($1)", Lock::Job(job).key())
        .execute(connection)
        .await
        .during("cannot mark the batch as alive")?;
    Ok(())
}

/// Puts `progress` into the detail of a batch that runs, for whoever waits for it.
///
/// # Errors
/// The database refused.
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
    .during("cannot write the batch's progress to job_log")?;
    Ok(())
}

/// Completes the row of a batch, in the transaction of `connection`. `detail` is added to what is there; progress goes.
///
/// # Errors
/// The database refused, or the row is completed already.
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
    .during("cannot complete the batch's row in job_log")?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::State(format!(
            "job_log row {job} is completed already, by whoever took this process for dead"
        )))
    }
}

/// Closes, as FAILED, the rows of batches of these kinds whose process died; returns their ids. Kinds that end with their
/// run are passed over: no process holds them.
///
/// # Errors
/// The database refused.
pub async fn fail_dead_jobs(
    connection: &mut PgConnection,
    kinds: &[JobKind],
) -> Result<Vec<i64>, DatabaseError> {
    const OPERATION: &str = "cannot close what died in job_log";
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
    // One by one: whether a lock is free is a question to be asked of each, and dead batches are few.
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
