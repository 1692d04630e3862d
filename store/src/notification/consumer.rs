//! Those who send: that they live, what keeps them from sending, which runs they send for and how fast.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::{PgConnection, PgPool};

use super::{ConsumerId, NotificationError, NotificationId, SendSlots};
use crate::error::{DatabaseError, During as _};
use crate::pool;

/// A pool for whoever chooses, publishes, claims or delivers.
///
/// # Errors
/// The address can't be read, or the database can't be reached.
pub async fn connect_for_lookups(
    url: &SecretString,
    application: &str,
    max: u32,
) -> Result<PgPool, DatabaseError> {
    // Every statement takes some rows by their keys out of a month's millions, of which the planner may know little: the
    // partition was empty a minute ago. So it has no choice, and makes it once: planning took a third of the database's
    // time, and compiling costs more than it saves.
    const LOOK_UP: [(&str, &str); 5] = [
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
    ];
    pool::connect_with(url, application, max, &LOOK_UP).await
}

/// Writes that a process sends from now on.
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

/// Says that the consumer lives, and what keeps it from sending, if anything does.
///
/// # Errors
/// When the database fails, or the consumer was forgotten for its long silence: it has to register again.
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
    .during("cannot say that the consumer lives")?;
    if seen.rows_affected() == 1 {
        Ok(())
    } else {
        Err(NotificationError::NotKept(format!("consumer {}", consumer.0)))
    }
}

/// Takes the consumer off the list. Its leases, if it has any left, run out by themselves.
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
        .during("cannot take the consumer off the list")?;
    Ok(())
}

/// Takes those off the list who said nothing for a day, and returns how many there were.
///
/// # Errors
/// When the database fails.
pub async fn delete_stale_consumers(pool: &PgPool) -> Result<u64, NotificationError> {
    let gone = sqlx::query!("delete from consumer where seen_at < now() - interval '1 day'")
        .execute(pool)
        .await
        .during("cannot forget the consumers that are gone")?;
    Ok(gone.rows_affected())
}

/// Takes the next `slots` of a run that goes at a limited rate, over all consumers together. Whoever takes them sends one
/// message at each, at the earliest; a slot that isn't used is lost. To be taken for about a second at most, so that a
/// change of the rate is felt soon.
///
/// # Errors
/// When the database fails.
pub async fn reserve_send_slots(
    connection: &mut PgConnection,
    id: NotificationId,
    slots: u32,
) -> Result<SendSlots, NotificationError> {
    let row = sqlx::query!(
        r#"with clock as (select clock_timestamp() as now)
           update notification n
           set paced_until = greatest(n.paced_until, clock.now) + $2::bigint * interval '1 second' / n.max_per_second
           from clock
           where n.id = $1 and n.max_per_second is not null
           returning n.max_per_second as "per_second!",
                     (extract(epoch from n.paced_until - $2::bigint * interval '1 second' / n.max_per_second
                                         - clock_timestamp()) * 1000000)::bigint as "first_in!""#,
        id.0,
        i64::from(slots)
    )
    .fetch_optional(connection)
    .await
    .during("cannot take slots of the run's rate")?;
    let Some(row) = row else { return Ok(SendSlots { first_in: Duration::ZERO, interval: Duration::ZERO }) };
    let per_second = u32::try_from(row.per_second)
        .map_err(|_| NotificationError::stored("notification.max_per_second", row.per_second))?;
    Ok(SendSlots {
        first_in: Duration::from_micros(u64::try_from(row.first_in).unwrap_or(0)),
        interval: Duration::from_secs(1) / per_second.max(1),
    })
}
