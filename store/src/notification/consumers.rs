//! The processes that send: registration, heartbeats, and what keeps them from sending.

use jiff::Timestamp;
use sqlx::{PgConnection, PgPool};

use super::notification_error::NotificationError;
use crate::error::During as _;

/// The id of a registered consumer: a process that sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub i64);

/// A consumer whose last heartbeat is recent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSeen {
    pub name: String,
    pub transport: String,
    /// What keeps it from sending, if anything does.
    pub trouble: Option<String>,
    pub trouble_since: Option<Timestamp>,
    pub seen_at: Timestamp,
}

/// Registers a process that starts to send.
///
/// # Errors
/// When the database fails.
pub async fn register_consumer(
    connection: &mut PgConnection,
    name: &str,
    transport: &str,
) -> Result<ConsumerId, NotificationError> {
    let id = sqlx::query_scalar!(
        "insert into consumer (name, transport) values ($1, $2) returning id",
        name,
        transport
    )
    .fetch_one(connection)
    .await
    .during("cannot register the consumer")?;
    Ok(ConsumerId(id))
}

/// Records that the consumer is alive, and what keeps it from sending, if anything does.
///
/// # Errors
/// When the database fails, or the consumer was deleted after a day without a heartbeat and has to
/// register again.
pub async fn record_heartbeat(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    trouble: Option<&str>,
) -> Result<(), NotificationError> {
    let seen = sqlx::query!(
        "update consumer set seen_at = clock_timestamp(), trouble = $2,
                trouble_since = case when $2::text is not null then coalesce(trouble_since, clock_timestamp()) end
         where id = $1",
        consumer.0,
        trouble
    )
    .execute(connection)
    .await
    .during("cannot record the heartbeat of the consumer")?;
    if seen.rows_affected() == 1 {
        Ok(())
    } else {
        Err(NotificationError::NotKept(format!("consumer {}", consumer.0)))
    }
}

/// Deletes the registration of a consumer that stops. Leases that it still holds expire by
/// themselves.
///
/// # Errors
/// When the database fails.
pub async fn deregister_consumer(
    connection: &mut PgConnection,
    consumer: ConsumerId,
) -> Result<(), NotificationError> {
    sqlx::query!("delete from consumer where id = $1", consumer.0)
        .execute(connection)
        .await
        .during("cannot deregister the consumer")?;
    Ok(())
}

/// Deletes consumers without a heartbeat for a day, which were killed before they could deregister.
/// Returns their number.
///
/// # Errors
/// When the database fails.
pub async fn delete_stale_consumers(pool: &PgPool) -> Result<u64, NotificationError> {
    let gone = sqlx::query!("delete from consumer where seen_at < now() - interval '1 day'")
        .execute(pool)
        .await
        .during("cannot delete the stale consumers")?;
    Ok(gone.rows_affected())
}

/// The consumers with a heartbeat within the last 30 seconds.
pub(super) async fn read_live_consumers(
    connection: &mut PgConnection,
) -> Result<Vec<ConsumerSeen>, NotificationError> {
    let rows = sqlx::query!(
        r#"select name, transport, trouble, trouble_since as "trouble_since: jiff_sqlx::Timestamp",
                  seen_at as "seen_at: jiff_sqlx::Timestamp"
           from consumer where seen_at > clock_timestamp() - interval '30 seconds' order by id"#
    )
    .fetch_all(connection)
    .await
    .during("cannot read the consumers")?;
    let seen = rows.into_iter().map(|row| ConsumerSeen {
        name: row.name,
        transport: row.transport,
        trouble: row.trouble,
        trouble_since: row.trouble_since.map(jiff_sqlx::Timestamp::to_jiff),
        seen_at: row.seen_at.to_jiff(),
    });
    Ok(seen.collect())
}
