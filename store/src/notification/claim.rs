//! Claims: taking bills up for a run, keeping them, putting them off and giving them back.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::month::BillingMonth;
use sqlx::{Connection as _, PgConnection};

use super::{
    BillKey, ClaimResult, ClaimedDelivery, ConsumerId, GrantedClaim, NotificationError, NotificationId,
    Postponement, RunFacts, number, reasons,
};
use crate::error::During as _;

/// Takes up those of a run's targets that nobody else has, of which nothing is known to have come since they were chosen,
/// and whose bill still counts. Ends those of which the contrary is certain.
///
/// # Errors
/// When the database fails; nothing was claimed then.
pub async fn claim_deliveries(
    connection: &mut PgConnection,
    run: &RunFacts,
    consumer: ConsumerId,
    lease: Duration,
    keys: &[BillKey],
) -> Result<ClaimResult, NotificationError> {
    // In order, so that consumers who ask for the same bills don't wait for each other in a circle.
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    let mut tx = connection.begin().await.during("cannot open the claiming transaction")?;
    let claimed = take(&mut tx, run, consumer, lease, &keys).await?;
    let mut claims = ClaimResult::default();
    let mut skipped: Vec<(BillKey, &'static str)> = Vec::new();
    let mut superseded: Vec<ClaimedDelivery> = Vec::new();
    for (key, verdict) in judge(&mut tx, run, &keys, &claimed).await? {
        let reason = match verdict.as_str() {
            "HELD" => {
                claims.unavailable.push(key);
                continue;
            }
            "NO_TARGET" => {
                claims.not_targets.push(key);
                continue;
            }
            "SENT" => reasons::ALREADY_SENT,
            "TAKEN" => reasons::TAKEN,
            "SUPERSEDED" => reasons::SUPERSEDED,
            _ => continue,
        };
        if let Some(claim) = claimed.get(&key) {
            superseded.push(claim.delivery);
        }
        skipped.push((key, reason));
    }
    if !superseded.is_empty() {
        release_claims(&mut tx, consumer, &superseded).await?;
    }
    if !skipped.is_empty() {
        skip(&mut tx, run, &skipped).await?;
    }
    tx.commit().await.during("cannot commit the claims")?;
    claims.claimed = claimed.into_values().filter(|claim| !superseded.contains(&claim.delivery)).collect();
    Ok(claims)
}

/// Whether the bill still counts is looked at afterwards, when nobody else can take it up any more.
async fn take(
    tx: &mut PgConnection,
    run: &RunFacts,
    consumer: ConsumerId,
    lease: Duration,
    keys: &[BillKey],
) -> Result<BTreeMap<BillKey, GrantedClaim>, NotificationError> {
    let (members, revisions) = columns(keys);
    let rows = sqlx::query!(
        r#"with run as (
               select id from notification where id = $1 and state = 'OPEN' and not rehearsal for key share
           ), target as (
               select t.member_id, t.revision, t.after_attempt
               from run
               cross join unnest($3::bigint[], $4::int[]) as a (member_id, revision)
               join notice_target t on t.month = $2 and t.notification = $1 and t.member_id = a.member_id
                                   and t.revision = a.revision
               where t.outcome is null
           )
           insert into delivery as d (member_id, revision, attempt, notification, holder, lease_until, state, month)
           select member_id, revision, after_attempt + 1, $1, $5, clock_timestamp() + $6::bigint * interval '1 millisecond',
                  'CLAIMED', $2
           from target order by member_id, revision
           on conflict (month, member_id, revision, channel) do update
           set attempt = excluded.attempt, notification = excluded.notification, holder = excluded.holder,
               lease_until = excluded.lease_until, state = 'CLAIMED',
               before = case d.state when 'CLAIMED' then d.before else d.state end,
               tries = case d.notification when excluded.notification then d.tries else 0 end,
               first_try_at = case d.notification when excluded.notification then d.first_try_at end
           where (d.state in ('PENDING', 'FAILED', 'UNKNOWN') and d.attempt = excluded.attempt - 1)
              or (d.state = 'CLAIMED' and d.lease_until < clock_timestamp() and d.attempt = excluded.attempt)
           returning d.member_id, d.revision, d.attempt, d.tries,
                     (extract(epoch from clock_timestamp() - d.first_try_at) * 1000)::bigint as first_try"#,
        run.id.0,
        run.month.to_string(),
        &members,
        &revisions,
        consumer.0,
        millis(lease)
    )
    .fetch_all(tx)
    .await
    .during("cannot claim targets")?;
    rows.into_iter()
        .map(|row| {
            let key = read_key(row.member_id, row.revision)?;
            let hand = ClaimedDelivery { run: run.id, month: run.month, key, attempt: row.attempt };
            Ok((
                key,
                GrantedClaim { delivery: hand, tries: row.tries, since_first_try: row.first_try.map(since) },
            ))
        })
        .collect()
}

/// What there is to say of the keys, except of those that were claimed and count.
async fn judge(
    tx: &mut PgConnection,
    run: &RunFacts,
    keys: &[BillKey],
    claimed: &BTreeMap<BillKey, GrantedClaim>,
) -> Result<Vec<(BillKey, String)>, NotificationError> {
    let (members, revisions) = columns(keys);
    let taken: Vec<bool> = keys.iter().map(|key| claimed.contains_key(key)).collect();
    // A bill of the month's latest live revision counts, whatever else there is; only of an older one is it a question.
    let rows = sqlx::query!(
        r#"with last as (
               select max(revision) as revision from revision where month = $2 and state = 'LIVE'
           ), asked as (
               select a.member_id, a.revision, a.taken,
                      a.revision is distinct from (select revision from last) and not exists (
                          select from live_bill l
                          where l.month = $2 and l.member_id = a.member_id and l.revision = a.revision) as superseded
               from unnest($3::bigint[], $4::int[], $5::bool[]) as a (member_id, revision, taken)
           )
           select a.member_id as "member_id!", a.revision as "revision!",
                  case when a.taken then 'SUPERSEDED'
                       when t.member_id is null then 'NO_TARGET'
                       when t.outcome is not null then 'ENDED'
                       when d.state = 'HANDED_OVER' or d.state = 'CLAIMED' and d.lease_until >= clock_timestamp() then 'HELD'
                       when a.superseded then 'SUPERSEDED'
                       when d.state = 'SENT' then 'SENT'
                       when d.attempt - (d.state = 'CLAIMED')::int <> t.after_attempt then 'TAKEN'
                       else 'HELD' end as "verdict!"
           from asked a
           left join notice_target t on t.month = $2 and t.notification = $1 and t.member_id = a.member_id
                                    and t.revision = a.revision
           left join delivery d on d.month = $2 and d.member_id = a.member_id and d.revision = a.revision
                               and d.channel = 'EMAIL'
           where not a.taken or a.superseded"#,
        run.id.0,
        run.month.to_string(),
        &members,
        &revisions,
        &taken
    )
    .fetch_all(tx)
    .await
    .during("cannot see why targets are not to be claimed")?;
    rows.into_iter().map(|row| Ok((read_key(row.member_id, row.revision)?, row.verdict))).collect()
}

async fn skip(
    tx: &mut PgConnection,
    run: &RunFacts,
    skipped: &[(BillKey, &'static str)],
) -> Result<(), NotificationError> {
    let keys: Vec<BillKey> = skipped.iter().map(|(key, _)| *key).collect();
    let (members, revisions) = columns(&keys);
    let reasons: Vec<String> = skipped.iter().map(|(_, reason)| (*reason).to_owned()).collect();
    // Somebody else may have come to the same meanwhile, or the run be over: then there is nothing left to write.
    sqlx::query!(
        "with run as (select id from notification where id = $1 and state = 'OPEN' for key share)
         update notice_target t set outcome = 'SKIPPED', reason = a.reason, ended_at = clock_timestamp()
         from run cross join unnest($3::bigint[], $4::int[], $5::text[]) as a (member_id, revision, reason)
         where t.month = $2 and t.notification = $1 and t.member_id = a.member_id and t.revision = a.revision
           and t.outcome is null",
        run.id.0,
        run.month.to_string(),
        &members,
        &revisions,
        &reasons
    )
    .execute(tx)
    .await
    .during("cannot skip targets")?;
    Ok(())
}

/// Puts off what is in this consumer's hands and certainly was not sent, under a new lease. Returns what still was in its
/// hands, with the tries that it has now.
///
/// # Errors
/// When the database fails.
pub async fn postpone_deliveries(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    what: &[Postponement],
) -> Result<Vec<GrantedClaim>, NotificationError> {
    let mut still = Vec::new();
    for (month, what) in by_month(what, |put_off| &put_off.delivery) {
        let hands: Vec<ClaimedDelivery> = what.iter().map(|put_off| put_off.delivery).collect();
        let Columns { runs, members, revisions, attempts } = hand_columns(&hands);
        let counts: Vec<bool> = what.iter().map(|put_off| put_off.counts_as_try).collect();
        let rows = sqlx::query!(
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
                         (extract(epoch from clock_timestamp() - d.first_try_at) * 1000)::bigint as first_try"#,
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
        .during("cannot put deliveries off")?;
        for row in rows {
            let key = read_key(row.member_id, row.revision)?;
            let hand =
                ClaimedDelivery { run: NotificationId(row.notification), month, key, attempt: row.attempt };
            still.push(GrantedClaim {
                delivery: hand,
                tries: row.tries,
                since_first_try: row.first_try.map(since),
            });
        }
    }
    Ok(still)
}

/// Renews the leases of claims, and returns those that this consumer still has. Hand-overs are not renewed: they end in
/// time, or nobody knows how.
///
/// # Errors
/// When the database fails.
pub async fn renew_leases(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    lease: Duration,
    what: &[ClaimedDelivery],
) -> Result<Vec<ClaimedDelivery>, NotificationError> {
    let mut still = Vec::new();
    for (month, what) in by_month(what, |hand| hand) {
        let Columns { runs, members, revisions, attempts } = hand_columns(&what);
        let rows = sqlx::query!(
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
            let key = read_key(row.member_id, row.revision)?;
            still.push(ClaimedDelivery {
                run: NotificationId(row.notification),
                month,
                key,
                attempt: row.attempt,
            });
        }
    }
    Ok(still)
}

/// Gives back what is in this consumer's hands and certainly was not sent: it is again what it was before the claim. Returns
/// what still was in its hands.
///
/// # Errors
/// When the database fails.
pub async fn release_claims(
    connection: &mut PgConnection,
    consumer: ConsumerId,
    what: &[ClaimedDelivery],
) -> Result<Vec<ClaimedDelivery>, NotificationError> {
    let mut given = Vec::new();
    for (month, what) in by_month(what, |hand| hand) {
        let Columns { runs, members, revisions, attempts } = hand_columns(&what);
        let rows = sqlx::query!(
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
        .during("cannot give deliveries back")?;
        for row in rows {
            let key = read_key(row.member_id, row.revision)?;
            given.push(ClaimedDelivery {
                run: NotificationId(row.notification),
                month,
                key,
                attempt: row.attempt,
            });
        }
    }
    Ok(given)
}

/// What is in hand, column by column. Statements compare holder and state within a `case`: standing alone, they would have
/// the planner search the whole partition for the few rows in hand, which it knows how to find only by their keys.
pub(super) struct Columns {
    pub(super) runs: Vec<i64>,
    pub(super) members: Vec<i64>,
    pub(super) revisions: Vec<i32>,
    pub(super) attempts: Vec<i32>,
}

pub(super) fn hand_columns(what: &[ClaimedDelivery]) -> Columns {
    Columns {
        runs: what.iter().map(|hand| hand.run.0).collect(),
        members: what.iter().map(|hand| hand.key.member.get()).collect(),
        revisions: what.iter().map(|hand| hand.key.revision.get()).collect(),
        attempts: what.iter().map(|hand| hand.attempt).collect(),
    }
}

pub(super) fn columns(keys: &[BillKey]) -> (Vec<i64>, Vec<i32>) {
    keys.iter().map(|key| (key.member.get(), key.revision.get())).unzip()
}

/// Parted by month, which is by partition, and in order of key within each.
pub(super) fn by_month<T: Copy>(
    what: &[T],
    hand: impl Fn(&T) -> &ClaimedDelivery,
) -> BTreeMap<BillingMonth, Vec<T>> {
    let mut months: BTreeMap<BillingMonth, Vec<T>> = BTreeMap::new();
    for one in what {
        months.entry(hand(one).month).or_default().push(*one);
    }
    for what in months.values_mut() {
        what.sort_unstable_by_key(|one| hand(one).key);
    }
    months
}

pub(super) fn read_key(member: i64, revision: i32) -> Result<BillKey, NotificationError> {
    Ok(BillKey {
        member: number("delivery.member_id", member)?,
        revision: number("delivery.revision", revision.into())?,
    })
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The server's clock may be set back.
fn since(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
