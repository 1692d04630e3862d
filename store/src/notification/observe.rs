//! Looking at runs: what the status, the scaler and the metrics show. Reads only.

use domain::month::BillingMonth;
use sqlx::PgPool;

use super::{
    ConsumerSeen, MonthTotals, NotificationCounts, NotificationError, NotificationId, NotificationState,
    Publication, RunFacts, Selection, Snapshot, TargetTotals, UnfinishedRun, Uuid, read_month,
};
use crate::error::During as _;

/// Everything about the run's notification; none when it has not begun.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn observe(pool: &PgPool, run_uid: Uuid) -> Result<Option<Snapshot>, NotificationError> {
    // Which partition to look at has to be known beforehand, for the targets to be counted by several processes.
    let Some(at) = sqlx::query!("select id, month from notification where run_uid = $1", run_uid)
        .fetch_optional(pool)
        .await
        .during("cannot look for the run's notification")?
    else {
        return Ok(None);
    };
    let row = sqlx::query!(
        r#"with target as (
               select count(*) as targets,
                      count(*) filter (where outcome = 'SENT') as sent,
                      count(*) filter (where outcome = 'FAILED') as failed,
                      count(*) filter (where outcome = 'UNKNOWN') as unknown,
                      count(*) filter (where outcome = 'SKIPPED') as skipped,
                      count(*) filter (where outcome = 'RENDERED') as rendered,
                      count(*) filter (where outcome is null) as open,
                      count(*) filter (where ended_at > now() - interval '10 seconds') as recently,
                      -- Who has ended was published; a publisher that died before its checkpoint doesn't know it.
                      count(*) filter (where outcome is not null or member_id <= (
                          select coalesce(max(published_to), 0) from publication where notification = $1)) as published
               from notice_target where month = $2 and notification = $1
           ), hand as (
               select count(*) filter (where state = 'CLAIMED') as claimed,
                      count(*) filter (where state = 'HANDED_OVER') as handed_over
               from delivery
               where month = $2 and notification = $1 and state in ('CLAIMED', 'HANDED_OVER')
           )
           select n.run, n.selection, n.rehearsal, n.state, n.selected, n.round, n.templates, n.max_per_second, n.reason,
                  n.opened_at as "opened_at: jiff_sqlx::Timestamp", n.closed_at as "closed_at: jiff_sqlx::Timestamp",
                  j.status <> 'RUNNING' as "logged!",
                  p.round as "publication_round?", p.published_to as "published_to?", p.messages as "messages?", p.waiting,
                  p.opened_at as "publication_opened_at?: jiff_sqlx::Timestamp",
                  p.done_at as "publication_done_at: jiff_sqlx::Timestamp",
                  t.targets as "targets!", t.sent as "sent!", t.failed as "failed!", t.unknown as "unknown!",
                  t.skipped as "skipped!", t.rendered as "rendered!", t.open as "open!", t.recently as "recently!",
                  t.published as "published!", h.claimed as "claimed!", h.handed_over as "handed_over!",
                  clock_timestamp() as "now!: jiff_sqlx::Timestamp"
           from notification n
           join job_log j on j.id = n.job
           left join publication p on p.notification = n.id and p.round = n.round
           cross join target t cross join hand h
           where n.id = $1"#,
        at.id,
        at.month
    )
    .fetch_one(pool)
    .await
    .during("cannot read the run's notification and its targets")?;
    let publication = match (row.publication_round, row.published_to, row.messages, row.publication_opened_at)
    {
        (Some(round), Some(published_to), Some(messages), Some(opened_at)) => Some(Publication {
            round,
            published_to,
            messages,
            waiting: row.waiting,
            opened_at: opened_at.to_jiff(),
            done_at: row.publication_done_at.map(jiff_sqlx::Timestamp::to_jiff),
        }),
        _ => None,
    };
    Ok(Some(Snapshot {
        facts: RunFacts {
            id: NotificationId(at.id),
            run: row.run,
            month: read_month(&at.month)?,
            selection: Selection::parse(&row.selection)?,
            rehearsal: row.rehearsal,
            state: NotificationState::parse(&row.state)?,
            selected: row.selected,
            targets: row.targets,
            round: row.round,
            templates: row.templates,
            max_per_second: row.max_per_second,
        },
        publication,
        published: if row.rehearsal { 0 } else { row.published },
        counts: NotificationCounts {
            sent: row.sent,
            failed: row.failed,
            unknown: row.unknown,
            skipped: row.skipped,
            rendered: row.rendered,
        },
        open: row.open,
        claimed: row.claimed,
        handed_over: row.handed_over,
        ended_recently: row.recently,
        opened_at: row.opened_at.to_jiff(),
        closed_at: row.closed_at.map(jiff_sqlx::Timestamp::to_jiff),
        reason: row.reason,
        logged: row.logged,
        consumers: consumers(pool).await?,
        now: row.now.to_jiff(),
    }))
}

async fn consumers(pool: &PgPool) -> Result<Vec<ConsumerSeen>, NotificationError> {
    let rows = sqlx::query!(
        r#"select name, transport, trouble, trouble_since as "trouble_since: jiff_sqlx::Timestamp",
                  seen_at as "seen_at: jiff_sqlx::Timestamp"
           from consumer where seen_at > clock_timestamp() - interval '30 seconds' order by id"#
    )
    .fetch_all(pool)
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

/// Whether any run wants consumers.
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

/// Every run whose row of the job log is still open, over or not.
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
                month: read_month(&row.month)?,
                state: NotificationState::parse(&row.state)?,
            })
        })
        .collect()
}

/// The figures of the latest 24 months that had a run. With `only_changing`, those alone of which a run is going on or was
/// over less than ten minutes ago: every delivery is counted, and the figures of the others stay as they are.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_totals(pool: &PgPool, only_changing: bool) -> Result<Vec<MonthTotals>, NotificationError> {
    let months = sqlx::query_scalar!(
        "select month from notification group by month
         having not $1 or bool_or(closed_at is null or closed_at > now() - interval '10 minutes')
         order by month desc limit 24",
        only_changing
    )
    .fetch_all(pool)
    .await
    .during("cannot read the months of notifications")?;
    let deliveries = sqlx::query!(
        r#"select month, state::text as "state!", count(*) as "deliveries!" from delivery
           where month = any($1) group by month, state order by month, state"#,
        &months
    )
    .fetch_all(pool)
    .await
    .during("cannot count the deliveries")?;
    let targets = sqlx::query!(
        r#"select n.month, n.selection, n.rehearsal,
                  sum(t.sent)::bigint as "sent!", sum(t.failed)::bigint as "failed!", sum(t.unknown)::bigint as "unknown!",
                  sum(t.skipped)::bigint as "skipped!", sum(t.rendered)::bigint as "rendered!", sum(t.open)::bigint as "open!"
           from (select notification,
                        count(*) filter (where outcome = 'SENT') as sent,
                        count(*) filter (where outcome = 'FAILED') as failed,
                        count(*) filter (where outcome = 'UNKNOWN') as unknown,
                        count(*) filter (where outcome = 'SKIPPED') as skipped,
                        count(*) filter (where outcome = 'RENDERED') as rendered,
                        count(*) filter (where outcome is null) as open
                 from notice_target where month = any($1) group by notification) t
           join notification n on n.id = t.notification
           group by n.month, n.selection, n.rehearsal
           order by n.month, n.selection, n.rehearsal"#,
        &months
    )
    .fetch_all(pool)
    .await
    .during("cannot count the targets")?;
    let mut totals = Vec::new();
    for month in months {
        let parsed: BillingMonth = read_month(&month)?;
        let of_month = targets.iter().filter(|row| row.month == month).map(|row| {
            Ok(TargetTotals {
                selection: Selection::parse(&row.selection)?,
                rehearsal: row.rehearsal,
                counts: NotificationCounts {
                    sent: row.sent,
                    failed: row.failed,
                    unknown: row.unknown,
                    skipped: row.skipped,
                    rendered: row.rendered,
                },
                open: row.open,
            })
        });
        totals.push(MonthTotals {
            month: parsed,
            deliveries: deliveries
                .iter()
                .filter(|row| row.month == month)
                .map(|row| (row.state.clone(), row.deliveries))
                .collect(),
            targets: of_month.collect::<Result<_, NotificationError>>()?,
        });
    }
    Ok(totals)
}
