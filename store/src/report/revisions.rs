//! The revisions of a month, with the figures that each of them keeps.

use domain::ids::{LoadNumber, Revision};
use domain::month::BillingMonth;
use jiff::Timestamp;
use sqlx::PgConnection;

use crate::billing::{Amounts, NotCharged, RevisionState, ScopeKind};
use crate::decode::{read_amount, read_month, read_number};
use crate::error::{DatabaseError, During as _, StoreError};

/// A revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRow {
    pub revision: Revision,
    pub state: RevisionState,
    /// `NAMESPACE/NAME`.
    pub run: String,
    pub price_book_version: String,
    /// The SHA-256 in hexadecimal.
    pub price_book: String,
    pub data_cutoff: LoadNumber,
    pub of_revision: Option<Revision>,
    pub scope: ScopeKind,
    /// Eligible members of the scope, as counted at planning.
    pub members: i64,
    pub opened_at: Timestamp,
    pub verified_at: Option<Timestamp>,
    pub issued_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    /// Of the whole month, once this revision is live. None: not verified.
    pub month: Option<MonthCounts>,
    /// The month that bills the differences that it has posted.
    pub posts_to: Option<BillingMonth>,
    /// Why it was rejected or rolled back, or why the month is billed again.
    pub reason: Option<String>,
    pub decided_by: Option<String>,
}

/// Kept with each verified revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthCounts {
    pub billed: i64,
    pub quarantined: i64,
    /// Minor units.
    pub total: i128,
}

/// Reads the revisions of the month, ascending.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_revisions(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<Vec<RevisionRow>, StoreError> {
    let rows = sqlx::query!(
        r#"select r.revision, r.state, r.run, b.version, r.price_book, r.data_cutoff, r.of_revision, r.scope, r.scope_from,
                  r.scope_to, r.members, r.opened_at as "opened_at: jiff_sqlx::Timestamp",
                  r.verified_at as "verified_at: jiff_sqlx::Timestamp", r.issued_at as "issued_at: jiff_sqlx::Timestamp",
                  r.closed_at as "closed_at: jiff_sqlx::Timestamp", r.month_billed, r.month_quarantined,
                  r.month_total::text as month_total, r.posts_to, coalesce(r.reason, r.rebill_reason) as reason, r.decided_by
           from revision r join price_book b on b.sha256 = r.price_book
           where r.month = $1 order by r.revision"#,
        month.to_string()
    )
    .fetch_all(connection)
    .await
    .during("cannot read the revisions of the month")?;
    rows.into_iter()
        .map(|row| {
            let counts = match (row.month_billed, row.month_quarantined, row.month_total) {
                (Some(billed), Some(quarantined), Some(total)) => {
                    let total = read_amount("revision.month_total", &total)?;
                    Some(MonthCounts { billed, quarantined, total })
                }
                _ => None,
            };
            let of_revision = row.of_revision.map(|of| read_number("revision.of_revision", of.into()));
            let posts_to = row.posts_to.map(|month| read_month("revision.posts_to", &month));
            Ok(RevisionRow {
                revision: read_number("revision.revision", row.revision.into())?,
                state: RevisionState::parse(&row.state)?,
                run: row.run,
                price_book_version: row.version,
                price_book: row.price_book,
                data_cutoff: read_number("revision.data_cutoff", row.data_cutoff)?,
                of_revision: of_revision.transpose()?,
                scope: ScopeKind::read(&row.scope, row.scope_from, row.scope_to)?,
                members: row.members,
                opened_at: row.opened_at.to_jiff(),
                verified_at: row.verified_at.map(jiff_sqlx::Timestamp::to_jiff),
                issued_at: row.issued_at.map(jiff_sqlx::Timestamp::to_jiff),
                closed_at: row.closed_at.map(jiff_sqlx::Timestamp::to_jiff),
                month: counts,
                posts_to: posts_to.transpose()?,
                reason: row.reason,
                decided_by: row.decided_by,
            })
        })
        .collect()
}

/// The progress of one shard of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardRow {
    pub shard: i32,
    pub chunks: i64,
    pub chunks_done: i64,
    pub members: i64,
    pub members_done: i64,
    pub last_done_at: Option<Timestamp>,
}

/// Sums the chunks of the revision by shard.
///
/// # Errors
/// When the database fails.
pub async fn read_shards(
    connection: &mut PgConnection,
    month: BillingMonth,
    revision: Revision,
) -> Result<Vec<ShardRow>, DatabaseError> {
    let rows = sqlx::query!(
        r#"select shard, count(*) as "chunks!", count(*) filter (where state = 'DONE') as "done!",
                  coalesce(sum(members), 0)::bigint as "members!",
                  coalesce(sum(billed + quarantined), 0)::bigint as "members_done!",
                  max(done_at) as "last_done_at: jiff_sqlx::Timestamp"
           from chunk where month = $1 and revision = $2 group by shard order by shard"#,
        month.to_string(),
        revision.get()
    )
    .fetch_all(connection)
    .await
    .during("cannot sum the chunks by shard")?;
    let shards = rows.into_iter().map(|row| ShardRow {
        shard: row.shard,
        chunks: row.chunks,
        chunks_done: row.done,
        members: row.members,
        members_done: row.members_done,
        last_done_at: row.last_done_at.map(jiff_sqlx::Timestamp::to_jiff),
    });
    Ok(shards.collect())
}

/// Sums the chunks of a revision of everyone: the amounts of all bills of the month as of it, and what is not
/// charged.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_month_amounts(
    connection: &mut PgConnection,
    month: BillingMonth,
    revision: Revision,
) -> Result<(Amounts, NotCharged), StoreError> {
    let row = sqlx::query!(
        r#"select coalesce(sum(base_amount), 0)::text as "base!", coalesce(sum(usage_amount), 0)::text as "usage!",
                  coalesce(sum(discount_amount), 0)::text as "discount!",
                  coalesce(sum(adjustment_amount), 0)::text as "adjustment!", coalesce(sum(tax_amount), 0)::text as "tax!",
                  coalesce(sum(rounding_amount), 0)::text as "rounding!", coalesce(sum(total_amount), 0)::text as "total!",
                  coalesce(sum(not_charged_add_ons), 0)::bigint as "add_ons!",
                  coalesce(sum(not_charged_adjustments), 0)::bigint as "adjustments!",
                  coalesce(sum(not_charged_adjustment_amount), 0)::text as "adjustment_amount_not_charged!",
                  coalesce(sum(not_charged_usage), 0)::bigint as "usage_rows!"
           from chunk where month = $1 and revision = $2"#,
        month.to_string(),
        revision.get()
    )
    .fetch_one(connection)
    .await
    .during("cannot sum the chunks of a revision")?;
    let amounts = Amounts {
        base: read_amount("chunk.base_amount", &row.base)?,
        usage: read_amount("chunk.usage_amount", &row.usage)?,
        discount: read_amount("chunk.discount_amount", &row.discount)?,
        adjustment: read_amount("chunk.adjustment_amount", &row.adjustment)?,
        tax: read_amount("chunk.tax_amount", &row.tax)?,
        rounding: read_amount("chunk.rounding_amount", &row.rounding)?,
        total: read_amount("chunk.total_amount", &row.total)?,
    };
    let not_charged = NotCharged {
        add_ons: row.add_ons,
        adjustments: row.adjustments,
        adjustment_amount: read_amount(
            "chunk.not_charged_adjustment_amount",
            &row.adjustment_amount_not_charged,
        )?,
        usage_rows: row.usage_rows,
    };
    Ok((amounts, not_charged))
}
