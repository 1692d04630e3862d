//! Invariants of deliveries, targets and the emails that arrived.

use domain::ids::{MemberId, Revision};
use sqlx::PgConnection;

use super::report::{LIMIT, MAX_VIOLATIONS, VerifyError};
use crate::error::During as _;
use crate::notification::reasons;

pub(super) async fn check_deliveries(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let untried = [reasons::ALREADY_SENT, reasons::TAKEN, reasons::SUPERSEDED, reasons::NOTHING_TO_CORRECT]
        .map(str::to_owned);
    let found = sqlx::query_scalar!(
        r#"with targeted as (
               select t.member_id, t.revision, count(*) filter (where t.outcome = 'SENT') as sent,
                      count(*) filter (where t.outcome in ('SENT', 'FAILED', 'UNKNOWN')
                                          or t.outcome = 'SKIPPED' and coalesce(t.reason, '') <> all($2)) as attempts
               from notice_target t join notification n on n.id = t.notification and not n.rehearsal
               where t.month = $1 group by t.member_id, t.revision
           ), delivered as (
               select member_id, revision, channel, count(*) as deliveries, min(state::text) as state,
                      min(attempt - (state in ('CLAIMED', 'HANDED_OVER'))::int) as attempts
               from delivery where month = $1 group by member_id, revision, channel
           )
           select format('member %s revision %s: %s deliveries, %s after %s attempts; its targets have %s attempts and were sent %s times',
                         member_id, revision, coalesce(d.deliveries, 0), coalesce(d.state, 'none'), coalesce(d.attempts, 0),
                         coalesce(t.attempts, 0), coalesce(t.sent, 0)) as "violation!"
           from delivered d full join targeted t using (member_id, revision)
           where d.deliveries > 1 or coalesce(d.attempts, 0) <> coalesce(t.attempts, 0)
              or coalesce(d.state = 'SENT', false)::int <> coalesce(t.sent, 0)
           order by member_id limit $3"#,
        month,
        &untried,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare deliveries with targets")?;
    Ok(found)
}

pub(super) async fn check_recoveries(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with ended as (
               select t.notification, t.member_id, t.revision, t.outcome::text as outcome, t.ended_at
               from notice_target t join notification n on n.id = t.notification and not n.rehearsal
               where t.month = $1 and (t.outcome in ('SENT', 'FAILED', 'UNKNOWN')
                                    or t.outcome = 'SKIPPED' and t.reason = $3)
           )
           select violation as "violation!" from (
               select format('%s (%s) selected member %s revision %s, which was not in that state', n.run, n.selection, t.member_id,
                             t.revision) as violation
               from notice_target t
               join notification n on n.id = t.notification
               where t.month = $1 and n.selection in ('FAILED', 'UNKNOWN', 'SKIPPED')
                 and not exists (
                     select from ended e
                     where e.member_id = t.member_id and e.revision = t.revision and e.notification <> t.notification
                       and e.outcome = n.selection and (t.ended_at is null or e.ended_at < t.ended_at))
               union all
               select format('%s sent member %s revision %s again', n.run, t.member_id, t.revision)
               from ended t
               join notification n on n.id = t.notification
               where exists (
                   select from ended e
                   where e.member_id = t.member_id and e.revision = t.revision and e.notification <> t.notification
                     and e.outcome = 'SENT' and e.ended_at < t.ended_at)
               union all
               select format('%s (%s) selected member %s revision %s after %s attempts', n.run, n.selection, t.member_id,
                             t.revision, t.after_attempt)
               from notice_target t
               join notification n on n.id = t.notification
               where t.month = $1 and n.selection in ('READY', 'CORRECTED') and t.after_attempt <> 0
           ) v limit $2"#,
        month,
        LIMIT,
        reasons::NO_ADDRESS
    )
    .fetch_all(connection)
    .await
    .during("cannot read the recovery runs")?;
    Ok(found)
}

/// Compares each e-mail that was handed over with the bill of another revision that was sent to the
/// member last: without one it must be the bill itself, otherwise a correction of that bill, to
/// another amount.
pub(super) async fn check_corrections(
    connection: &mut PgConnection,
    month: &str,
) -> Result<Vec<String>, VerifyError> {
    let found = sqlx::query_scalar!(
        r#"with ended as (
               select t.notification, t.member_id, t.revision, t.corrects, t.outcome, t.ended_at
               from notice_target t join notification n on n.id = t.notification and not n.rehearsal
               where t.month = $1 and (t.outcome in ('SENT', 'FAILED', 'UNKNOWN')
                                    or t.outcome = 'SKIPPED' and t.reason = $3)
           ), earlier as (
               -- What bills of another revision had come to before the e-mail. One that may have arrived counts, whatever
               -- became of sending it again.
               select t.notification, t.member_id, t.revision, t.corrects, e.revision as sent, e.ended_at,
                      coalesce(e.outcome in ('SENT', 'UNKNOWN'), false) as counts
               from ended t
               left join ended e on e.member_id = t.member_id and e.revision <> t.revision and e.ended_at < t.ended_at
               where t.outcome in ('SENT', 'UNKNOWN')
           ), told as (
               select distinct on (notification, member_id, revision) notification, member_id, revision, corrects,
                      case when counts then sent end as sent
               from earlier order by notification, member_id, revision, counts desc, ended_at desc
           )
           select violation as "violation!" from (
               select format('%s sent member %s revision %s as %s, after it had %s (totals %s and %s)', n.run, t.member_id,
                             t.revision, coalesce('a correction of revision ' || t.corrects, 'a bill'),
                             coalesce('sent revision ' || t.sent, 'sent nothing'), o.total_amount, b.total_amount) as violation
               from told t
               join notification n on n.id = t.notification
               left join bill b on b.month = $1 and b.member_id = t.member_id and b.revision = t.revision and t.sent is not null
               left join bill o on o.month = $1 and o.member_id = t.member_id and o.revision = t.sent
               where t.corrects is distinct from t.sent or t.sent is not null and o.total_amount = b.total_amount
               union all
               select format('%s (%s) selected member %s revision %s as %s', n.run, n.selection, t.member_id, t.revision,
                             coalesce('a correction of revision ' || t.corrects, 'a bill'))
               from notice_target t
               join notification n on n.id = t.notification
               where t.month = $1 and (n.selection = 'READY' and t.corrects is not null
                                    or n.selection = 'CORRECTED' and t.corrects is null)
           ) v limit $2"#,
        month,
        LIMIT,
        reasons::NO_ADDRESS
    )
    .fetch_all(connection)
    .await
    .during("cannot compare corrections with the bills that were sent before")?;
    Ok(found)
}

/// Compares deliveries with the emails that arrived. An email whose outcome is unknown, or that is
/// handed over, may have arrived.
pub(super) async fn check_arrived(
    connection: &mut PgConnection,
    month: &str,
    sink: &[String],
) -> Result<Vec<String>, VerifyError> {
    let mut violations = Vec::new();
    let (mut members, mut revisions) = (Vec::new(), Vec::new());
    for id in sink {
        match parse(id) {
            Some((of, member, revision)) => {
                if of == month {
                    members.push(member.get());
                    revisions.push(revision.get());
                }
            }
            None => violations.push(format!("`{id}` arrived, which is not the Message-ID of a bill")),
        }
    }
    let found = sqlx::query_scalar!(
        r#"with arrived as (
               select member_id, revision, count(*) as messages
               from unnest($2::bigint[], $3::int[]) as a (member_id, revision) group by member_id, revision
           ), ambiguous as (
               select t.member_id, t.revision, count(*) as attempts
               from notice_target t join notification n on n.id = t.notification and not n.rehearsal
               where t.month = $1 and t.outcome = 'UNKNOWN' group by t.member_id, t.revision
           ), delivered as (
               select member_id, revision, state, (state = 'SENT')::int as sent, (state = 'HANDED_OVER')::int as handed_over
               from delivery where month = $1
           )
           select format('member %s revision %s is %s after %s ambiguous attempts, and %s emails arrived', member_id, revision,
                         coalesce(d.state::text, 'READY'), coalesce(u.attempts, 0), coalesce(a.messages, 0)) as "violation!"
           from delivered d
           full join arrived a using (member_id, revision)
           left join ambiguous u using (member_id, revision)
           where coalesce(a.messages, 0) < coalesce(d.sent, 0)
              or coalesce(a.messages, 0) > coalesce(d.sent, 0) + coalesce(d.handed_over, 0) + coalesce(u.attempts, 0)
           order by member_id limit $4"#,
        month,
        &members,
        &revisions,
        LIMIT
    )
    .fetch_all(connection)
    .await
    .during("cannot compare deliveries with the emails that arrived")?;
    violations.extend(found);
    violations.truncate(MAX_VIOLATIONS);
    Ok(violations)
}

/// `<MONTH.MEMBER.REVISION@DOMAIN>`
fn parse(id: &str) -> Option<(&str, MemberId, Revision)> {
    let id = id.trim();
    let id = id.strip_prefix('<').and_then(|id| id.strip_suffix('>')).unwrap_or(id);
    let mut parts = id.split_once('@')?.0.split('.');
    let found = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(found)
}
