//! The rate of a run, over all consumers together.

use std::time::Duration;

use sqlx::PgConnection;

use super::notification_error::NotificationError;
use super::run::NotificationId;
use crate::decode::read_number;
use crate::error::During as _;

/// When the reserved emails may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendSlots {
    /// The time until the first email.
    pub first_in: Duration,
    /// The time between two emails; zero: the run has no limit.
    pub interval: Duration,
}

/// Reserves the next `slots` of a run with a limited rate. The caller sends at most one email for
/// each slot, not before its time; an unused slot is lost. Callers should reserve slots for about a
/// second at most, so that a changed rate applies soon.
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
    .during("cannot reserve send slots")?;
    let Some(row) = row else { return Ok(SendSlots { first_in: Duration::ZERO, interval: Duration::ZERO }) };
    let per_second: u32 = read_number("notification.max_per_second", row.per_second.into())?;
    Ok(SendSlots {
        first_in: Duration::from_micros(u64::try_from(row.first_in).unwrap_or(0)),
        interval: Duration::from_secs(1) / per_second.max(1),
    })
}
