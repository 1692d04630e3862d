//! The connections of processes that select, publish, claim or send.

use secrecy::SecretString;
use sqlx::PgPool;

use crate::error::DatabaseError;
use crate::pool;

/// A pool of at most `max` connections whose planner finds rows by key and plans each statement
/// once.
///
/// # Errors
/// The address can't be read, or the database can't be reached.
pub async fn connect_for_lookups(
    url: &SecretString,
    application: &str,
    max: u32,
) -> Result<PgPool, DatabaseError> {
    // Every statement finds some rows by key among the millions of a month. The planner may have no
    // statistics, as the partition was empty a minute ago, so other plans are switched off.
    // Planning once saves a third of the database's time, and JIT compilation costs more than it
    // saves.
    const LOOK_UP: [(&str, &str); 5] = [
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
    ];
    pool::connect_with(url, application, max, &LOOK_UP).await
}
