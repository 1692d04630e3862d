//! Counts the targets and deliveries of one run.

use jiff::Timestamp;
use sqlx::PgConnection;

use super::notification_error::NotificationError;
use super::run::NotificationId;
use crate::error::During as _;

/// Targets by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotificationCounts {
    pub sent: i64,
    pub failed: i64,
    pub unknown: i64,
    pub skipped: i64,
    pub rendered: i64,
}

impl NotificationCounts {
    #[must_use]
    pub const fn ended(&self) -> i64 {
        self.sent + self.failed + self.unknown + self.skipped + self.rendered
    }
}

/// The targets of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TargetCounts {
    pub(super) targets: i64,
    pub(super) counts: NotificationCounts,
    /// Targets without an outcome.
    pub(super) open: i64,
    /// Targets that got their outcome within the last ten seconds.
    pub(super) ended_recently: i64,
    /// When the last target got its outcome.
    pub(super) last_ended_at: Option<Timestamp>,
    /// Targets that were published at least once. A target with an outcome was published, even if
    /// its publisher died before it saved a checkpoint.
    pub(super) published: i64,
}

/// Counts the run's targets.
pub(super) async fn count_targets(
    connection: &mut PgConnection,
    id: NotificationId,
    month: &str,
) -> Result<TargetCounts, NotificationError> {
    // The month is a parameter, so that one partition is read, by several processes if it is large.
    let row = sqlx::query!(
        r#"select count(*) as "targets!",
                  count(*) filter (where outcome = 'SENT') as "sent!",
                  count(*) filter (where outcome = 'FAILED') as "failed!",
                  count(*) filter (where outcome = 'UNKNOWN') as "unknown!",
                  count(*) filter (where outcome = 'SKIPPED') as "skipped!",
                  count(*) filter (where outcome = 'RENDERED') as "rendered!",
                  count(*) filter (where outcome is null) as "open!",
                  count(*) filter (where ended_at > now() - interval '10 seconds') as "ended_recently!",
                  max(ended_at) as "last_ended_at: jiff_sqlx::Timestamp",
                  count(*) filter (where outcome is not null or member_id <= (
                      select coalesce(max(published_to), 0) from publication where notification = $1)) as "published!"
           from notice_target where month = $2 and notification = $1"#,
        id.0,
        month
    )
    .fetch_one(connection)
    .await
    .during("cannot count the run's targets")?;
    Ok(TargetCounts {
        targets: row.targets,
        counts: NotificationCounts {
            sent: row.sent,
            failed: row.failed,
            unknown: row.unknown,
            skipped: row.skipped,
            rendered: row.rendered,
        },
        open: row.open,
        ended_recently: row.ended_recently,
        last_ended_at: row.last_ended_at.map(jiff_sqlx::Timestamp::to_jiff),
        published: row.published,
    })
}

/// The deliveries of one run that consumers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeldDeliveries {
    pub(super) claimed: i64,
    pub(super) handed_over: i64,
}

/// Counts the run's deliveries that consumers hold.
pub(super) async fn count_held_deliveries(
    connection: &mut PgConnection,
    id: NotificationId,
    month: &str,
) -> Result<HeldDeliveries, NotificationError> {
    let held = sqlx::query_as!(
        HeldDeliveries,
        r#"select count(*) filter (where state = 'CLAIMED') as "claimed!",
                  count(*) filter (where state = 'HANDED_OVER') as "handed_over!"
           from delivery
           where month = $2 and notification = $1 and state in ('CLAIMED', 'HANDED_OVER')"#,
        id.0,
        month
    )
    .fetch_one(connection)
    .await
    .during("cannot count the deliveries that consumers hold")?;
    Ok(held)
}
