//! What the operator observes of runs: for their status, the autoscaler and housekeeping. Reads
//! only.

use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::types::Uuid;
use sqlx::{Connection as _, PgPool};

use super::consumers::{ConsumerSeen, read_live_consumers};
use super::notification_error::NotificationError;
use super::notification_state::NotificationState;
use super::publish_rounds::{Publication, read_publication};
use super::run::{NotificationId, RunFacts, find_run};
use super::target_counts::{NotificationCounts, count_held_deliveries, count_targets};
use crate::decode::read_month;
use crate::error::During as _;

/// Everything about one run at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `facts.targets` counts the targets that are written so far.
    pub facts: RunFacts,
    pub publication: Option<Publication>,
    /// Targets that were published at least once.
    pub published: i64,
    pub counts: NotificationCounts,
    /// Targets without an outcome.
    pub open: i64,
    /// Deliveries that consumers have claimed.
    pub claimed: i64,
    /// Deliveries that are handed over to the mail server and have no outcome yet.
    pub handed_over: i64,
    /// Targets that got their outcome within the ten seconds before `now`, for the current rate.
    pub ended_recently: i64,
    /// When the last target got its outcome.
    pub last_ended_at: Option<Timestamp>,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// Why it was cancelled or failed.
    pub reason: Option<String>,
    /// Its row of `job_log` is complete.
    pub logged: bool,
    /// Consumers with a heartbeat within the last 30 seconds.
    pub consumers: Vec<ConsumerSeen>,
    /// The database's clock when this was read.
    pub now: Timestamp,
}

impl Snapshot {
    /// Deliveries that consumers hold.
    #[must_use]
    pub fn held(&self) -> i64 {
        self.claimed + self.handed_over
    }
}

/// A run whose row of `job_log` is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedRun {
    pub id: NotificationId,
    /// `NAMESPACE/NAME`.
    pub run: String,
    pub run_uid: Uuid,
    pub month: BillingMonth,
    pub state: NotificationState,
}

/// Reads everything about the run; none when it has not begun. All of it is of one moment.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn observe(pool: &PgPool, run_uid: Uuid) -> Result<Option<Snapshot>, NotificationError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    let mut tx = connection
        .begin_with("begin isolation level repeatable read, read only")
        .await
        .during("cannot open the transaction that observes a run")?;
    let Some(mut facts) = find_run(&mut tx, run_uid).await? else { return Ok(None) };
    let (id, month) = (facts.id, facts.month.to_string());
    let row = sqlx::query!(
        r#"select n.reason, n.opened_at as "opened_at: jiff_sqlx::Timestamp",
                  n.closed_at as "closed_at: jiff_sqlx::Timestamp", j.status <> 'RUNNING' as "logged!",
                  clock_timestamp() as "now!: jiff_sqlx::Timestamp"
           from notification n join job_log j on j.id = n.job
           where n.id = $1"#,
        id.0
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot read the run's notification")?;
    let publication = match facts.round {
        0 => None,
        round => Some(read_publication(&mut tx, id, round).await?),
    };
    let targets = count_targets(&mut tx, id, &month).await?;
    let held = count_held_deliveries(&mut tx, id, &month).await?;
    let consumers = read_live_consumers(&mut tx).await?;
    tx.commit().await.during("cannot end the transaction that observes a run")?;
    facts.targets = targets.targets;
    Ok(Some(Snapshot {
        published: if facts.rehearsal { 0 } else { targets.published },
        facts,
        publication,
        counts: targets.counts,
        open: targets.open,
        claimed: held.claimed,
        handed_over: held.handed_over,
        ended_recently: targets.ended_recently,
        last_ended_at: targets.last_ended_at,
        opened_at: row.opened_at.to_jiff(),
        closed_at: row.closed_at.map(jiff_sqlx::Timestamp::to_jiff),
        reason: row.reason,
        logged: row.logged,
        consumers,
        now: row.now.to_jiff(),
    }))
}

/// Whether any open run needs consumers.
///
/// # Errors
/// When the database fails.
pub async fn any_run_sends(pool: &PgPool) -> Result<bool, NotificationError> {
    let any = sqlx::query_scalar!(
        r#"select exists (select from notification where state = 'OPEN' and not rehearsal) as "any!""#
    )
    .fetch_one(pool)
    .await
    .during("cannot look for notifications that send")?;
    Ok(any)
}

/// Reads every run whose row of `job_log` is not complete, whether the run has ended or not.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_unfinished_runs(pool: &PgPool) -> Result<Vec<UnfinishedRun>, NotificationError> {
    let rows = sqlx::query!(
        "select n.id, n.run, n.run_uid, n.month, n.state from job_log j join notification n on n.job = j.id
         where j.status = 'RUNNING' order by n.id"
    )
    .fetch_all(pool)
    .await
    .during("cannot read the unfinished notifications")?;
    rows.into_iter()
        .map(|row| {
            Ok(UnfinishedRun {
                id: NotificationId(row.id),
                run: row.run,
                run_uid: row.run_uid,
                month: read_month("notification.month", &row.month)?,
                state: NotificationState::parse(&row.state)?,
            })
        })
        .collect()
}
