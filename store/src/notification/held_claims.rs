//! What a consumer does with claims that it holds, other than sending: renew them, postpone them,
//! release them.

use std::time::Duration;

use sqlx::PgConnection;

use super::consumers::ConsumerId;
use super::delivery::{
    ClaimRow, ClaimedDelivery, DeliveryColumns, DeliveryRow, GrantedClaim, by_month, delivery_columns, millis,
};
use super::notification_error::NotificationError;
use crate::error::During as _;

/// A delivery that the same consumer tries again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postponement {
    pub delivery: ClaimedDelivery,
    /// Whether the mail server answered "try again later". False: the connection was lost before it
    /// could.
    pub counts_as_try: bool,
}

/// Postpones deliveries that this consumer holds and that certainly were not sent: they are claimed
/// under a new lease. Returns those that it still held, with their tries.
///
/// # Errors
/// When the database fails.
pub async fn postpone_deliveries(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    postponements: &[Postponement],
) -> Result<Vec<GrantedClaim>, NotificationError> {
    let mut held = Vec::new();
    for (month, postponements) in by_month(postponements, |postponement| &postponement.delivery) {
        let deliveries: Vec<ClaimedDelivery> =
            postponements.iter().map(|postponement| postponement.delivery).collect();
        let DeliveryColumns { runs, members, revisions, attempts } = delivery_columns(&deliveries);
        let counts: Vec<bool> = postponements.iter().map(|postponement| postponement.counts_as_try).collect();
        let rows = sqlx::query_as!(
            ClaimRow,
            r#"update delivery d
               set state = 'CLAIMED', lease_until = clock_timestamp() + $7::bigint * interval '1 millisecond',
                   tries = d.tries + a.counts::int,
                   first_try_at = case when a.counts then coalesce(d.first_try_at, clock_timestamp()) else d.first_try_at end
               from unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[], $8::bool[])
                    as a (run, member_id, revision, attempt, counts)
               where d.month = $1 and d.member_id = a.member_id and d.revision = a.revision and d.channel = 'EMAIL'
                 and case when d.attempt = a.attempt and d.notification = a.run
                          then d.holder = $6 and d.state in ('CLAIMED', 'HANDED_OVER') end
               returning d.notification, d.member_id, d.revision, d.attempt, d.tries,
                         (extract(epoch from clock_timestamp() - d.first_try_at) * 1000)::bigint as since_first_try"#,
            month.to_string(),
            &runs,
            &members,
            &revisions,
            &attempts,
            consumer.0,
            millis(lease),
            &counts
        )
        .fetch_all(&mut *connection)
        .await
        .during("cannot postpone deliveries")?;
        for row in rows {
            held.push(row.into_claim(month)?);
        }
    }
    Ok(held)
}

/// Renews the leases of claims and returns those that this consumer still holds. The lease of a
/// hand-over is not renewed: it gets an outcome in time, or the outcome is unknown.
///
/// # Errors
/// When the database fails.
pub async fn renew_leases(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    deliveries: &[ClaimedDelivery],
) -> Result<Vec<ClaimedDelivery>, NotificationError> {
    let mut held = Vec::new();
    for (month, deliveries) in by_month(deliveries, |delivery| delivery) {
        let DeliveryColumns { runs, members, revisions, attempts } = delivery_columns(&deliveries);
        let rows = sqlx::query_as!(
            DeliveryRow,
            "update delivery d set lease_until = clock_timestamp() + $7::bigint * interval '1 millisecond'
             from unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[]) as a (run, member_id, revision, attempt)
             where d.month = $1 and d.member_id = a.member_id and d.revision = a.revision and d.channel = 'EMAIL'
               and case when d.attempt = a.attempt and d.notification = a.run then d.holder = $6 and d.state = 'CLAIMED' end
             returning d.notification, d.member_id, d.revision, d.attempt",
            month.to_string(),
            &runs,
            &members,
            &revisions,
            &attempts,
            consumer.0,
            millis(lease)
        )
        .fetch_all(&mut *connection)
        .await
        .during("cannot renew leases")?;
        for row in rows {
            held.push(row.into_delivery(month)?);
        }
    }
    Ok(held)
}

/// Releases deliveries that this consumer holds and that certainly were not sent: each has the
/// state from before the claim again. Returns those that it still held.
///
/// # Errors
/// When the database fails.
pub async fn release_claims(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    deliveries: &[ClaimedDelivery],
) -> Result<Vec<ClaimedDelivery>, NotificationError> {
    let mut released = Vec::new();
    for (month, deliveries) in by_month(deliveries, |delivery| delivery) {
        let DeliveryColumns { runs, members, revisions, attempts } = delivery_columns(&deliveries);
        let rows = sqlx::query_as!(
            DeliveryRow,
            r#"update delivery d
               set state = coalesce(d.before, 'PENDING'), attempt = d.attempt - 1, before = null, holder = null,
                   lease_until = null
               from unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[]) as a (run, member_id, revision, attempt)
               where d.month = $1 and d.member_id = a.member_id and d.revision = a.revision and d.channel = 'EMAIL'
                 and case when d.attempt = a.attempt and d.notification = a.run
                          then d.holder = $6 and d.state in ('CLAIMED', 'HANDED_OVER') end
               returning d.notification, d.member_id, d.revision, d.attempt + 1 as "attempt!""#,
            month.to_string(),
            &runs,
            &members,
            &revisions,
            &attempts,
            consumer.0
        )
        .fetch_all(&mut *connection)
        .await
        .during("cannot release deliveries")?;
        for row in rows {
            released.push(row.into_delivery(month)?);
        }
    }
    Ok(released)
}
