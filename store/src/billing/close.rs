//! The end of a run: its draft becomes live or is rejected, the job log is completed, the month is free again. One
//! transaction whose cost does not depend on the number of bills.

use sqlx::{PgConnection, PgPool};

use super::{BillingError, EndStatus, RevisionKey, RevisionState, touched, verify};
use crate::error::During as _;

/// Makes the draft the month's live revision. `decided_by` is who approved it, where somebody had to. Repeating it
/// changes nothing.
///
/// # Errors
/// When the draft was not verified or a check failed, when the run no longer holds the month, when the revision was
/// closed otherwise, or when the database fails.
pub async fn issue_revision(
    pool: &PgPool,
    key: &RevisionKey,
    decided_by: Option<&str>,
) -> Result<(), BillingError> {
    let mut tx = pool.begin().await.during("cannot open the issuing transaction")?;
    let held = lock(&mut tx, key).await?;
    match state(&mut tx, key).await? {
        RevisionState::Draft => {}
        RevisionState::Live => return Ok(()),
        state => return Err(wrong_state(key, state, "issued")),
    }
    if !held {
        return Err(BillingError::fenced(key));
    }
    verify::assert_passed(&mut tx, key).await?;
    let issued = sqlx::query!(
        "update revision set state = 'LIVE', issued_at = clock_timestamp(), decided_by = $4
         where month = $1 and revision = $2 and fence = $3 and state = 'DRAFT'",
        key.month.to_string(),
        key.revision.get(),
        key.fence,
        decided_by
    )
    .execute(&mut *tx)
    .await
    .during("cannot issue the revision")?;
    touched("issuing the revision", issued.rows_affected(), 1)?;
    finish_job(&mut tx, key, None).await?;
    release(&mut tx, key).await?;
    tx.commit().await.during("cannot commit the issuing")?;
    Ok(())
}

/// Turns the draft down and frees the month; its bills stay in the history. Repeating it changes nothing, and a revision
/// that is live stays so.
///
/// # Errors
/// When the revision is live or rolled back, or when the database fails.
pub async fn reject_revision(
    pool: &PgPool,
    key: &RevisionKey,
    reason: &str,
    ending: EndStatus,
) -> Result<(), BillingError> {
    let mut tx = pool.begin().await.during("cannot open the rejecting transaction")?;
    let held = lock(&mut tx, key).await?;
    match state(&mut tx, key).await? {
        RevisionState::Draft => {}
        RevisionState::Rejected => return Ok(()),
        state => return Err(wrong_state(key, state, "rejected")),
    }
    let rejected = sqlx::query!(
        "update revision set state = 'REJECTED', closed_at = clock_timestamp(), reason = $4
         where month = $1 and revision = $2 and run_uid = $3 and state = 'DRAFT'",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid,
        reason
    )
    .execute(&mut *tx)
    .await
    .during("cannot reject the revision")?;
    touched("rejecting the revision", rejected.rows_affected(), 1)?;
    finish_job(&mut tx, key, Some((ending, reason))).await?;
    if held {
        release(&mut tx, key).await?;
    }
    tx.commit().await.during("cannot commit the rejecting")?;
    Ok(())
}

/// Waits for the chunks in hand, whose transactions share this row, and tells whether the run still holds the month.
async fn lock(tx: &mut PgConnection, key: &RevisionKey) -> Result<bool, BillingError> {
    let held = sqlx::query_scalar!(
        r#"select coalesce(fence = $2 and run_uid = $3, false) as "held!" from month_lock where month = $1 for update"#,
        key.month.to_string(),
        key.fence,
        key.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot take the month's lock")?;
    Ok(held.unwrap_or(false))
}

async fn state(tx: &mut PgConnection, key: &RevisionKey) -> Result<RevisionState, BillingError> {
    let state = sqlx::query_scalar!(
        "select state from revision where month = $1 and revision = $2 and run_uid = $3 for update",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot read the revision")?;
    let Some(state) = state else {
        return Err(BillingError::NoSuchRevision {
            month: key.month,
            revision: key.revision,
            run_uid: key.run_uid,
        });
    };
    RevisionState::parse(&state)
}

fn wrong_state(key: &RevisionKey, state: RevisionState, wanted: &'static str) -> BillingError {
    BillingError::WrongState { month: key.month, revision: key.revision, state, wanted }
}

/// Completes the run's row of the job log, in members: a billed one succeeded, a quarantined one failed, and one that no
/// chunk reached was skipped.
async fn finish_job(
    tx: &mut PgConnection,
    key: &RevisionKey,
    ended: Option<(EndStatus, &str)>,
) -> Result<(), BillingError> {
    let (status, reason) = match ended {
        None => (None, None),
        Some((EndStatus::Cancelled, reason)) => (Some("CANCELLED"), Some(reason)),
        Some((EndStatus::Failed, reason)) => (Some("FAILED"), Some(reason)),
    };
    let finished = sqlx::query!(
        r#"with done as (
               select coalesce(sum(billed), 0)::bigint as billed, coalesce(sum(quarantined), 0)::bigint as quarantined,
                      coalesce(sum(rated_usage), 0)::bigint as rated, coalesce(sum(unbillable_usage), 0)::bigint as unbillable,
                      coalesce(sum(quarantined_usage), 0)::bigint as quarantined_usage,
                      coalesce(sum(total_amount), 0)::text as total
               from chunk where month = $1 and revision = $2
           )
           update job_log j
           set ended_at = clock_timestamp(),
               status = coalesce($3, case when done.quarantined = 0 then 'SUCCEEDED' else 'COMPLETED_WITH_FAILURES' end),
               succeeded = done.billed, failed = done.quarantined,
               skipped = greatest(r.members - done.billed - done.quarantined, 0),
               total = greatest(r.members, done.billed + done.quarantined),
               detail = j.detail || jsonb_strip_nulls(jsonb_build_object(
                   'revision', r.revision, 'digest', r.digest, 'lateUsage', r.late_usage, 'ratedUsage', done.rated,
                   'unbillableUsage', done.unbillable, 'quarantinedUsage', done.quarantined_usage,
                   'totalAmount', done.total, 'reason', $4::text))
           from revision r, done
           where r.month = $1 and r.revision = $2 and j.id = r.job and j.status = 'RUNNING'"#,
        key.month.to_string(),
        key.revision.get(),
        status,
        reason
    )
    .execute(tx)
    .await
    .during("cannot complete the run's row of the job log")?;
    touched("completing the run's row of the job log", finished.rows_affected(), 1)
}

async fn release(tx: &mut PgConnection, key: &RevisionKey) -> Result<(), BillingError> {
    let released = sqlx::query!(
        "update month_lock set run = null, run_uid = null, since = now()
         where month = $1 and fence = $2 and run_uid = $3",
        key.month.to_string(),
        key.fence,
        key.run_uid
    )
    .execute(tx)
    .await
    .during("cannot free the month")?;
    touched("freeing the month", released.rows_affected(), 1)
}
