//! Merges the staging tables into the tables: new content becomes rows of this load, known content
//! is skipped, and contradicting lines are reported as conflicts. Rows of loads that were taken
//! back are not known. What is written is recorded in `load_total`. All of it is set-based, except
//! that encrypted columns are compared here, as two envelopes of one text differ.

use std::collections::BTreeSet;

use domain::ids::MemberId;
use domain::month::BillingMonth;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use secrecy::ExposeSecret as _;
use sqlx::PgConnection;

use super::data_version::read_taken_back;
use crate::crypto::{Column, Keyring, OpenError};
use crate::error::{DatabaseError, During as _, StoreError};

/// How many members are compared at a time, in memory.
const COMPARED_AT_ONCE: usize = 10_000;

/// The rows that a merge has written, and the conflicting lines, for each file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    pub members: u64,
    pub subscriptions: u64,
    pub grants: u64,
    pub adjustments: u64,
    pub usage: u64,
    pub conflicting_adjustments: u64,
    pub conflicting_usage: u64,
}

/// What the merge needs to know of a file of members.
#[derive(Debug, Clone, Copy)]
pub struct StagedMembers<'a> {
    /// The keys of the encrypted columns.
    pub keys: &'a Keyring,
    /// Whether the file says nothing of locales: members keep theirs, and new ones have none of
    /// their own.
    pub keep_locales: bool,
}

/// A line whose key exists already with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    pub line: u64,
    pub with: EarlierContent,
}

/// Where the earlier content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierContent {
    InLoad(i64),
    OnLine(i64),
}

/// Creates the month's usage partition and returns whether it contains rows. If so, it is indexed
/// now; otherwise it should be indexed after the merge, which is faster.
///
/// # Errors
/// When the database fails.
pub async fn open_usage_partition(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<bool, DatabaseError> {
    const OPERATION: &str = "cannot create the month's usage partition";
    let month_name = month.to_string();
    sqlx::query!("select open_usage_month($1)", month_name)
        .execute(&mut *connection)
        .await
        .during(OPERATION)?;
    let filled =
        sqlx::query_scalar!(r#"select exists (select from usage where month = $1) as "filled!""#, month_name)
            .fetch_one(&mut *connection)
            .await
            .during(OPERATION)?;
    if filled {
        index_usage(connection, month).await?;
    }
    Ok(filled)
}

/// Indexes and analyzes the month's usage.
///
/// # Errors
/// When the database fails.
pub async fn index_usage(connection: &mut PgConnection, month: BillingMonth) -> Result<(), DatabaseError> {
    sqlx::query!("select index_usage_month($1)", month.to_string())
        .execute(connection)
        .await
        .during(format!("cannot index the usage of {month}"))?;
    Ok(())
}

/// Updates the statistics of the planner for the tables with members, subscriptions, grants and
/// adjustments.
///
/// # Errors
/// When the database fails.
pub async fn analyze_reference_data(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    sqlx::query!("select analyze_reference_data()")
        .execute(connection)
        .await
        .during("cannot analyze the tables")?;
    Ok(())
}

/// Merges all staging tables as rows of load `number`, in the transaction of `connection`.
///
/// # Errors
/// When the database fails, or a member's current version can't be decrypted with the given keys.
pub async fn merge_staged_rows(
    connection: &mut PgConnection,
    number: i64,
    source: &str,
    months: &BTreeSet<BillingMonth>,
    members: Option<StagedMembers<'_>>,
) -> Result<Written, StoreError> {
    let mut written = Written::default();
    let taken_back = read_taken_back(connection, number).await?;
    if let Some(members) = members {
        written.members = merge_members(connection, number, &taken_back, members).await?;
    }
    written.subscriptions =
        merge_subscriptions(connection, number, &taken_back).await.during("cannot merge subscriptions")?;
    written.grants = merge_grants(connection, number, &taken_back).await.during("cannot merge grants")?;
    (written.adjustments, written.conflicting_adjustments) =
        merge_adjustments(connection, number, &taken_back).await.during("cannot merge adjustments")?;
    for month in months {
        let (rows, conflicts) = merge_usage(connection, number, &taken_back, source, *month)
            .await
            .during(format!("cannot merge the usage of {month}"))?;
        written.usage += rows;
        written.conflicting_usage += conflicts;
    }
    Ok(written)
}

async fn merge_members(
    connection: &mut PgConnection,
    number: i64,
    taken_back: &[i64],
    members: StagedMembers<'_>,
) -> Result<u64, StoreError> {
    const OPERATION: &str = "cannot merge members";
    sqlx::query!(
        "delete from staged_member s
         using (select member_id, max(line_no) as line_no from staged_member group by member_id having count(*) > 1) last
         where s.member_id = last.member_id and s.line_no < last.line_no"
    )
    .execute(&mut *connection)
    .await
    .during(OPERATION)?;
    delete_unchanged(connection, taken_back, members).await?;
    let written = sqlx::query_scalar!(
        r#"with totals as (
               insert into load_total (load, file, kind, from_month, to_month, rows)
               select $1, 'members', case when known then 'CHANGED' else 'NEW' end, '2000-01', '2099-12', count(*)
               from (select exists (select from member m where m.member_id = s.member_id and m.load <> all($2)) as known
                     from staged_member s) staged
               group by known
               returning rows
           ), written as (
               insert into member (member_id, load, locale, name, email, phone)
               select s.member_id, $1,
                      case when $3 then (select m.locale from member m
                                         where m.member_id = s.member_id and m.load <> all($2)
                                         order by m.load desc limit 1)
                           else s.locale end,
                      s.name, s.email, s.phone
               from staged_member s order by s.member_id
           )
           select coalesce(sum(rows), 0)::bigint as "rows!" from totals"#,
        number,
        taken_back,
        members.keep_locales
    )
    .fetch_one(connection)
    .await
    .during(OPERATION)?;
    Ok(written.unsigned_abs())
}

/// A staged member and its current version.
#[derive(sqlx::FromRow)]
struct Pair {
    place: String,
    member_id: i64,
    same_locale: bool,
    staged_name: Vec<u8>,
    staged_email: Option<Vec<u8>>,
    staged_phone: Option<Vec<u8>>,
    name: Vec<u8>,
    email: Option<Vec<u8>>,
    phone: Option<Vec<u8>>,
}

async fn delete_unchanged(
    connection: &mut PgConnection,
    taken_back: &[i64],
    members: StagedMembers<'_>,
) -> Result<(), StoreError> {
    const OPERATION: &str = "cannot compare members with their current versions";
    // A cursor keeps its snapshot: rows that are deleted meanwhile do not shift it.
    sqlx::query!(
        "declare staged_and_current no scroll cursor for
         select s.ctid::text as place, s.member_id,
                $2 or s.locale is not distinct from m.locale as same_locale,
                s.name as staged_name, s.email as staged_email, s.phone as staged_phone, m.name, m.email, m.phone
         from staged_member s
         cross join lateral (select locale, name, email, phone from member m
                             where m.member_id = s.member_id and m.load <> all($1)
                             order by load desc limit 1) m",
        taken_back,
        members.keep_locales
    )
    .execute(&mut *connection)
    .await
    .during(OPERATION)?;
    loop {
        // Not `query!`, which can't describe the rows of a cursor.
        let pairs: Vec<Pair> = sqlx::query_as("fetch 10000 from staged_and_current")
            .fetch_all(&mut *connection)
            .await
            .during(OPERATION)?;
        let fetched = pairs.len();
        let mut unchanged = Vec::new();
        for pair in pairs {
            if pair.is_unchanged(members.keys).map_err(|error| StoreError::State(error.to_string()))? {
                unchanged.push(pair.place);
            }
        }
        if !unchanged.is_empty() {
            sqlx::query!("delete from staged_member where ctid = any($1::text[]::tid[])", &unchanged)
                .execute(&mut *connection)
                .await
                .during(OPERATION)?;
        }
        if fetched < COMPARED_AT_ONCE {
            break;
        }
    }
    sqlx::query!("close staged_and_current").execute(connection).await.during(OPERATION)?;
    Ok(())
}

impl Pair {
    fn is_unchanged(&self, keys: &Keyring) -> Result<bool, OpenError> {
        let member = MemberId::try_from(self.member_id).expect("the schema keeps ids positive");
        let same = |column, staged: Option<&[u8]>, current: Option<&[u8]>| match (staged, current) {
            (None, None) => Ok(true),
            (Some(staged), Some(current)) => {
                let (staged, current) =
                    (keys.open(column, member, staged)?, keys.open(column, member, current)?);
                Ok(staged.expose_secret() == current.expose_secret())
            }
            _ => Ok(false),
        };
        Ok(self.same_locale
            && same(Column::Name, Some(&self.staged_name), Some(&self.name))?
            && same(Column::Email, self.staged_email.as_deref(), self.email.as_deref())?
            && same(Column::Phone, self.staged_phone.as_deref(), self.phone.as_deref())?)
    }
}

/// A version that replaces another one concerns the months from the earlier of the two ends to the
/// later one; a new one concerns all its months.
async fn merge_subscriptions(
    connection: &mut PgConnection,
    number: i64,
    taken_back: &[i64],
) -> sqlx::Result<u64> {
    let written = sqlx::query_scalar!(
        r#"with merged as materialized (
               select s.member_id, s.plan_code, s.from_date, s.to_date,
                      case when c.known then least(s.to_date, c.to_date) else s.from_date end as changed_from,
                      case when s.to_date is not null and (c.known is null or c.to_date is not null)
                           then greatest(s.to_date, c.to_date) - 1 end as last_changed
               from (select distinct on (member_id, plan_code, from_date) member_id, plan_code, from_date, to_date
                     from staged_subscription order by member_id, plan_code, from_date, line_no desc) s
               left join lateral (select true as known, to_date from subscription c
                                  where c.member_id = s.member_id and c.plan_code = s.plan_code
                                    and c.from_date = s.from_date and c.load <> all($2)
                                  order by load desc limit 1) c on true
               where c.known is null or c.to_date is distinct from s.to_date
           ), written as (
               insert into subscription (member_id, plan_code, from_date, to_date, load)
               select member_id, plan_code, from_date, to_date, $1 from merged
           ), totals as (
               insert into load_total (load, file, from_month, to_month, rows)
               select $1, 'subscriptions', to_char(changed_from, 'YYYY-MM'),
                      case when last_changed is null then '2099-12'
                           else to_char(greatest(changed_from, last_changed), 'YYYY-MM') end, count(*)
               from merged group by 3, 4
               returning rows
           )
           select coalesce(sum(rows), 0)::bigint as "rows!" from totals"#,
        number,
        taken_back
    )
    .fetch_one(connection)
    .await?;
    Ok(written.unsigned_abs())
}

async fn merge_grants(connection: &mut PgConnection, number: i64, taken_back: &[i64]) -> sqlx::Result<u64> {
    let written = sqlx::query_scalar!(
        r#"with merged as materialized (
               select s.member_id, s.discount_code, s.from_date, s.to_date,
                      case when c.known then least(s.to_date, c.to_date) else s.from_date end as changed_from,
                      case when s.to_date is not null and (c.known is null or c.to_date is not null)
                           then greatest(s.to_date, c.to_date) - 1 end as last_changed
               from (select distinct on (member_id, discount_code, from_date) member_id, discount_code, from_date, to_date
                     from staged_grant order by member_id, discount_code, from_date, line_no desc) s
               left join lateral (select true as known, to_date from discount_grant c
                                  where c.member_id = s.member_id and c.discount_code = s.discount_code
                                    and c.from_date = s.from_date and c.load <> all($2)
                                  order by load desc limit 1) c on true
               where c.known is null or c.to_date is distinct from s.to_date
           ), written as (
               insert into discount_grant (member_id, discount_code, from_date, to_date, load)
               select member_id, discount_code, from_date, to_date, $1 from merged
           ), totals as (
               insert into load_total (load, file, from_month, to_month, rows)
               select $1, 'grants', to_char(changed_from, 'YYYY-MM'),
                      case when last_changed is null then '2099-12'
                           else to_char(greatest(changed_from, last_changed), 'YYYY-MM') end, count(*)
               from merged group by 3, 4
               returning rows
           )
           select coalesce(sum(rows), 0)::bigint as "rows!" from totals"#,
        number,
        taken_back
    )
    .fetch_one(connection)
    .await?;
    Ok(written.unsigned_abs())
}

async fn merge_adjustments(
    connection: &mut PgConnection,
    number: i64,
    taken_back: &[i64],
) -> sqlx::Result<(u64, u64)> {
    // A line is compared with the stored row, or else with the first line of the file that has its id.
    let conflicts = sqlx::query!(
        "insert into staged_conflict (file, line_no, other_load, other_line)
         select 'adjustments.csv', s.line_no, known.load, case when known.load is null then first.line_no end
         from staged_adjustment s
         join (select distinct on (adjustment_id) * from staged_adjustment order by adjustment_id, line_no) first
           on first.adjustment_id = s.adjustment_id
         left join adjustment known on known.adjustment_id = s.adjustment_id and known.load <> all($1)
         where case when known.load is null
                    then (s.member_id, s.month, s.code, s.amount, s.reason)
                         <> (first.member_id, first.month, first.code, first.amount, first.reason)
                    else (s.member_id, s.month, s.code, s.amount, s.reason)
                         <> (known.member_id, known.month, known.code, known.amount, known.reason) end",
        taken_back
    )
    .execute(&mut *connection)
    .await?;
    let written = sqlx::query_scalar!(
        r#"with written as (
               insert into adjustment (adjustment_id, member_id, month, code, amount, reason, load)
               select distinct on (adjustment_id) adjustment_id, member_id, month, code, amount, reason, $1
               from staged_adjustment s
               where not exists (
                   select from adjustment known where known.adjustment_id = s.adjustment_id and known.load <> all($2))
               order by adjustment_id, line_no
               returning month, amount
           ), totals as (
               insert into load_total (load, file, from_month, to_month, rows, quantity)
               select $1, 'adjustments', month, month, count(*), sum(amount) from written group by month
               returning rows
           )
           select coalesce(sum(rows), 0)::bigint as "rows!" from totals"#,
        number,
        taken_back
    )
    .fetch_one(connection)
    .await?;
    Ok((written.unsigned_abs(), conflicts.rows_affected()))
}

async fn merge_usage(
    connection: &mut PgConnection,
    number: i64,
    taken_back: &[i64],
    source: &str,
    month: BillingMonth,
) -> sqlx::Result<(u64, u64)> {
    let month = month.to_string();
    let conflicts = sqlx::query!(
        "with again as materialized (
             select usage_id, min(line_no) as first_line from staged_usage where month = $1
             group by usage_id having count(*) > 1)
         insert into staged_conflict (file, line_no, other_load, other_line)
         select 'usage.csv', s.line_no, known.load, null::bigint
         from staged_usage s
         join usage known on known.month = $1 and known.source = $2 and known.usage_id = s.usage_id
                             and known.load <> all($3)
         where s.month = $1
           and (s.member_id, s.kind, s.quantity, s.started_at)
               <> (known.member_id, known.kind, known.quantity, known.started_at)
         union all
         select 'usage.csv', s.line_no, null, first.line_no
         from again
         join staged_usage s on s.month = $1 and s.usage_id = again.usage_id and s.line_no <> again.first_line
         join staged_usage first on first.month = $1 and first.line_no = again.first_line
         where (s.member_id, s.kind, s.quantity, s.started_at)
               <> (first.member_id, first.kind, first.quantity, first.started_at)
           and not exists (select from usage known
                           where known.month = $1 and known.source = $2 and known.usage_id = s.usage_id
                             and known.load <> all($3))",
        month,
        source,
        taken_back
    )
    .execute(&mut *connection)
    .await?;
    let inserted = sqlx::query!(
        "with again as materialized (
             select usage_id, min(line_no) as first_line from staged_usage where month = $1
             group by usage_id having count(*) > 1)
         insert into usage (member_id, started_at, quantity, load, kind, month, source, usage_id)
         select s.member_id, s.started_at, s.quantity, $3, s.kind, s.month, $2, s.usage_id
         from staged_usage s
         where s.month = $1
           and not exists (select from again where again.usage_id = s.usage_id and again.first_line <> s.line_no)
           and not exists (select from usage known
                           where known.month = $1 and known.source = $2 and known.usage_id = s.usage_id
                             and known.load <> all($4))",
        month,
        source,
        number,
        taken_back
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if inserted > 0 {
        record_usage(connection, number, &month, inserted).await?;
    }
    Ok((inserted, conflicts.rows_affected()))
}

/// Records what was written of a month. If it is all that was staged, the staging table tells it,
/// however large the month is.
async fn record_usage(
    connection: &mut PgConnection,
    number: i64,
    month: &str,
    inserted: u64,
) -> sqlx::Result<()> {
    let recorded = sqlx::query!(
        "with staged as (
             select kind, count(*) as rows, sum(quantity) as quantity from staged_usage where month = $2 group by kind)
         insert into load_total (load, file, kind, from_month, to_month, rows, quantity)
         select $1, 'usage', kind, $2, $2, rows, quantity from staged where (select sum(rows) from staged) = $3::bigint",
        number,
        month,
        inserted.cast_signed()
    )
    .execute(&mut *connection)
    .await?;
    if recorded.rows_affected() == 0 {
        sqlx::query!(
            "insert into load_total (load, file, kind, from_month, to_month, rows, quantity)
             select $1, 'usage', kind, $2, $2, count(*), sum(quantity) from usage where month = $2 and load = $1 group by kind",
            number,
            month
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// The conflicting lines of a file, in order.
pub fn read_conflicts<'c>(
    connection: &'c mut PgConnection,
    file: &'c str,
) -> BoxStream<'c, Result<Conflict, DatabaseError>> {
    sqlx::query!(
        "select line_no, other_load, other_line from staged_conflict where file = $1 order by line_no",
        file
    )
    .fetch(connection)
    .map_ok(|row| Conflict {
        line: row.line_no.unsigned_abs(),
        with: match (row.other_load, row.other_line) {
            (Some(load), _) => EarlierContent::InLoad(load),
            (None, line) => EarlierContent::OnLine(line.unwrap_or_default()),
        },
    })
    .map(|row| row.during("cannot read the conflicting lines"))
    .boxed()
}
