//! Hands deliveries over to the mail server and records their outcomes. A hand-over is written just
//! before the content of an email is sent, so that after a crash it is known which emails may have
//! been sent.

use std::collections::HashSet;
use std::time::Duration;

use domain::month::BillingMonth;
use sqlx::{Connection as _, PgConnection};

use super::consumers::ConsumerId;
use super::delivery::{
    BillKey, ClaimedDelivery, DeliveryColumns, Outcome, by_month, delivery_columns, key_columns, millis,
};
use super::notification_error::NotificationError;
use super::notification_state::NotificationState;
use super::run::RunFacts;
use crate::error::{During as _, StoreError, expect_rows_affected};
use crate::hand_over_lock;

/// The outcome of a claimed delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOutcome {
    pub delivery: ClaimedDelivery,
    pub outcome: Outcome,
    /// Masked: contains no address.
    pub reason: Option<String>,
}

/// The result of [`hand_over_and_record`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandOverResult {
    /// Handed over: may be sent now.
    pub granted: Vec<ClaimedDelivery>,
    /// Must not be sent, and is to be released: the run is not open, the bill is superseded, another
    /// bill was sent to the member meanwhile, or the lease has expired.
    pub refused: Vec<ClaimedDelivery>,
    /// Outcomes that were written.
    pub recorded: Vec<ClaimedDelivery>,
    /// Outcomes that came too late: this consumer no longer holds the delivery.
    pub lost: Vec<ClaimedDelivery>,
}

/// Hands over the deliveries in `hand_over` and records the outcomes in `ended`, in one
/// transaction. No delivery may appear twice. A hand-over is granted only while the run is open,
/// the bill is live, the lease has not expired, and the bill that was sent to the member before is
/// still the one that the target corrects, or none; it starts a new lease. A repeated call, after
/// an answer that was lost, returns the same.
///
/// # Errors
/// When the database fails; then nothing was written.
pub async fn hand_over_and_record(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    hand_over: &[ClaimedDelivery],
    ended: &[DeliveryOutcome],
) -> Result<HandOverResult, NotificationError> {
    let steps: Vec<Step<'_>> = hand_over
        .iter()
        .map(|delivery| Step { delivery: *delivery, outcome: None })
        .chain(ended.iter().map(|ended| Step { delivery: ended.delivery, outcome: Some(ended) }))
        .collect();
    let mut result = HandOverResult::default();
    if steps.is_empty() {
        return Ok(result);
    }
    let mut tx = connection.begin().await.during("cannot open the transaction that hands over")?;
    let mut done: HashSet<ClaimedDelivery> = HashSet::new();
    for (month, steps) in by_month(&steps, |step| &step.delivery) {
        if steps.iter().any(|step| step.outcome.is_none()) {
            hand_over_lock::share(&mut tx, month).await?;
        }
        done.extend(apply_steps(&mut tx, month, consumer, lease, &steps).await?);
        let missing: Vec<&DeliveryOutcome> = steps
            .iter()
            .filter(|step| !done.contains(&step.delivery))
            .filter_map(|step| step.outcome)
            .collect();
        if !missing.is_empty() {
            done.extend(find_recorded(&mut tx, month, &missing).await?);
        }
    }
    tx.commit().await.during("cannot commit hand-overs and outcomes")?;
    for step in steps {
        match (step.outcome.is_some(), done.contains(&step.delivery)) {
            (false, true) => result.granted.push(step.delivery),
            (false, false) => result.refused.push(step.delivery),
            (true, true) => result.recorded.push(step.delivery),
            (true, false) => result.lost.push(step.delivery),
        }
    }
    Ok(result)
}

/// The next step of one delivery: its outcome, or else the hand-over.
#[derive(Clone, Copy)]
struct Step<'a> {
    delivery: ClaimedDelivery,
    outcome: Option<&'a DeliveryOutcome>,
}

/// Applies the steps of one month and returns the deliveries that were changed.
async fn apply_steps(
    tx: &mut PgConnection,
    month: BillingMonth,
    consumer: ConsumerId,
    lease: Duration,
    steps: &[Step<'_>],
) -> Result<Vec<ClaimedDelivery>, NotificationError> {
    let deliveries: Vec<ClaimedDelivery> = steps.iter().map(|step| step.delivery).collect();
    let DeliveryColumns { runs, members, revisions, attempts } = delivery_columns(&deliveries);
    let outcomes: Vec<Option<String>> =
        steps.iter().map(|step| step.outcome.map(|ended| ended.outcome.as_str().to_owned())).collect();
    let reasons: Vec<Option<String>> =
        steps.iter().map(|step| step.outcome.and_then(|ended| ended.reason.clone())).collect();
    let rows = sqlx::query!(
        r#"with run as (
               select id, state from notification where id = any($2) order by id for key share
           ), last as (
               select max(revision) filter (where state = 'LIVE') as revision, count(issued_at) > 1 as several
               from revision where month = $1
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
                               and case when (select several from last) then exists (
                                       select from notice_target t
                                       left join lateral other_sent_bill($1, t.member_id, t.revision) o on true
                                       where t.month = $1 and t.notification = a.run and t.member_id = a.member_id
                                         and t.revision = a.revision and t.corrects is not distinct from o.revision
                                         and o.state is distinct from 'HANDED_OVER') else true end
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
        // Only the holder of a delivery gives its target an outcome.
        expect_rows_affected("ending targets", row.closed.unsigned_abs(), row.ended.unsigned_abs())?;
    }
    rows.into_iter().map(|row| Ok(delivery_at(&deliveries, row.position)?)).collect()
}

/// Finds the deliveries whose attempt has this very outcome already.
async fn find_recorded(
    tx: &mut PgConnection,
    month: BillingMonth,
    ended: &[&DeliveryOutcome],
) -> Result<Vec<ClaimedDelivery>, NotificationError> {
    let deliveries: Vec<ClaimedDelivery> = ended.iter().map(|ended| ended.delivery).collect();
    let DeliveryColumns { runs, members, revisions, attempts } = delivery_columns(&deliveries);
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
    positions.into_iter().map(|position| Ok(delivery_at(&deliveries, position)?)).collect()
}

/// The delivery at a position, which counts from 1.
fn delivery_at(deliveries: &[ClaimedDelivery], position: i64) -> Result<ClaimedDelivery, StoreError> {
    usize::try_from(position - 1)
        .ok()
        .and_then(|index| deliveries.get(index).copied())
        .ok_or_else(|| StoreError::unreadable("position", position))
}

/// Records the outcomes of a rehearsal's targets, unless a target has one already or the run is not
/// open. Returns the state of the run.
///
/// # Errors
/// When the database fails.
pub async fn record_rehearsal_outcomes(
    connection: &mut PgConnection,
    run: &RunFacts,
    ended: &[(BillKey, Outcome, Option<String>)],
) -> Result<NotificationState, NotificationError> {
    let keys: Vec<BillKey> = ended.iter().map(|(key, ..)| *key).collect();
    let (members, revisions) = key_columns(&keys);
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
    .during("cannot record the outcomes of a rehearsal")?
    .ok_or_else(|| NotificationError::NoSuchRun(run.id.0.to_string()))?;
    Ok(NotificationState::parse(&state)?)
}
