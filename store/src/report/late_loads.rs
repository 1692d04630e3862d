//! What came after the cut-off of a month's highest live revision, load by load.

use domain::ids::{LoadNumber, Revision};
use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::decode::read_number;
use crate::error::{DatabaseError, During as _, StoreError};

/// Rows of one kind of one load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateLoad {
    pub load: LoadNumber,
    pub source: String,
    pub finished_at: Option<Timestamp>,
    /// The load is within the cut-off and was taken back after it.
    pub taken_back: bool,
    /// `members`, `subscriptions`, `grants`, `adjustments` or `usage`.
    pub file: String,
    /// Of usage; otherwise empty.
    pub kind: String,
    pub rows: i64,
}

/// Finds the highest live revision of the month, and its cut-off.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn find_highest_live(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<Option<(Revision, LoadNumber)>, StoreError> {
    let row = sqlx::query!(
        "select revision, data_cutoff from revision where month = $1 and state = 'LIVE' order by revision desc limit 1",
        month.to_string()
    )
    .fetch_optional(connection)
    .await
    .during("cannot read the highest live revision")?;
    row.map(|row| {
        Ok((
            read_number("revision.revision", row.revision.into())?,
            read_number("revision.data_cutoff", row.data_cutoff)?,
        ))
    })
    .transpose()
}

/// Reads what loads brought, or took away, for the month after the cut-off, from what each load recorded.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_late_loads(
    connection: &mut PgConnection,
    month: BillingMonth,
    cutoff: LoadNumber,
) -> Result<Vec<LateLoad>, StoreError> {
    let rows = sqlx::query!(
        r#"select l.number, l.source, coalesce(b.finished_at, l.finished_at) as "finished_at: jiff_sqlx::Timestamp",
                  l.taken_back_by is not null as "taken_back!", t.file,
                  case t.file when 'usage' then t.kind else '' end as "kind!", sum(t.rows)::bigint as "rows!"
           from load l
           join load_total t on t.load = l.number
           left join load b on b.number = l.taken_back_by
           where (l.number > $2 and l.taken_back_by is null or l.number <= $2 and l.taken_back_by > $2)
             and $1 between t.from_month and t.to_month
             and (t.file <> 'members' or t.kind = 'NEW' or l.taken_back_by is not null)
           group by 1, 2, 3, 4, 5, 6 order by 1, 5, 6"#,
        month.to_string(),
        cutoff.get()
    )
    .fetch_all(connection)
    .await
    .during("cannot read what came after the cut-off")?;
    rows.into_iter()
        .map(|row| {
            Ok(LateLoad {
                load: read_number("load.number", row.number)?,
                source: row.source,
                finished_at: row.finished_at.map(jiff_sqlx::Timestamp::to_jiff),
                taken_back: row.taken_back,
                file: row.file,
                kind: row.kind,
                rows: row.rows,
            })
        })
        .collect()
}

/// Counts the members that a run with `scope.select: Late` would bill. Reads the rows of the late loads, and
/// the month's usage to find them.
///
/// # Errors
/// When the database fails.
pub async fn count_late_members(
    connection: &mut PgConnection,
    month: BillingMonth,
    cutoff: LoadNumber,
) -> Result<i64, DatabaseError> {
    let members = sqlx::query_scalar!(
        r#"select count(distinct member_id) as "members!" from late_row($1, $2, $3) where file <> 'members'"#,
        month.to_string(),
        cutoff.get(),
        i64::MAX
    )
    .fetch_one(connection)
    .await
    .during("cannot count the members with late data")?;
    Ok(members)
}
