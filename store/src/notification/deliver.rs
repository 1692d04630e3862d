//! From the claim to the outcome: handing over, recording what came of it, and settling what nobody will hear of any more.

use domain::month::BillingMonth;
use sqlx::{Connection as _, PgConnection, PgPool};
use std::collections::HashSet;
use std::time::Duration;

use super::claim::{Columns, by_month, columns, hand_columns, millis};
use super::{
    BillKey, ClaimedDelivery, ConsumerId, DeliveryOutcome, ExpiredLeases, HandOverResult, NotificationError,
    NotificationState, Outcome, RunFacts, reasons, touched,
};
use crate::error::During as _;

/// Hands over, and records what came of what was handed over or claimed before: all in one transaction. Nothing may appear
/// twice. A hand-over is granted only while the run is open, the bill counts and the lease lasts; it begins a new lease.
/// Whoever didn't get the answer may ask again, and gets the same one.
///
/// # Errors
/// When the database fails; nothing was written then.
pub async fn hand_over_and_record(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    hand_over: &[ClaimedDelivery],
    ended: &[DeliveryOutcome],
) -> Result<HandOverResult, NotificationError> {
    let steps: Vec<Step<'_>> = hand_over
        .iter()
        .map(|hand| Step { hand: *hand, end: None })
        .chain(ended.iter().map(|ended| Step { hand: ended.delivery, end: Some(ended) }))
        .collect();
    let mut advanced = HandOverResult::default();
    if steps.is_empty() {
        return Ok(advanced);
    }
    let mut tx = connection.begin().await.during("cannot open the transaction that hands over")?;
    let mut done: HashSet<ClaimedDelivery> = HashSet::new();
    for (month, steps) in by_month(&steps, |step| &step.hand) {
        done.extend(advance_month(&mut tx, month, consumer, lease, &steps).await?);
        let missing: Vec<&DeliveryOutcome> =
            steps.iter().filter(|step| !done.contains(&step.hand)).filter_map(|step| step.end).collect();
        if !missing.is_empty() {
            done.extend(recorded_before(&mut tx, month, &missing).await?);
        }
    }
    tx.commit().await.during("cannot commit hand-overs and outcomes")?;
    for step in steps {
        match (step.end.is_some(), done.contains(&step.hand)) {
            (false, true) => advanced.granted.push(step.hand),
            (false, false) => advanced.refused.push(step.hand),
            (true, true) => advanced.recorded.push(step.hand),
            (true, false) => advanced.lost.push(step.hand),
        }
    }
    Ok(advanced)
}

/// One delivery's next step: its end, or else the hand-over.
#[derive(Clone, Copy)]
struct Step<'a> {
    hand: ClaimedDelivery,
    end: Option<&'a DeliveryOutcome>,
}

/// Returns what was granted.
async fn advance_month(
    tx: &mut PgConnection,
    month: BillingMonth,
    consumer: ConsumerId,
    lease: Duration,
    steps: &[Step<'_>],
) -> Result<Vec<ClaimedDelivery>, NotificationError> {
    let hands: Vec<ClaimedDelivery> = steps.iter().map(|step| step.hand).collect();
    let Columns { runs, members, revisions, attempts } = hand_columns(&hands);
    let outcomes: Vec<Option<String>> =
        steps.iter().map(|step| step.end.map(|end| end.outcome.as_str().to_owned())).collect();
    let reasons: Vec<Option<String>> =
        steps.iter().map(|step| step.end.and_then(|end| end.reason.clone())).collect();
    let rows = sqlx::query!(
        r#"with run as (
               select id, state from notification where id = any($2) order by id for key share
           ), last as (
               select max(revision) as revision from revision where month = $1 and state = 'LIVE'
           ), moved as (
               update delivery d
               set state = coalesce(a.outcome::delivery_state, 'HANDED_OVER'),
                   lease_until = case when a.outcome is null then clock_timestamp() + $9::bigint * interval '1 millisecond' end,
                   first_try_at = case when a.outcome is null then coalesce(d.first_try_at, clock_timestamp())
                                       else d.first_try_at end,
                   holder = case when a.outcome is null then d.holder end,
                   before = case when a.outcome is null then d.before end,
                   ended_at = case when a.outcome is null then d.ended_at else clock_timestamp() end,
                   reason = case when a.outcome is null then d.reason else a.reason end
               from unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::text[], $7::text[]) with ordinality
                    as a (run, member_id, revision, attempt, outcome, reason, position)
               join run on run.id = a.run
               where d.month = $1 and d.member_id = a.member_id and d.revision = a.revision and d.channel = 'EMAIL'
                 and case when d.attempt = a.attempt and d.notification = a.run
                          then d.holder = $8 and d.state in ('CLAIMED', 'HANDED_OVER') end
                 and case when a.outcome is null
                          then d.lease_until > clock_timestamp() and run.state = 'OPEN'
                               and (a.revision = (select revision from last) or exists (
                                       select from live_bill l
                                       where l.month = $1 and l.member_id = a.member_id and l.revision = a.revision))
                          else a.outcome in ('FAILED', 'SKIPPED') or d.state = 'HANDED_OVER' end
               returning a.position, a.run, a.member_id, a.revision, a.outcome, a.reason
           ), closed as (
               update notice_target t
               set outcome = m.outcome::notice_outcome, reason = m.reason, ended_at = clock_timestamp()
               from moved m
               where m.outcome is not null and t.month = $1 and t.notification = m.run and t.member_id = m.member_id
                 and t.revision = m.revision and t.outcome is null
               returning 1
           )
           select position as "position!", (select count(*) from moved where outcome is not null) as "ended!",
                  (select count(*) from closed) as "closed!"
           from moved"#,
        month.to_string(),
        &runs,
        &members,
        &revisions,
        &attempts,
        &outcomes as &[Option<String>],
        &reasons as &[Option<String>],
        consumer.0,
        millis(lease)
    )
    .fetch_all(tx)
    .await
    .during("cannot hand over or record outcomes")?;
    if let Some(row) = rows.first() {
        // Whoever has the delivery in hand is the only one to end its target.
        touched("ending targets", row.closed.unsigned_abs(), row.ended.unsigned_abs())?;
    }
    rows.into_iter().map(|row| at(&hands, row.position)).collect()
}

/// Which of these outcomes are the ones that the same attempts ended with.
async fn recorded_before(
    tx: &mut PgConnection,
    month: BillingMonth,
    ended: &[&DeliveryOutcome],
) -> Result<Vec<ClaimedDelivery>, NotificationError> {
    let hands: Vec<ClaimedDelivery> = ended.iter().map(|ended| ended.delivery).collect();
    let Columns { runs, members, revisions, attempts } = hand_columns(&hands);
    let outcomes: Vec<String> = ended.iter().map(|ended| ended.outcome.as_str().to_owned()).collect();
    let positions = sqlx::query_scalar!(
        r#"select a.position as "position!"
           from unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::text[]) with ordinality
                as a (run, member_id, revision, attempt, outcome, position)
           join delivery d on d.month = $1 and d.member_id = a.member_id and d.revision = a.revision and d.channel = 'EMAIL'
           where d.notification = a.run and d.attempt = a.attempt and d.state::text = a.outcome"#,
        month.to_string(),
        &runs,
        &members,
        &revisions,
        &attempts,
        &outcomes
    )
    .fetch_all(tx)
    .await
    .during("cannot look for outcomes that were recorded before")?;
    positions.into_iter().map(|position| at(&hands, position)).collect()
}

/// What stands at a position, which counts from 1.
fn at(hands: &[ClaimedDelivery], position: i64) -> Result<ClaimedDelivery, NotificationError> {
    usize::try_from(position - 1)
        .ok()
        .and_then(|index| hands.get(index).copied())
        .ok_or_else(|| NotificationError::stored("position", position))
}

/// Writes what came of a rehearsal's targets, unless they have an outcome or the run is not open; returns where it stands.
///
/// # Errors
/// When the database fails.
pub async fn record_rehearsal_outcomes(
    connection: &mut PgConnection,
    run: &RunFacts,
    ended: &[(BillKey, Outcome, Option<String>)],
) -> Result<NotificationState, NotificationError> {
    let keys: Vec<BillKey> = ended.iter().map(|(key, ..)| *key).collect();
    let (members, revisions) = columns(&keys);
    let outcomes: Vec<String> = ended.iter().map(|(_, outcome, _)| outcome.as_str().to_owned()).collect();
    let reasons: Vec<Option<String>> = ended.iter().map(|(.., reason)| reason.clone()).collect();
    let state = sqlx::query_scalar!(
        r#"with run as (
               select id, state from notification where id = $1 for key share
           ), ended as (
               update notice_target t
               set outcome = a.outcome::notice_outcome, reason = a.reason, ended_at = clock_timestamp()
               from run cross join unnest($3::bigint[], $4::int[], $5::text[], $6::text[])
                    as a (member_id, revision, outcome, reason)
               where run.state = 'OPEN' and t.month = $2 and t.notification = $1 and t.member_id = a.member_id
                 and t.revision = a.revision and t.outcome is null
               returning 1
           )
           select state from run"#,
        run.id.0,
        run.month.to_string(),
        &members,
        &revisions,
        &outcomes,
        &reasons as &[Option<String>]
    )
    .fetch_optional(connection)
    .await
    .during("cannot write what came of a rehearsal's targets")?
    .ok_or_else(|| NotificationError::NoSuchRun(run.id.0.to_string()))?;
    NotificationState::parse(&state)
}

/// Ends the leases of a month that ran out: a hand-over's outcome is unknown, a claim is free again. Whatever somebody is
/// about to change is left to them.
///
/// # Errors
/// When the database fails.
pub async fn end_expired_leases(
    pool: &PgPool,
    month: BillingMonth,
) -> Result<ExpiredLeases, NotificationError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    end_expired_leases_on(&mut connection, month).await
}

pub(super) async fn end_expired_leases_on(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<ExpiredLeases, NotificationError> {
    let row = sqlx::query!(
        r#"with expired as materialized (
               select member_id, revision, state, notification from delivery
               where month = $1 and state in ('CLAIMED', 'HANDED_OVER') and lease_until < clock_timestamp()
               for update skip locked
           ), moved as (
               update delivery d
               set state = case e.state when 'HANDED_OVER' then 'UNKNOWN' else coalesce(d.before, 'PENDING') end,
                   attempt = d.attempt - (e.state = 'CLAIMED')::int,
                   ended_at = case e.state when 'HANDED_OVER' then clock_timestamp() else d.ended_at end,
                   reason = case e.state when 'HANDED_OVER' then $2 else d.reason end,
                   before = null, holder = null, lease_until = null
               from expired e
               where d.month = $1 and d.member_id = e.member_id and d.revision = e.revision and d.channel = 'EMAIL'
               returning 1
           ), closed as (
               update notice_target t set outcome = 'UNKNOWN', reason = $2, ended_at = clock_timestamp()
               from expired e
               where e.state = 'HANDED_OVER' and t.month = $1 and t.notification = e.notification
                 and t.member_id = e.member_id and t.revision = e.revision and t.outcome is null
               returning 1
           )
           select (select count(*) from expired) as "expired!", (select count(*) from moved) as "moved!",
                  (select count(*) from expired where state = 'HANDED_OVER') as "unknown!",
                  (select count(*) from closed) as "closed!""#,
        month.to_string(),
        reasons::OUTCOME_UNKNOWN
    )
    .fetch_one(connection)
    .await
    .during("cannot settle what nobody will hear of any more")?;
    touched("ending leases", row.moved.unsigned_abs(), row.expired.unsigned_abs())?;
    touched("ending targets of unknown outcome", row.closed.unsigned_abs(), row.unknown.unsigned_abs())?;
    Ok(ExpiredLeases { unknown: row.unknown, freed: row.expired - row.unknown })
}
