//! The beginning of a run: the month's lock, a revision number, the price book's text, the chunks, the job log. All of it
//! in one transaction, so that there is either a planned revision or none.

use domain::ids::{LoadNumber, Revision};
use domain::price_book::PlanKind;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgPool};

use super::{BeginRequest, BeginResult, BillingError, Rejection, RevisionKey, Started, number, touched};
use crate::error::During as _;

/// Takes the month and plans its next revision, or says why not. Repeating it for the same run changes nothing and gives
/// the same answer.
///
/// # Errors
/// When the database fails; nothing was written then.
pub async fn begin_run(pool: &PgPool, asked: &BeginRequest<'_>) -> Result<BeginResult, BillingError> {
    let mut tx = pool.begin().await.during("cannot open the planning transaction")?;
    // First without the lock: the chunks of the run that holds the month share it, one after the other, and whoever only
    // asks would wait for them all.
    if let Some(answer) = answered_before(&mut tx, asked).await? {
        return Ok(answer);
    }
    let fence = lock_month(&mut tx, asked).await?;
    if let Some(answer) = answered_before(&mut tx, asked).await? {
        return Ok(answer);
    }
    let data_cutoff = match admit(&mut tx, asked).await? {
        Ok(cutoff) => cutoff,
        Err(refusal) => return Ok(BeginResult::Rejected(refusal)),
    };
    let key = open_revision(&mut tx, asked, data_cutoff, fence).await?;
    let (chunks, members) = cut_chunks(&mut tx, asked, &key, data_cutoff).await?;
    tx.commit().await.during("cannot commit the planning")?;
    Ok(BeginResult::Started(Started { key, data_cutoff, members, chunks, shards: asked.shards }))
}

/// Waits until nobody else plans or closes this month, and returns the fence that the next holder gets.
async fn lock_month(tx: &mut PgConnection, asked: &BeginRequest<'_>) -> Result<i64, BillingError> {
    let month = asked.month.to_string();
    sqlx::query!("insert into month_lock (month, fence) values ($1, 0) on conflict do nothing", month)
        .execute(&mut *tx)
        .await
        .during("cannot open the month's lock")?;
    let fence = sqlx::query_scalar!("select fence from month_lock where month = $1 for update", month)
        .fetch_one(tx)
        .await
        .during("cannot take the month's lock")?;
    Ok(fence + 1)
}

/// What needs no planning: the run has begun already, or another one holds the month.
async fn answered_before(
    tx: &mut PgConnection,
    asked: &BeginRequest<'_>,
) -> Result<Option<BeginResult>, BillingError> {
    if let Some(begun) = begun_before(tx, asked).await? {
        return Ok(Some(BeginResult::Started(begun)));
    }
    let month = asked.month;
    let held = sqlx::query_scalar!("select run from month_lock where month = $1", month.to_string())
        .fetch_optional(tx)
        .await
        .during("cannot read the month's lock")?;
    Ok(held.flatten().map(|by| BeginResult::Rejected(Rejection::MonthLocked { month, by })))
}

async fn begun_before(
    tx: &mut PgConnection,
    asked: &BeginRequest<'_>,
) -> Result<Option<Started>, BillingError> {
    let Some(row) = sqlx::query!(
        r#"select revision, fence, data_cutoff, members, shards,
                  (select count(*) from chunk c where c.month = r.month and c.revision = r.revision) as "chunks!"
           from revision r where month = $1 and run_uid = $2"#,
        asked.month.to_string(),
        asked.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot look for the run's revision")?
    else {
        return Ok(None);
    };
    Ok(Some(Started {
        key: RevisionKey {
            month: asked.month,
            revision: number("revision.revision", row.revision.into())?,
            run_uid: asked.run_uid,
            fence: row.fence,
        },
        data_cutoff: number("revision.data_cutoff", row.data_cutoff)?,
        members: row.members,
        chunks: row.chunks,
        shards: row.shards,
    }))
}

/// The cut-off that the run reads up to, unless something stands against the run.
async fn admit(
    tx: &mut PgConnection,
    asked: &BeginRequest<'_>,
) -> Result<Result<LoadNumber, Rejection>, BillingError> {
    let month = asked.month;
    let live = sqlx::query!(
        "select revision, run from revision where month = $1 and state = 'LIVE' order by revision desc limit 1",
        month.to_string()
    )
    .fetch_optional(&mut *tx)
    .await
    .during("cannot look for a live revision")?;
    if let Some(live) = live {
        let revision = number("revision.revision", live.revision.into())?;
        return Ok(Err(Rejection::MonthAlreadyBilled { month, revision, by: live.run }));
    }
    let loads = sqlx::query!(
        r#"select max(number) as last, coalesce(bool_or(number = $1), false) as "asked_is_finished!"
           from load where state = 'FINISHED'"#,
        asked.data_cutoff.map(LoadNumber::get)
    )
    .fetch_one(tx)
    .await
    .during("cannot read the finished loads")?;
    let Some(last) = loads.last else { return Ok(Err(Rejection::NoDataLoaded)) };
    let last = number("load.number", last)?;
    Ok(match asked.data_cutoff {
        None => Ok(last),
        Some(cutoff) if loads.asked_is_finished => Ok(cutoff),
        Some(asked) => Err(Rejection::CutoffUnknown { asked, last }),
    })
}

/// Writes everything but the chunks: who holds the month, the price book, the job, the revision.
async fn open_revision(
    tx: &mut PgConnection,
    asked: &BeginRequest<'_>,
    data_cutoff: LoadNumber,
    fence: i64,
) -> Result<RevisionKey, BillingError> {
    let month = asked.month.to_string();
    let book = asked.price_book;
    let sha256 = book.sha256.to_string();
    sqlx::query!("select open_billing_month($1)", month)
        .fetch_one(&mut *tx)
        .await
        .during("cannot make the month's partitions")?;
    let held = sqlx::query!(
        "update month_lock set fence = $2, run = $3, run_uid = $4, since = now()
         where month = $1 and fence = $2::bigint - 1 and run is null",
        month,
        fence,
        asked.run,
        asked.run_uid
    )
    .execute(&mut *tx)
    .await
    .during("cannot take the month's lock")?;
    touched("taking the month's lock", held.rows_affected(), 1)?;
    sqlx::query!(
        "insert into price_book (sha256, version, content) values ($1, $2, $3) on conflict do nothing",
        sha256,
        book.version,
        asked.price_book_text
    )
    .execute(&mut *tx)
    .await
    .during("cannot keep the price book")?;
    let revision = sqlx::query_scalar!(
        r#"with job as (
               insert into job_log (kind, run, month, detail)
               values ('BILLING', $2, $1, jsonb_build_object('runUid', $3::uuid, 'dataCutoff', $5::bigint,
                                                             'priceBook', $6::text, 'chunkSize', $7::int))
               returning id)
           insert into revision (month, revision, run, run_uid, fence, data_cutoff, price_book, chunk_size, shards, members, job)
           select $1, 1 + coalesce((select max(revision) from revision where month = $1), 0),
                  $2, $3, $4, $5, $6, $7, $8, 0, job.id
           from job
           returning revision"#,
        month,
        asked.run,
        asked.run_uid,
        fence,
        data_cutoff.get(),
        sha256,
        asked.chunk_size,
        asked.shards
    )
    .fetch_one(tx)
    .await
    .during("cannot write the revision")?;
    let revision: Revision = number("revision.revision", revision.into())?;
    Ok(RevisionKey { month: asked.month, revision, run_uid: asked.run_uid, fence })
}

/// UsageBoundaries the ids from 1 to 2^63 − 1 where a chunk's worth of eligible members is full, gives each shard its run of
/// consecutive chunks, and returns how many chunks and eligible members there are.
///
/// Eligible is who is known as of the cut-off and has, in the month, a day of a base plan or of a plan that the price book
/// doesn't know (who will be quarantined). It is counted here, from the subscriptions alone, so that verification can
/// compare what the workers did with something that the workers didn't make.
async fn cut_chunks(
    tx: &mut PgConnection,
    asked: &BeginRequest<'_>,
    key: &RevisionKey,
    data_cutoff: LoadNumber,
) -> Result<(i64, i64), BillingError> {
    let plans = asked.price_book.plans();
    let codes = |kind: Option<PlanKind>| -> Vec<String> {
        plans.iter().filter(|p| kind.is_none_or(|kind| p.kind == kind)).map(|p| p.code.clone()).collect()
    };
    // A million members are sorted once and merged; nested loops, which the planner likes for tables that it knows nothing
    // of yet, would look each of them up, and compiling takes longer than it saves.
    sqlx::query!(
        "select set_config('enable_nestloop', 'off', true) as nestloop, set_config('jit', 'off', true) as jit,
                set_config('work_mem', '256MB', true) as memory"
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot prepare the counting of members")?;
    let cut = sqlx::query!(
        r#"with subscribed as (
               select distinct on (member_id, plan_code, from_date) member_id, from_date, to_date
               from subscription
               where load <= $3 and from_date < $5
                 and (plan_code = any($6) or plan_code <> all($7))
               order by member_id, plan_code, from_date, load desc
           ), eligible as (
               select member_id, row_number() over (order by member_id) - 1 as position
               from (select distinct member_id from subscribed
                     where to_date is null or to_date > greatest(from_date, $4)) in_month
               where exists (select from member where member.member_id = in_month.member_id and member.load <= $3)
           ), cut as (
               select (position / $8)::int as piece, min(member_id) as first_member, count(*)::int as members
               from eligible group by 1
               union all
               select 0, 1, 0 where not exists (select from eligible)
           ), spans as (
               select piece, members,
                      case when piece = 0 then 1 else first_member end as from_member,
                      coalesce(lead(first_member) over (order by piece) - 1, 9223372036854775807) as to_member,
                      count(*) over () as pieces
               from cut
           ), planned as (
               insert into chunk (month, revision, chunk_no, shard, from_member, to_member, members)
               select $1, $2, piece + 1, (piece::bigint * $9::int / pieces)::int, from_member, to_member, members
               from spans
               returning members
           )
           select count(*) as "chunks!", sum(members)::bigint as "members!" from planned"#,
        key.month.to_string(),
        key.revision.get(),
        data_cutoff.get(),
        key.month.first_day().to_sqlx() as _,
        key.month.next_first_day().to_sqlx() as _,
        &codes(Some(PlanKind::Base)),
        &codes(None),
        i64::from(asked.chunk_size),
        asked.shards
    )
    .fetch_one(&mut *tx)
    .await
    .during("cannot cut the month's members into chunks")?;
    let counted = sqlx::query!(
        "update revision set members = $4 where month = $1 and revision = $2 and run_uid = $3 and state = 'DRAFT'",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid,
        cut.members
    )
    .execute(tx)
    .await
    .during("cannot write the number of eligible members")?;
    touched("writing the number of eligible members", counted.rows_affected(), 1)?;
    Ok((cut.chunks, cut.members))
}
