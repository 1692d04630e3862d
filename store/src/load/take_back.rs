//! Takes a load back: an event in the sequence of loads, from whose number on the rows of the other
//! load do not count. No row is changed or deleted.

use domain::ids::Revision;
use domain::month::BillingMonth;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::decode::{read_month, read_number};
use crate::error::{During as _, StoreError, expect_rows_affected};
use crate::job_log::{self, JobCounts, JobKind, JobStatus};

/// The result of [`take_back_load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeBackResult {
    TakenBack(TakenBack),
    /// It was taken back before, by this load; nothing was changed.
    AlreadyTakenBack {
        by: i64,
    },
    Rejected(TakeBackRejection),
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenBack {
    /// The number of the take-back.
    pub by: i64,
    pub kind: String,
    pub source: String,
    /// The number of rows that no longer count, by file.
    pub rows: Vec<(String, i64)>,
    /// The live months of which bills can be made of these rows, each with its highest live revision.
    pub billed: Vec<(BillingMonth, Revision)>,
    /// Later loads that skipped lines because they were loaded already, maybe by this load.
    pub skipped_by: Vec<i64>,
}

/// Why a load can't be taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TakeBackRejection {
    #[error("there is no load {number}; the view loads lists them")]
    NoSuchLoad { number: i64 },
    #[error("load {number} did not finish, so nothing of it counts and there is nothing to take back")]
    NotFinished { number: i64 },
    #[error(
        "load {number} is a take-back of load {of}, which cannot be taken back itself: load the folder of load {of} again"
    )]
    IsTakeBack { number: i64, of: i64 },
}

/// Takes a finished load back, as the next load of the sequence. The session must hold the lock of
/// loads. A repeated call changes nothing.
///
/// # Errors
/// When the database fails; then nothing was changed.
pub async fn take_back_load(
    connection: &mut PgConnection,
    number: i64,
    reason: Option<&str>,
) -> Result<TakeBackResult, StoreError> {
    const OPERATION: &str = "cannot take the load back";
    let mut tx = connection.begin().await.during(OPERATION)?;
    let Some(load) = sqlx::query!(
        r#"select kind, source, state, taken_back_by,
                  (select number from load t where t.taken_back_by = l.number) as of
           from load l where number = $1"#,
        number
    )
    .fetch_optional(&mut *tx)
    .await
    .during(OPERATION)?
    else {
        return Ok(TakeBackResult::Rejected(TakeBackRejection::NoSuchLoad { number }));
    };
    if let Some(of) = load.of {
        return Ok(TakeBackResult::Rejected(TakeBackRejection::IsTakeBack { number, of }));
    }
    if let Some(by) = load.taken_back_by {
        return Ok(TakeBackResult::AlreadyTakenBack { by });
    }
    if load.state != "FINISHED" {
        return Ok(TakeBackResult::Rejected(TakeBackRejection::NotFinished { number }));
    }
    let detail = json!({ "takesBack": number, "reason": reason });
    let job = job_log::start(&mut tx, JobKind::Load, None, None, &detail).await?;
    let by = write(&mut tx, job, number, &load.source, reason).await?;
    let rows = read_rows(&mut tx, number).await?;
    let counts = JobCounts { succeeded: rows.iter().map(|(_, rows)| rows).sum(), ..JobCounts::default() };
    job_log::finish(&mut tx, job, JobStatus::Succeeded, counts, &json!({})).await?;
    let taken_back = TakenBack {
        by,
        kind: load.kind,
        source: load.source,
        rows,
        billed: read_billed(&mut tx, number).await?,
        skipped_by: read_skipped_by(&mut tx, number).await?,
    };
    tx.commit().await.during("the COMMIT failed or got no answer: take the load back again to be sure")?;
    Ok(TakeBackResult::TakenBack(taken_back))
}

/// Writes the take-back, marks the load, and returns the number of the take-back.
async fn write(
    tx: &mut PgConnection,
    job: i64,
    number: i64,
    source: &str,
    reason: Option<&str>,
) -> Result<i64, StoreError> {
    const OPERATION: &str = "cannot mark the load as taken back";
    let by = sqlx::query_scalar!(
        "insert into load (number, kind, source, state, job, finished_at, reason)
         select max(number) + 1, 'TAKE_BACK', $1, 'FINISHED', $2, clock_timestamp(), $3 from load returning number",
        source,
        job,
        reason
    )
    .fetch_one(&mut *tx)
    .await
    .during(OPERATION)?;
    let marked = sqlx::query!(
        "update load set taken_back_by = $2
         where number = $1 and state = 'FINISHED' and kind <> 'TAKE_BACK' and taken_back_by is null",
        number,
        by
    )
    .execute(tx)
    .await
    .during(OPERATION)?;
    expect_rows_affected("taking the load back", marked.rows_affected(), 1)?;
    Ok(by)
}

async fn read_rows(tx: &mut PgConnection, number: i64) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = sqlx::query!(
        r#"select file, sum(rows)::bigint as "rows!" from load_total where load = $1
           group by file order by array_position(array['members', 'subscriptions', 'grants', 'adjustments', 'usage'], file)"#,
        number
    )
    .fetch_all(tx)
    .await
    .during("cannot read what the load wrote")?;
    Ok(rows.into_iter().map(|row| (row.file, row.rows)).collect())
}

/// The live months that the load's rows concern and that a revision, which billed some members
/// last, has billed with them. Members concern every month.
async fn read_billed(
    tx: &mut PgConnection,
    number: i64,
) -> Result<Vec<(BillingMonth, Revision)>, StoreError> {
    let rows = sqlx::query!(
        r#"select month as "month!", revision as "revision!" from highest_live_revision r
           where exists (select from last_billing b where b.month = r.month and b.data_cutoff >= $1)
             and exists (select from load_total t where t.load = $1 and r.month between t.from_month and t.to_month)
           order by month"#,
        number
    )
    .fetch_all(tx)
    .await
    .during("cannot read which months the load is billed in")?;
    rows.into_iter()
        .map(|row| {
            Ok((
                read_month("revision.month", &row.month)?,
                read_number("revision.revision", row.revision.into())?,
            ))
        })
        .collect()
}

async fn read_skipped_by(tx: &mut PgConnection, number: i64) -> Result<Vec<i64>, StoreError> {
    let loads = sqlx::query_scalar!(
        "select l.number from load l join job_log j on j.id = l.job
         where l.number > $1 and l.kind = 'LOAD' and l.state = 'FINISHED' and l.taken_back_by is null and j.skipped > 0
         order by 1",
        number
    )
    .fetch_all(tx)
    .await
    .during("cannot read the later loads")?;
    Ok(loads)
}
