//! Keeps hand-overs apart from the transactions that change which bills of a month are live. What a
//! hand-over reads is then still true when it commits, so that no member is handed two bills of a
//! month as the first one.
//!
//! The lock must be taken by a statement of its own: the next statement reads what was committed
//! until then. It is an advisory lock and not a row's, as these are fair: a transaction that issues
//! waits for the hand-overs that have begun, and later ones wait for it.

use domain::month::BillingMonth;
use sqlx::PgConnection;

use crate::error::{DatabaseError, During as _};
use crate::locks::Lock;

/// Waits until no transaction changes which bills of the month are live, and keeps others from it
/// until this one ends.
pub(crate) async fn share(tx: &mut PgConnection, month: BillingMonth) -> Result<(), DatabaseError> {
    sqlx::query!("select pg_advisory_xact_lock_shared($1)", Lock::HandOver(month).key())
        .fetch_one(tx)
        .await
        .during("cannot keep the month's live bills for the hand-over")?;
    Ok(())
}

/// Waits until every hand-over of the month that has begun is committed, and keeps others from
/// beginning until this transaction ends.
pub(crate) async fn hold(tx: &mut PgConnection, month: BillingMonth) -> Result<(), DatabaseError> {
    sqlx::query!("select pg_advisory_xact_lock($1)", Lock::HandOver(month).key())
        .fetch_one(tx)
        .await
        .during("cannot wait for the month's hand-overs")?;
    Ok(())
}
