//! Rolls a live revision back: one update makes the live revision before it, or none, the month's
//! bills. The bills stay in the history, and what became of their delivery stays recorded.

use domain::ids::Revision;
use domain::month::BillingMonth;
use jiff::Timestamp;
use serde_json::json;
use sqlx::types::Uuid;
use sqlx::{PgConnection, PgPool};

use super::begin_run::Rejection;
use super::billing_error::BillingError;
use super::posted_differences::{Billed, lock_unless_billed};
use crate::decode::{read_month, read_number};
use crate::error::{During as _, StoreError, expect_rows_affected};
use crate::hand_over_lock;
use crate::job_log::{self, JobCounts, JobKind, JobStatus};

/// What a run asks for.
#[derive(Debug, Clone)]
pub struct RollbackRequest<'a> {
    /// `NAMESPACE/NAME`.
    pub run: &'a str,
    /// `metadata.uid`: a run that is deleted and created again is another run.
    pub run_uid: Uuid,
    pub month: BillingMonth,
    /// Must be the month's highest live revision.
    pub revision: Revision,
    pub reason: &'a str,
}

/// The result of [`roll_back_revision`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackResult {
    RolledBack(Rollback),
    Rejected(Rejection),
}

/// A revision that a run has taken back, in this call or in an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    pub month: BillingMonth,
    pub revision: Revision,
    /// The members whose outcome in the revision was live until then: all of a first billing, those
    /// of a re-billing whose outcome it had changed.
    pub outcomes: i64,
    /// The live revision below it, which counts again.
    pub live_again: Option<Revision>,
    pub rolled_back_at: Timestamp,
    /// The database's clock when this was read.
    pub now: Timestamp,
}

/// Takes the revision back if it is the month's highest live one, no run holds the month, and no
/// later month has billed what it has posted; otherwise returns why not. All of it is one
/// transaction, whose cost does not depend on the number of bills. A repeated call for the same run
/// changes nothing and returns the same.
///
/// # Errors
/// When the database fails; then nothing was written.
pub async fn roll_back_revision(
    pool: &PgPool,
    request: &RollbackRequest<'_>,
) -> Result<RollbackResult, BillingError> {
    let mut tx = pool.begin().await.during("cannot open the transaction that rolls back")?;
    let month = request.month;
    // First without the lock, which would wait for the transactions of chunks: they share it.
    if let Some(answer) = find_answer(&mut tx, request).await? {
        return Ok(answer);
    }
    lock_month(&mut tx, month).await?;
    if let Some(answer) = find_answer(&mut tx, request).await? {
        return Ok(answer);
    }
    let live = lock_live_revision(&mut tx, month).await?;
    let Some(live) = live.as_ref().filter(|live| live.revision == request.revision) else {
        let live = live.map(|live| (live.revision, live.run));
        return Ok(RollbackResult::Rejected(Rejection::RevisionConflict {
            month,
            asked: request.revision,
            live,
        }));
    };
    if let Some(rejection) = find_billed_differences(&mut tx, month, live).await? {
        return Ok(RollbackResult::Rejected(rejection));
    }
    hand_over_lock::hold(&mut tx, month).await?;
    let done = write_rollback(&mut tx, request, live).await?;
    tx.commit().await.during("cannot commit the rollback")?;
    Ok(RollbackResult::RolledBack(done))
}

/// Reads what the run has taken back; none when it has not.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn observe_rollback(pool: &PgPool, run_uid: Uuid) -> Result<Option<Rollback>, BillingError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    find_rollback(&mut connection, run_uid).await
}

async fn find_rollback(
    connection: &mut PgConnection,
    run_uid: Uuid,
) -> Result<Option<Rollback>, BillingError> {
    let Some(row) = sqlx::query!(
        r#"select k.month, k.revision, j.succeeded as outcomes, k.rolled_back_at as "rolled_back_at: jiff_sqlx::Timestamp",
                  (select max(revision) from revision below
                   where below.month = k.month and below.revision < k.revision and below.state = 'LIVE') as live_again,
                  clock_timestamp() as "now!: jiff_sqlx::Timestamp"
           from rollback k join job_log j on j.id = k.job
           where k.run_uid = $1"#,
        run_uid
    )
    .fetch_optional(connection)
    .await
    .during("cannot read the run's rollback")?
    else {
        return Ok(None);
    };
    let revision = |number: i32| read_number("revision.revision", number.into());
    Ok(Some(Rollback {
        month: read_month("rollback.month", &row.month)?,
        revision: revision(row.revision)?,
        outcomes: row.outcomes,
        live_again: row.live_again.map(revision).transpose()?,
        rolled_back_at: row.rolled_back_at.to_jiff(),
        now: row.now.to_jiff(),
    }))
}

/// The result that needs no rollback: the run has rolled back already, or another run holds the
/// month.
async fn find_answer(
    tx: &mut PgConnection,
    request: &RollbackRequest<'_>,
) -> Result<Option<RollbackResult>, BillingError> {
    if let Some(done) = find_rollback(tx, request.run_uid).await? {
        return Ok(Some(RollbackResult::RolledBack(done)));
    }
    let month = request.month;
    let held = sqlx::query_scalar!("select run from month_lock where month = $1", month.to_string())
        .fetch_optional(tx)
        .await
        .during("cannot read the month's lock")?;
    Ok(held.flatten().map(|by| RollbackResult::Rejected(Rejection::MonthLocked { month, by })))
}

/// Waits until no other transaction plans or closes this month, and keeps others from it until this
/// one ends. A month without a lock was never billed.
async fn lock_month(tx: &mut PgConnection, month: BillingMonth) -> Result<(), BillingError> {
    sqlx::query_scalar!("select fence from month_lock where month = $1 for update", month.to_string())
        .fetch_optional(tx)
        .await
        .during("cannot take the month's lock")?;
    Ok(())
}

/// The month's highest live revision.
struct LiveRevision {
    revision: Revision,
    run: String,
    /// The later month to which it has posted differences.
    posts_to: Option<BillingMonth>,
    /// As its completed row of `job_log` has them, so that nothing is counted again.
    outcomes: i64,
}

async fn lock_live_revision(
    tx: &mut PgConnection,
    month: BillingMonth,
) -> Result<Option<LiveRevision>, BillingError> {
    let row = sqlx::query!(
        r#"select r.revision, r.run, r.posts_to, coalesce((j.detail->>'changed')::bigint, j.succeeded + j.failed) as "outcomes!"
           from revision r join job_log j on j.id = r.job
           where r.month = $1 and r.state = 'LIVE' order by r.revision desc limit 1 for update of r"#,
        month.to_string()
    )
    .fetch_optional(tx)
    .await
    .during("cannot look for a live revision")?;
    row.map(|row| {
        Ok(LiveRevision {
            revision: read_number("revision.revision", row.revision.into())?,
            run: row.run,
            posts_to: row.posts_to.map(|month| read_month("revision.posts_to", &month)).transpose()?,
            outcomes: row.outcomes,
        })
    })
    .transpose()
}

/// What the revision has posted is taken away with it. Why that is too late, if it is.
async fn find_billed_differences(
    tx: &mut PgConnection,
    month: BillingMonth,
    live: &LiveRevision,
) -> Result<Option<Rejection>, BillingError> {
    let Some(posts_to) = live.posts_to else { return Ok(None) };
    Ok(lock_unless_billed(tx, posts_to).await?.map(|billed| match billed {
        Billed::Held(by) => Rejection::MonthLocked { month: posts_to, by },
        Billed::Live(by_revision, by) => {
            Rejection::DifferencesBilled { month, revision: live.revision, posts_to, by_revision, by }
        }
    }))
}

/// Writes everything: the revision's state, the row of `rollback`, and a completed row of
/// `job_log`, in members.
async fn write_rollback(
    tx: &mut PgConnection,
    request: &RollbackRequest<'_>,
    live: &LiveRevision,
) -> Result<Rollback, BillingError> {
    let month = request.month.to_string();
    let detail = json!({
        "runUid": request.run_uid.to_string(), "revision": live.revision.get(), "reason": request.reason,
    });
    let job = job_log::start(&mut *tx, JobKind::Rollback, Some(request.run), Some(&month), &detail).await?;
    let taken_back = sqlx::query!(
        "with taken_back as (
             update revision set state = 'ROLLED_BACK', closed_at = clock_timestamp(), reason = $5
             where month = $1 and revision = $2 and state = 'LIVE'
             returning month, revision, reason, closed_at)
         insert into rollback (month, revision, run, run_uid, reason, job, rolled_back_at)
         select month, revision, $3, $4, reason, $6, closed_at from taken_back",
        month,
        live.revision.get(),
        request.run,
        request.run_uid,
        request.reason,
        job
    )
    .execute(&mut *tx)
    .await
    .during("cannot roll the revision back")?;
    expect_rows_affected("rolling the revision back", taken_back.rows_affected(), 1)?;
    let counts = JobCounts { succeeded: live.outcomes, ..JobCounts::default() };
    job_log::finish(&mut *tx, job, JobStatus::Succeeded, counts, &json!({})).await?;
    let written = find_rollback(tx, request.run_uid).await?;
    let missing = StoreError::RowsAffected { operation: "reading the rollback", rows: 0, expected: 1 };
    Ok(written.ok_or(missing)?)
}
