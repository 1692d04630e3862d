//! Issues a revision: one update makes its outcomes the live ones of their members.

use sqlx::{PgConnection, PgPool};

use super::billing_error::BillingError;
use super::close_revision::{complete_job, free_month, lock_month, lock_revision};
use super::posted_differences;
use super::revision::{RevisionKey, RevisionState};
use super::verify_revision::assert_verified;
use crate::decode::read_number;
use crate::error::{During as _, expect_rows_affected};
use crate::hand_over_lock;

/// Makes the draft the month's live revision, and posts its differences to a later month.
/// `decided_by` is the person who approved it, if an approval was required. A repeated call changes
/// nothing.
///
/// # Errors
/// When the draft was not verified or a check failed, when the run no longer holds the month, when
/// the revision was rejected, when the revision that it bills again is no longer the highest live
/// one, when no later month is left for its differences, or when the database fails.
pub async fn issue_revision(
    pool: &PgPool,
    key: &RevisionKey,
    decided_by: Option<&str>,
) -> Result<(), BillingError> {
    let mut tx = pool.begin().await.during("cannot open the issuing transaction")?;
    let held = lock_month(&mut tx, key).await?;
    match lock_revision(&mut tx, key).await? {
        RevisionState::Draft => {}
        RevisionState::Live => return Ok(()),
        state => return Err(BillingError::wrong_state(key, state, "issued")),
    }
    if !held {
        return Err(BillingError::fenced(key));
    }
    assert_verified(&mut tx, key).await?;
    assert_over_live_revision(&mut tx, key).await?;
    let posts_to = posted_differences::choose_month(&mut tx, key).await?;
    hand_over_lock::hold(&mut tx, key.month).await?;
    let issued = sqlx::query!(
        "update revision set state = 'LIVE', issued_at = clock_timestamp(), decided_by = $4, posts_to = $5
         where month = $1 and revision = $2 and fence = $3 and state = 'DRAFT'",
        key.month.to_string(),
        key.revision.get(),
        key.fence,
        decided_by,
        posts_to.map(|month| month.to_string())
    )
    .execute(&mut *tx)
    .await
    .during("cannot issue the revision")?;
    expect_rows_affected("issuing the revision", issued.rows_affected(), 1)?;
    complete_job(&mut tx, key, None).await?;
    free_month(&mut tx, key).await?;
    tx.commit().await.during("cannot commit the issuing")?;
    Ok(())
}

/// Fails unless the highest live revision is the one that the draft bills again; for a first
/// billing, unless no revision is live. No other transaction issues or rolls back, as this one has
/// locked the month.
async fn assert_over_live_revision(tx: &mut PgConnection, key: &RevisionKey) -> Result<(), BillingError> {
    let row = sqlx::query!(
        "select of_revision, (select max(revision) from revision where month = $1 and state = 'LIVE') as live
         from revision where month = $1 and revision = $2",
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot read the highest live revision")?;
    if row.of_revision == row.live {
        return Ok(());
    }
    let read = |number: Option<i32>| {
        number.map(|number| read_number("revision.revision", number.into())).transpose()
    };
    let (over, live) = (read(row.of_revision)?, read(row.live)?);
    Err(BillingError::NotOverLiveRevision { month: key.month, revision: key.revision, over, live })
}
