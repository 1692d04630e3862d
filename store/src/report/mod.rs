//! What people read with `monthend explain`, `status`, `log` and `late`. Reads only, and nothing of the
//! person: each function reads by keys or from figures that are kept, so that its cost does not depend on the
//! number of members, except where it says so.

mod batches;
mod deliveries;
mod explained_member;
mod late_loads;
mod revisions;

use sqlx::PgConnection;

pub use self::batches::{Batch, read_batches};
pub use self::deliveries::{DeliveryCounts, NotificationRow, count_deliveries, read_notifications};
pub use self::explained_member::{
    ChunkState, MemberOutcome, Posted, UsageRecord, UsageSpanRow, find_outcome, find_revision, read_chunk_of,
    read_posted, read_reasons, read_usage_records, read_usage_spans,
};
pub use self::late_loads::{LateLoad, count_late_members, find_highest_live, read_late_loads};
pub use self::revisions::{
    MonthCounts, RevisionRow, ShardRow, read_month_amounts, read_revisions, read_shards,
};
use crate::error::{DatabaseError, During as _};

/// Sets what a connection needs that reads a month as a whole. These statements are few, and compiling one of
/// them takes longer than it saves.
///
/// # Errors
/// When the database fails.
pub async fn prepare_connection(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    sqlx::query!("select set_config('jit', 'off', false) as jit")
        .fetch_one(connection)
        .await
        .during("cannot prepare the connection")?;
    Ok(())
}
