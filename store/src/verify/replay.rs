//! Reads what a replay of a month compares with: its live revisions, and the outcomes that the
//! tables have as of each of them. Pricing the same members again is the caller's.

use std::collections::BTreeMap;

use domain::bill_digest::BillDigest;
use domain::ids::{MemberId, Revision};
use domain::money::MinorUnits;
use domain::month::BillingMonth;
use domain::pricing::Amounts;
use sqlx::PgConnection;

use crate::billing::RevisionKey;
use crate::billing::chunk::ChunkSpan;
use crate::decode::{read_amount, read_bill_digest, read_number};
use crate::error::{During as _, StoreError};

/// A live revision of a month.
#[derive(Debug, Clone)]
pub struct LiveRevision {
    pub key: RevisionKey,
    /// The SHA-256 of its price book, in hexadecimal.
    pub price_book: String,
    rebilling: bool,
    listed: bool,
    /// It leaves bills as they are that were sent.
    adjusting: bool,
}

/// A chunk as it was planned, and which version of the pricing rules priced it.
#[derive(Debug, Clone)]
pub struct PricedChunk {
    chunk_no: i32,
    from_member: i64,
    to_member: i64,
    /// None: it was priced by a version that recorded none.
    pub pricing_version: Option<i32>,
}

/// What the tables have of a member as of a revision. By the invariants it is a bill with its
/// items, or a quarantine record, or nothing.
#[derive(Debug, Clone, Default)]
pub struct StoredOutcome {
    pub bill: Option<StoredBill>,
    /// In order of `line_no`.
    pub items: Vec<StoredItem>,
    /// The code of the quarantine record.
    pub quarantine: Option<String>,
}

#[derive(Debug, Clone)]
pub struct StoredBill {
    pub amounts: Amounts,
    /// It may have stayed because it was sent, with the difference of its total posted to a later
    /// month: then its items are those of an earlier price.
    pub may_have_stayed: bool,
    /// What live revisions up to this one have posted for the member to later months, in minor units.
    pub posted: i128,
    /// None: the bill was written by a version that stored none.
    pub digest: Option<BillDigest>,
}

#[derive(Debug, Clone)]
pub struct StoredItem {
    pub line_no: i32,
    pub kind: String,
    pub code: String,
    pub quantity: i64,
    pub amount: i64,
    pub days: Option<i32>,
    pub used: Option<i64>,
    pub free: Option<i64>,
}

/// Reads the live revisions of the month, ascending.
///
/// # Errors
/// When the database fails.
pub async fn read_live_revisions(
    connection: &mut PgConnection,
    month: BillingMonth,
) -> Result<Vec<LiveRevision>, StoreError> {
    let rows = sqlx::query!(
        r#"select revision, run_uid, fence, price_book, of_revision is not null as "rebilling!", scope_listed,
                  after_sent = 'ADJUST' as "adjusting!"
           from revision where month = $1 and state = 'LIVE' order by revision"#,
        month.to_string()
    )
    .fetch_all(connection)
    .await
    .during("cannot read the live revisions")?;
    rows.into_iter()
        .map(|row| {
            let revision = read_number("revision.revision", row.revision.into())?;
            Ok(LiveRevision {
                key: RevisionKey { month, revision, run_uid: row.run_uid, fence: row.fence },
                price_book: row.price_book,
                rebilling: row.rebilling,
                listed: row.scope_listed,
                adjusting: row.adjusting,
            })
        })
        .collect()
}

/// Reads one revision of the month, whatever its state. [`read_outcomes`] as of it has what it wrote,
/// and what the revisions that it bills again have of others.
///
/// # Errors
/// When there is no such revision, or the database fails.
pub async fn read_revision(
    connection: &mut PgConnection,
    month: BillingMonth,
    revision: Revision,
) -> Result<LiveRevision, StoreError> {
    let row = sqlx::query!(
        r#"select run_uid, fence, price_book, of_revision is not null as "rebilling!", after_sent = 'ADJUST' as "adjusting!"
           from revision where month = $1 and revision = $2"#,
        month.to_string(),
        revision.get()
    )
    .fetch_one(connection)
    .await
    .during("cannot read a revision")?;
    Ok(LiveRevision {
        key: RevisionKey { month, revision, run_uid: row.run_uid, fence: row.fence },
        price_book: row.price_book,
        rebilling: row.rebilling,
        // The caller names the members.
        listed: false,
        adjusting: row.adjusting,
    })
}

/// Reads the chunks of the revision, in their order.
///
/// # Errors
/// When the database fails.
pub async fn read_chunks(
    connection: &mut PgConnection,
    revision: &LiveRevision,
) -> Result<Vec<PricedChunk>, StoreError> {
    let chunks = sqlx::query_as!(
        PricedChunk,
        "select chunk_no, from_member, to_member, pricing_version
         from chunk where month = $1 and revision = $2 order by chunk_no",
        revision.key.month.to_string(),
        revision.key.revision.get()
    )
    .fetch_all(connection)
    .await
    .during("cannot read the chunks of a live revision")?;
    Ok(chunks)
}

/// Reads which members the chunk consists of.
///
/// # Errors
/// When the database fails.
pub async fn read_span(
    tx: &mut PgConnection,
    revision: &LiveRevision,
    chunk: &PricedChunk,
) -> Result<ChunkSpan, StoreError> {
    let PricedChunk { chunk_no, from_member, to_member, .. } = *chunk;
    Ok(ChunkSpan::read(tx, &revision.key, chunk_no, from_member, to_member, revision.listed).await?)
}

/// Reads the outcomes of the chunk's members as of the revision: its own, and of members for whom
/// it has none those of the revisions that it bills again.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_outcomes(
    tx: &mut PgConnection,
    revision: &LiveRevision,
    span: &ChunkSpan,
) -> Result<BTreeMap<MemberId, StoredOutcome>, StoreError> {
    let mut outcomes = BTreeMap::new();
    add_bills(tx, revision, span, &mut outcomes).await?;
    add_posted(tx, revision, span, &mut outcomes).await?;
    add_items(tx, revision, span, &mut outcomes).await?;
    add_quarantine(tx, revision, span, &mut outcomes).await?;
    Ok(outcomes)
}

async fn add_bills(
    tx: &mut PgConnection,
    revision: &LiveRevision,
    span: &ChunkSpan,
    outcomes: &mut BTreeMap<MemberId, StoredOutcome>,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        r#"select member_id as "member_id!", revision as "revision!", base_amount as "base!", usage_amount as "usage!",
                  discount_amount as "discount!", adjustment_amount as "adjustment!", tax_amount as "tax!",
                  rounding_amount as "rounding!", total_amount as "total!", digest
           from bill_as_of($1, $2, $3, $4, $5, $6)"#,
        revision.key.month.to_string(),
        revision.key.revision.get(),
        revision.rebilling,
        revision.listed,
        span.from_member,
        span.to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read the bills as of a revision")?;
    for row in rows {
        let member = read_number("bill.member_id", row.member_id)?;
        let digest = row.digest.map(|bytes| read_bill_digest("bill.digest", bytes)).transpose()?;
        let amounts = Amounts {
            base: MinorUnits::new(row.base),
            usage: MinorUnits::new(row.usage),
            discount: MinorUnits::new(row.discount),
            adjustment: MinorUnits::new(row.adjustment),
            tax: MinorUnits::new(row.tax),
            rounding: MinorUnits::new(row.rounding),
            total: MinorUnits::new(row.total),
        };
        outcomes.entry(member).or_default().bill = Some(StoredBill {
            amounts,
            may_have_stayed: revision.adjusting && row.revision < revision.key.revision.get(),
            posted: 0,
            digest,
        });
    }
    Ok(())
}

/// Of members with a bill: who has none has nothing posted, as another check finds.
async fn add_posted(
    tx: &mut PgConnection,
    revision: &LiveRevision,
    span: &ChunkSpan,
    outcomes: &mut BTreeMap<MemberId, StoredOutcome>,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        r#"select d.member_id, sum(d.amount)::text as "posted!"
           from revision r
           join posted_difference d on d.month = r.month and d.revision = r.revision
           where r.month = $1 and r.revision <= $2 and r.state = 'LIVE' and r.posts_to is not null
             and d.member_id between $3 and $4
           group by d.member_id"#,
        revision.key.month.to_string(),
        revision.key.revision.get(),
        span.from_member,
        span.to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read what was posted up to a revision")?;
    for row in rows {
        let member = read_number("posted_difference.member_id", row.member_id)?;
        let posted = read_amount("posted_difference.amount", &row.posted)?;
        if let Some(bill) = outcomes.get_mut(&member).and_then(|outcome| outcome.bill.as_mut()) {
            bill.posted = posted;
        }
    }
    Ok(())
}

async fn add_items(
    tx: &mut PgConnection,
    revision: &LiveRevision,
    span: &ChunkSpan,
    outcomes: &mut BTreeMap<MemberId, StoredOutcome>,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        r#"select member_id as "member_id!", line_no as "line_no!", kind::text as "kind!", code as "code!",
                  quantity as "quantity!", amount as "amount!", days, used_quantity, free_allowance
           from bill_item_as_of($1, $2, $3, $4, $5, $6)
           order by member_id, line_no"#,
        revision.key.month.to_string(),
        revision.key.revision.get(),
        revision.rebilling,
        revision.listed,
        span.from_member,
        span.to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read the items as of a revision")?;
    for row in rows {
        let member = read_number("bill_item.member_id", row.member_id)?;
        outcomes.entry(member).or_default().items.push(StoredItem {
            line_no: row.line_no,
            kind: row.kind,
            code: row.code,
            quantity: row.quantity,
            amount: row.amount,
            days: row.days,
            used: row.used_quantity,
            free: row.free_allowance,
        });
    }
    Ok(())
}

async fn add_quarantine(
    tx: &mut PgConnection,
    revision: &LiveRevision,
    span: &ChunkSpan,
    outcomes: &mut BTreeMap<MemberId, StoredOutcome>,
) -> Result<(), StoreError> {
    let rows = sqlx::query!(
        r#"select member_id as "member_id!", code as "code!" from quarantine_as_of($1, $2, $3, $4, $5, $6)"#,
        revision.key.month.to_string(),
        revision.key.revision.get(),
        revision.rebilling,
        revision.listed,
        span.from_member,
        span.to_member
    )
    .fetch_all(tx)
    .await
    .during("cannot read the quarantine as of a revision")?;
    for row in rows {
        let member = read_number("quarantined_member.member_id", row.member_id)?;
        outcomes.entry(member).or_default().quarantine = Some(row.code);
    }
    Ok(())
}
