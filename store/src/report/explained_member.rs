//! What a member's bill is explained with, besides the inputs that pricing reads: which revision has the
//! member's outcome, what was posted to other months, the reasons of adjustments, and when usage occurred.

use domain::ids::{LoadNumber, MemberId, Revision};
use domain::month::BillingMonth;
use domain::pricing::AdjustmentIdentity;
use jiff::Timestamp;
use sqlx::PgConnection;

use super::revisions::{RevisionRow, read_revisions};
use crate::billing::RevisionState;
use crate::decode::{read_amount, read_month, read_number};
use crate::error::{DatabaseError, During as _, StoreError};
use crate::load::DataVersion;

/// Finds a revision of the month; without a number the highest live one.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn find_revision(
    connection: &mut PgConnection,
    month: BillingMonth,
    revision: Option<Revision>,
) -> Result<Option<RevisionRow>, StoreError> {
    let all = read_revisions(connection, month).await?;
    Ok(all.into_iter().rfind(|row| match revision {
        Some(number) => row.revision == number,
        None => row.state == RevisionState::Live,
    }))
}

/// Which revision says what of a member, as of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberOutcome {
    /// That of the outcome, or without one the last one that billed the member.
    pub revision: Revision,
    /// Why the member is in quarantine, in the words of the program that billed.
    pub quarantine_detail: Option<String>,
}

/// Finds the revision that has the member's outcome as of a revision. None: none of them billed the member.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn find_outcome(
    connection: &mut PgConnection,
    month: BillingMonth,
    as_of: Revision,
    member: MemberId,
) -> Result<Option<MemberOutcome>, StoreError> {
    let row = sqlx::query!(
        r#"select l.layer as "layer!", q.detail as "detail?",
                  b.member_id is not null or q.member_id is not null or i.member_id is not null as "found!"
           from revision_layer l
           join revision r on r.month = l.month and r.revision = l.layer
           left join bill b on b.month = l.month and b.revision = l.layer and b.member_id = $3
           left join quarantined_member q on q.month = l.month and q.revision = l.layer and q.member_id = $3
           left join ineligible_member i on i.month = l.month and i.revision = l.layer and i.member_id = $3
           where l.month = $1 and l.revision = $2 and $3 between r.scope_from and r.scope_to
             and (not r.scope_listed or exists (
                 select from scope_member s
                 where s.month = l.month and s.revision = l.layer and s.member_id = $3))
           order by 3 desc, l.layer desc limit 1"#,
        month.to_string(),
        as_of.get(),
        member.get()
    )
    .fetch_optional(connection)
    .await
    .during("cannot find the member's outcome")?;
    row.map(|row| {
        let revision = read_number("revision.revision", row.layer.into())?;
        Ok(MemberOutcome { revision, quarantine_detail: row.detail })
    })
    .transpose()
}

/// The chunk that has a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkState {
    pub done: bool,
    /// The version of the pricing rules of the worker that priced it.
    pub pricing_version: Option<i32>,
}

/// Reads the chunk of the revision that has the member.
///
/// # Errors
/// When the database fails.
pub async fn read_chunk_of(
    connection: &mut PgConnection,
    month: BillingMonth,
    revision: Revision,
    member: MemberId,
) -> Result<Option<ChunkState>, DatabaseError> {
    let chunk = sqlx::query_as!(
        ChunkState,
        r#"select state = 'DONE' as "done!", pricing_version from chunk
           where month = $1 and revision = $2 and $3 between from_member and to_member"#,
        month.to_string(),
        revision.get(),
        member.get()
    )
    .fetch_optional(connection)
    .await
    .during("cannot read the member's chunk")?;
    Ok(chunk)
}

/// A difference that a live re-billing of this month has posted for the member to a later month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    pub revision: Revision,
    pub to: BillingMonth,
    pub amount: i64,
}

/// Reads what live revisions of the month, up to this one, have posted for the member.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_posted(
    connection: &mut PgConnection,
    month: BillingMonth,
    up_to: Revision,
    member: MemberId,
) -> Result<Vec<Posted>, StoreError> {
    let rows = sqlx::query!(
        r#"select d.revision, r.posts_to as "posts_to!", d.amount
           from revision r
           join posted_difference d on d.month = r.month and d.revision = r.revision and d.member_id = $3
           where r.month = $1 and r.revision <= $2 and r.state = 'LIVE' and r.posts_to is not null
           order by d.revision"#,
        month.to_string(),
        up_to.get(),
        member.get()
    )
    .fetch_all(connection)
    .await
    .during("cannot read what was posted for the member")?;
    rows.into_iter()
        .map(|row| {
            Ok(Posted {
                revision: read_number("posted_difference.revision", row.revision.into())?,
                to: read_month("revision.posts_to", &row.posts_to)?,
                amount: row.amount,
            })
        })
        .collect()
}

/// Reads the reasons of the member's loaded adjustments of the month.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_reasons(
    connection: &mut PgConnection,
    month: BillingMonth,
    member: MemberId,
) -> Result<Vec<(AdjustmentIdentity, String)>, StoreError> {
    let rows = sqlx::query!(
        "select adjustment_id, reason from adjustment where month = $1 and member_id = $2 order by adjustment_id",
        month.to_string(),
        member.get()
    )
    .fetch_all(connection)
    .await
    .during("cannot read the reasons of adjustments")?;
    rows.into_iter()
        .map(|row| {
            let id = read_number("adjustment.adjustment_id", row.adjustment_id)?;
            Ok((AdjustmentIdentity::Loaded(id), row.reason))
        })
        .collect()
}

/// The member's usage of one kind between two boundaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageSpanRow {
    pub kind: String,
    pub interval: usize,
    pub records: u64,
    pub quantity: i128,
    pub first: Timestamp,
    pub last: Timestamp,
}

/// Sums the member's usage as pricing does, with the first and the last instant.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_usage_spans(
    connection: &mut PgConnection,
    month: BillingMonth,
    member: MemberId,
    data: &DataVersion,
    boundaries: &[Timestamp],
) -> Result<Vec<UsageSpanRow>, StoreError> {
    let boundaries: Vec<jiff_sqlx::Timestamp> =
        boundaries.iter().map(|at| jiff_sqlx::Timestamp::from(*at)).collect();
    let rows = sqlx::query!(
        r#"select kind, width_bucket(started_at, $5::timestamptz[]) as "bucket!", count(*) as "records!",
                  sum(quantity)::text as "quantity!", min(started_at) as "first!: jiff_sqlx::Timestamp",
                  max(started_at) as "last!: jiff_sqlx::Timestamp"
           from usage
           where month = $1 and member_id = $2 and load <= $3 and load <> all($4)
           group by 1, 2 order by 1, 2"#,
        month.to_string(),
        member.get(),
        data.cutoff.get(),
        &data.taken_back,
        &boundaries as &[jiff_sqlx::Timestamp]
    )
    .fetch_all(connection)
    .await
    .during("cannot sum the member's usage")?;
    rows.into_iter()
        .map(|row| {
            Ok(UsageSpanRow {
                kind: row.kind,
                interval: usize::try_from(row.bucket)
                    .map_err(|_| StoreError::unreadable("usage bucket", row.bucket))?,
                records: u64::try_from(row.records)
                    .map_err(|_| StoreError::unreadable("usage count", row.records))?,
                quantity: read_amount("usage.quantity", &row.quantity)?,
                first: row.first.to_jiff(),
                last: row.last.to_jiff(),
            })
        })
        .collect()
}

/// One usage row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    pub source: String,
    pub usage_id: String,
    pub kind: String,
    pub quantity: i64,
    pub started_at: Timestamp,
    pub load: LoadNumber,
}

/// Reads each usage row of the member that counts, by time.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_usage_records(
    connection: &mut PgConnection,
    month: BillingMonth,
    member: MemberId,
    data: &DataVersion,
) -> Result<Vec<UsageRecord>, StoreError> {
    let rows = sqlx::query!(
        r#"select source, usage_id, kind, quantity, started_at as "started_at: jiff_sqlx::Timestamp", load
           from usage where month = $1 and member_id = $2 and load <= $3 and load <> all($4)
           order by started_at, kind, source, usage_id"#,
        month.to_string(),
        member.get(),
        data.cutoff.get(),
        &data.taken_back
    )
    .fetch_all(connection)
    .await
    .during("cannot read the member's usage")?;
    rows.into_iter()
        .map(|row| {
            Ok(UsageRecord {
                source: row.source,
                usage_id: row.usage_id,
                kind: row.kind,
                quantity: row.quantity,
                started_at: row.started_at.to_jiff(),
                load: read_number("usage.load", row.load)?,
            })
        })
        .collect()
}
