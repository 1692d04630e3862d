//! What issuing and rejecting a revision have in common: both lock the month and the revision,
//! complete the row of `job_log` and free the month, in one transaction whose cost does not depend
//! on the number of bills.

use sqlx::PgConnection;

use super::billing_error::BillingError;
use super::revision::{RevisionKey, RevisionState};
use crate::error::{During as _, expect_rows_affected};

/// How `job_log` records a run that ended without issuing its revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndStatus {
    /// The run was deleted, or its draft was rejected.
    Cancelled,
    /// The run could not be completed.
    Failed,
}

/// Locks the month, which waits for the transactions of chunks, and returns whether the run still
/// holds it.
pub(super) async fn lock_month(tx: &mut PgConnection, key: &RevisionKey) -> Result<bool, BillingError> {
    let held = sqlx::query_scalar!(
        r#"select coalesce(fence = $2 and run_uid = $3, false) as "held!" from month_lock where month = $1 for update"#,
        key.month.to_string(),
        key.fence,
        key.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot lock the month")?;
    Ok(held.unwrap_or(false))
}

/// Locks the revision and returns its state.
pub(super) async fn lock_revision(
    tx: &mut PgConnection,
    key: &RevisionKey,
) -> Result<RevisionState, BillingError> {
    let state = sqlx::query_scalar!(
        "select state from revision where month = $1 and revision = $2 and run_uid = $3 for update",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot read the revision")?;
    let Some(state) = state else { return Err(BillingError::no_such_revision(key)) };
    Ok(RevisionState::parse(&state)?)
}

/// Completes the run's row of `job_log`, in members: a billed member counts as succeeded, a
/// quarantined one as failed, and one whose chunk is not done as skipped.
pub(super) async fn complete_job(
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
                      coalesce(sum(changed), 0)::bigint as changed, coalesce(sum(posted), 0)::bigint as posted,
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
                   'totalAmount', done.total, 'changed', case when r.of_revision is not null then done.changed end,
                   'posted', nullif(done.posted, 0), 'postsTo', r.posts_to,
                   'reason', $4::text))
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
    Ok(expect_rows_affected("completing the run's row of the job log", finished.rows_affected(), 1)?)
}

pub(super) async fn free_month(tx: &mut PgConnection, key: &RevisionKey) -> Result<(), BillingError> {
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
    Ok(expect_rows_affected("freeing the month", released.rows_affected(), 1)?)
}
