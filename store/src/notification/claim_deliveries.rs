//! Claims the deliveries of a run's targets for a consumer, under a lease.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use super::consumers::ConsumerId;
use super::delivery::{
    BillKey, ClaimRow, ClaimedDelivery, GrantedClaim, key_columns, millis, read_key, reasons,
};
use super::held_claims::release_claims;
use super::notification_error::NotificationError;
use super::run::RunFacts;
use crate::error::During as _;

/// The result of [`claim_deliveries`]. A key in none of the three lists has an outcome already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimResult {
    pub claimed: Vec<GrantedClaim>,
    /// Claimed by another consumer, or not claimable now: the run is not open, or what was handed over
    /// for the member has no outcome yet. The target stays open.
    pub unavailable: Vec<BillKey>,
    /// The run has no such target.
    pub not_targets: Vec<BillKey>,
}

/// Claims the targets that no other consumer holds, that no other run has attempted since they were
/// selected, and whose bill is still live. The bill that was sent to the member before must still
/// be the one that the target corrects, or none; while its outcome is not known yet, the target
/// waits. Skips the targets of which one of these will never be true again.
///
/// # Errors
/// When the database fails; then nothing was claimed.
pub async fn claim_deliveries(
    connection: &mut PgConnection,
    run: &RunFacts,
    consumer: ConsumerId,
    lease: Duration,
    keys: &[BillKey],
) -> Result<ClaimResult, NotificationError> {
    // Sorted, so that consumers that claim the same bills cannot deadlock.
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys.dedup();
    let mut tx = connection.begin().await.during("cannot open the claiming transaction")?;
    let claimed = insert_claims(&mut tx, run, consumer, lease, &keys).await?;
    let mut claims = ClaimResult::default();
    let mut skipped: Vec<(BillKey, &'static str)> = Vec::new();
    let mut refused: Vec<ClaimedDelivery> = Vec::new();
    for (key, verdict) in classify_unclaimed(&mut tx, run, &keys, &claimed).await? {
        if let Some(claim) = claimed.get(&key) {
            refused.push(claim.delivery);
        }
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
            "NOT_SENT" => reasons::NOTHING_TO_CORRECT,
            "SUPERSEDED" => reasons::SUPERSEDED,
            _ => continue,
        };
        skipped.push((key, reason));
    }
    if !refused.is_empty() {
        release_claims(&mut tx, consumer, &refused).await?;
    }
    if !skipped.is_empty() {
        skip_targets(&mut tx, run, &skipped).await?;
    }
    tx.commit().await.during("cannot commit the claims")?;
    claims.claimed = claimed.into_values().filter(|claim| !refused.contains(&claim.delivery)).collect();
    Ok(claims)
}

/// Whether a bill is still live is checked afterwards, when no other consumer can claim it any
/// more.
async fn insert_claims(
    tx: &mut PgConnection,
    run: &RunFacts,
    consumer: ConsumerId,
    lease: Duration,
    keys: &[BillKey],
) -> Result<BTreeMap<BillKey, GrantedClaim>, NotificationError> {
    let (members, revisions) = key_columns(keys);
    let rows = sqlx::query_as!(
        ClaimRow,
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
           where (d.state in ('PENDING', 'FAILED', 'UNKNOWN', 'SKIPPED') and d.attempt = excluded.attempt - 1)
              or (d.state = 'CLAIMED' and d.lease_until < clock_timestamp() and d.attempt = excluded.attempt)
           returning d.notification, d.member_id, d.revision, d.attempt, d.tries,
                     (extract(epoch from clock_timestamp() - d.first_try_at) * 1000)::bigint as since_first_try"#,
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
            let claim = row.into_claim(run.month)?;
            Ok((claim.delivery.key, claim))
        })
        .collect()
}

/// Why the other keys were not claimed, and which of the claimed ones must be released: they are no
/// longer live, or what was sent to the member before is not what it was at the selection.
async fn classify_unclaimed(
    tx: &mut PgConnection,
    run: &RunFacts,
    keys: &[BillKey],
    claimed: &BTreeMap<BillKey, GrantedClaim>,
) -> Result<Vec<(BillKey, String)>, NotificationError> {
    let (members, revisions) = key_columns(keys);
    let taken: Vec<bool> = keys.iter().map(|key| claimed.contains_key(key)).collect();
    // A bill of the month's latest live revision is live; only for an older revision `live_bill` has to
    // be read.
    let rows = sqlx::query!(
        r#"with last as (
               select max(revision) filter (where state = 'LIVE') as revision, count(issued_at) > 1 as several
               from revision where month = $2
           ), asked as (
               select a.member_id, a.revision, a.taken,
                      o.revision as sent, o.state as sent_state,
                      a.revision is distinct from (select revision from last) and not exists (
                          select from live_bill l
                          where l.month = $2 and l.member_id = a.member_id and l.revision = a.revision) as superseded
               from unnest($3::bigint[], $4::int[], $5::bool[]) as a (member_id, revision, taken)
               left join lateral (
                   select o.revision, o.state from other_sent_bill($2, a.member_id, a.revision) o
                   where (select several from last)) o on true
           )
           select a.member_id as "member_id!", a.revision as "revision!",
                  case when a.taken then
                           case when a.superseded then 'SUPERSEDED'
                                when a.sent is null then 'NOT_SENT'
                                when a.sent is distinct from t.corrects then 'SENT'
                                else 'HELD' end
                       when t.member_id is null then 'NO_TARGET'
                       when t.outcome is not null then 'ENDED'
                       when d.state = 'HANDED_OVER' or d.state = 'CLAIMED' and d.lease_until >= clock_timestamp() then 'HELD'
                       when a.superseded then 'SUPERSEDED'
                       when d.state = 'SENT' or a.sent is not null and a.sent is distinct from t.corrects then 'SENT'
                       when d.attempt - (d.state = 'CLAIMED')::int <> t.after_attempt then 'TAKEN'
                       else 'HELD' end as "verdict!"
           from asked a
           left join notice_target t on t.month = $2 and t.notification = $1 and t.member_id = a.member_id
                                    and t.revision = a.revision
           left join delivery d on d.month = $2 and d.member_id = a.member_id and d.revision = a.revision
                               and d.channel = 'EMAIL'
           where not a.taken or a.superseded or a.sent is distinct from t.corrects or a.sent_state = 'HANDED_OVER'"#,
        run.id.0,
        run.month.to_string(),
        &members,
        &revisions,
        &taken
    )
    .fetch_all(tx)
    .await
    .during("cannot read why targets were not claimed")?;
    rows.into_iter().map(|row| Ok((read_key(row.member_id, row.revision)?, row.verdict))).collect()
}

async fn skip_targets(
    tx: &mut PgConnection,
    run: &RunFacts,
    skipped: &[(BillKey, &'static str)],
) -> Result<(), NotificationError> {
    let keys: Vec<BillKey> = skipped.iter().map(|(key, _)| *key).collect();
    let (members, revisions) = key_columns(&keys);
    let reasons: Vec<String> = skipped.iter().map(|(_, reason)| (*reason).to_owned()).collect();
    // If another consumer has skipped the target meanwhile, or the run has ended, nothing is left to
    // write.
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
