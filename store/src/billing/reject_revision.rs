//! Rejects a revision: its bills stay in the history and are never live.

use sqlx::PgPool;

use super::billing_error::BillingError;
use super::close_revision::{EndStatus, complete_job, free_month, lock_month, lock_revision};
use super::revision::{RevisionKey, RevisionState};
use crate::error::{During as _, expect_rows_affected};

/// Rejects the draft and frees the month. A repeated call changes nothing.
///
/// # Errors
/// When the revision is live or rolled back, or when the database fails.
pub async fn reject_revision(
    pool: &PgPool,
    key: &RevisionKey,
    reason: &str,
    status: EndStatus,
) -> Result<(), BillingError> {
    let mut tx = pool.begin().await.during("cannot open the rejecting transaction")?;
    let held = lock_month(&mut tx, key).await?;
    match lock_revision(&mut tx, key).await? {
        RevisionState::Draft => {}
        RevisionState::Rejected => return Ok(()),
        state => return Err(BillingError::wrong_state(key, state, "rejected")),
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
    expect_rows_affected("rejecting the revision", rejected.rows_affected(), 1)?;
    complete_job(&mut tx, key, Some((status, reason))).await?;
    if held {
        free_month(&mut tx, key).await?;
    }
    tx.commit().await.during("cannot commit the rejecting")?;
    Ok(())
}
