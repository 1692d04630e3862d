//! The differences that a re-billing posts to a later month: which month bills them, and when a
//! rollback can take them away. What is posted for whom is decided with the outcomes, in
//! [`chunk`](super::chunk).
//!
//! A month that is live, or that an unfinished run holds, has read what is posted to it: nothing is
//! posted to it or taken away from it meanwhile. Both are decided under that month's lock, which no
//! run can take then. Locks of several months are taken in the order of the months.

use domain::ids::Revision;
use domain::month::BillingMonth;
use sqlx::PgConnection;

use super::billing_error::BillingError;
use super::revision::RevisionKey;
use crate::decode::{read_amount, read_number};
use crate::error::During as _;

/// What is posted: a member with a difference of 0 has nothing posted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PostedDifferences {
    pub members: i64,
    /// The sum, in minor units; can exceed 64 bits.
    pub amount: i128,
}

/// Sums what the revision posts, from the table.
pub(super) async fn sum_posted(
    tx: &mut PgConnection,
    key: &RevisionKey,
) -> Result<PostedDifferences, BillingError> {
    let row = sqlx::query!(
        r#"select count(*) as "members!", coalesce(sum(amount), 0)::text as "amount!"
           from posted_difference where month = $1 and revision = $2"#,
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot sum the posted differences")?;
    Ok(PostedDifferences {
        members: row.members,
        amount: read_amount("posted_difference.amount", &row.amount)?,
    })
}

/// Why the differences of a month can't change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Billed {
    /// The highest live revision and its run.
    Live(Revision, String),
    /// The unfinished run that holds the month.
    Held(String),
}

/// The month to which the revision posts its differences: the first later one that takes any, which
/// does so until the transaction ends. None if there are no differences.
pub(super) async fn choose_month(
    tx: &mut PgConnection,
    key: &RevisionKey,
) -> Result<Option<BillingMonth>, BillingError> {
    let posts = sqlx::query_scalar!(
        r#"select exists (select from posted_difference where month = $1 and revision = $2) as "posts!""#,
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot look for posted differences")?;
    if !posts {
        return Ok(None);
    }
    let mut next = key.month.next();
    while let Some(month) = next {
        if lock_unless_billed(tx, month).await?.is_none() {
            return Ok(Some(month));
        }
        next = month.next();
    }
    Err(BillingError::NoLaterMonth { month: key.month, revision: key.revision })
}

/// Keeps the month from being billed until the transaction ends, or returns why that is too late.
pub(super) async fn lock_unless_billed(
    tx: &mut PgConnection,
    month: BillingMonth,
) -> Result<Option<Billed>, BillingError> {
    // First without the lock, which would wait for the transactions of chunks: they share it.
    if let Some(billed) = find_billed(tx, month).await? {
        return Ok(Some(billed));
    }
    sqlx::query!(
        "insert into month_lock (month, fence) values ($1, 0) on conflict do nothing",
        month.to_string()
    )
    .execute(&mut *tx)
    .await
    .during("cannot open the lock of the month of the differences")?;
    sqlx::query_scalar!("select fence from month_lock where month = $1 for update", month.to_string())
        .fetch_one(&mut *tx)
        .await
        .during("cannot lock the month of the differences")?;
    find_billed(tx, month).await
}

async fn find_billed(tx: &mut PgConnection, month: BillingMonth) -> Result<Option<Billed>, BillingError> {
    let live = sqlx::query!(
        r#"select revision as "revision!", run as "run!" from highest_live_revision where month = $1"#,
        month.to_string()
    )
    .fetch_optional(&mut *tx)
    .await
    .during("cannot look for a live revision of the month of the differences")?;
    if let Some(live) = live {
        return Ok(Some(Billed::Live(read_number("revision.revision", live.revision.into())?, live.run)));
    }
    let held = sqlx::query_scalar!("select run from month_lock where month = $1", month.to_string())
        .fetch_optional(tx)
        .await
        .during("cannot read the lock of the month of the differences")?;
    Ok(held.flatten().map(Billed::Held))
}
