//! Reads what the members whose outcome changes were priced from before, and what they are priced
//! from now, of any version of the data: the causes of the changes are found with it. The number of
//! statements does not depend on the number of members, and each returns its rows sorted by member.

use std::collections::BTreeMap;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use sqlx::PgConnection;

use super::chunk_inputs::{
    AdjustmentRow, GrantRow, SubscriptionRow, UsageBoundaries, UsageRow, read_adjustments, read_grants,
    read_members, read_subscriptions,
};
use super::chunk_span::ChunkSpan;
use crate::billing::billing_error::BillingError;
use crate::decode::{read_amount, read_number};
use crate::error::{During as _, StoreError};
use crate::load::DataVersion;

/// A revision that can be the last one to have billed a member, with the inputs that it pinned.
#[derive(Debug, Clone)]
pub struct PriorRevision {
    pub revision: Revision,
    pub data: DataVersion,
    /// The text of the price book.
    pub price_book: String,
}

/// Reads the revisions that can be the last one, as of a revision, to have billed a member: the
/// highest one of everyone and those of some members above it, from the highest to the lowest.
///
/// # Errors
/// When the database fails.
pub async fn read_prior_revisions(
    connection: &mut PgConnection,
    month: BillingMonth,
    of_revision: Revision,
) -> Result<Vec<PriorRevision>, BillingError> {
    let rows = sqlx::query!(
        r#"with layer as (
               select r.revision, r.data_cutoff, r.price_book, r.scope
               from revision_layer l
               join revision r on r.month = l.month and r.revision = l.layer
               where l.month = $1 and l.revision = $2
           )
           select l.revision as "revision!", l.data_cutoff as "data_cutoff!", b.content as "content!"
           from layer l
           join price_book b on b.sha256 = l.price_book
           where l.revision >= (select max(revision) from layer where scope = 'EVERYONE')
           order by l.revision desc"#,
        month.to_string(),
        of_revision.get()
    )
    .fetch_all(&mut *connection)
    .await
    .during("cannot read the inputs of the revisions that are billed again")?;
    let mut prior = Vec::with_capacity(rows.len());
    for row in rows {
        let data_cutoff = read_number("revision.data_cutoff", row.data_cutoff)?;
        prior.push(PriorRevision {
            revision: read_number("revision.revision", row.revision.into())?,
            data: DataVersion::read(connection, data_cutoff).await?,
            price_book: row.content,
        });
    }
    Ok(prior)
}

/// Reads, for each of the members, the highest of the revisions whose scope has it, whether or not
/// the member has an outcome in it: a re-billing writes none for a member whose outcome stays.
///
/// # Errors
/// When the database fails.
pub async fn read_last_billings(
    tx: &mut PgConnection,
    month: BillingMonth,
    members: &[MemberId],
    revisions: impl Iterator<Item = Revision>,
) -> Result<BTreeMap<MemberId, Revision>, BillingError> {
    let rows = sqlx::query!(
        r#"select m.member_id as "member_id!", max(r.revision) as "revision!"
           from unnest($2::bigint[]) as m (member_id)
           join revision r on r.month = $1 and r.revision = any($3) and m.member_id between r.scope_from and r.scope_to
           where not r.scope_listed or exists (
               select from scope_member s
               where s.month = r.month and s.revision = r.revision and s.member_id = m.member_id)
           group by m.member_id"#,
        month.to_string(),
        &ids(members),
        &revisions.map(Revision::get).collect::<Vec<_>>()
    )
    .fetch_all(tx)
    .await
    .during("cannot read which revisions billed the members last")?;
    rows.into_iter()
        .map(|row| {
            let member = read_number("scope_member.member_id", row.member_id)?;
            Ok((member, read_number("revision.revision", row.revision.into())?))
        })
        .collect()
}

/// What members are priced from, without their usage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputRows {
    /// The members that are known.
    pub members: Vec<MemberId>,
    pub subscriptions: Vec<SubscriptionRow>,
    pub grants: Vec<GrantRow>,
    pub adjustments: Vec<AdjustmentRow>,
}

/// Reads what these members of the chunk are priced from with this version of the data.
///
/// # Errors
/// When the database fails.
pub async fn read_inputs_of(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    members: &[MemberId],
    month: BillingMonth,
    data: &DataVersion,
) -> Result<InputRows, BillingError> {
    let only = ChunkSpan { members: Some(ids(members)), ..chunk.clone() };
    Ok(InputRows {
        members: read_members(tx, &only, data).await?,
        subscriptions: read_subscriptions(tx, &only, month, data).await?,
        grants: read_grants(tx, &only, month, data).await?,
        adjustments: read_adjustments(tx, &only, month, data).await?,
    })
}

/// Usage that counts in one version of the data, in the other, or in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedUsageRow {
    pub usage: UsageRow,
    pub before: bool,
    pub after: bool,
}

/// Reads the month's usage of these members, summed by member, kind, boundary, and in which of two
/// versions of the data it counts.
///
/// # Errors
/// When the database fails.
pub async fn read_compared_usage(
    tx: &mut PgConnection,
    members: &[MemberId],
    month: BillingMonth,
    before: &DataVersion,
    after: &DataVersion,
    boundaries: &UsageBoundaries,
) -> Result<Vec<ComparedUsageRow>, BillingError> {
    let rows = sqlx::query!(
        r#"with cut as materialized (
               select member_id, array_agg(instant order by instant) as instants
               from unnest($5::bigint[], $6::timestamptz[]) as c (member_id, instant)
               group by member_id
           )
           select u.member_id as "member_id!", u.kind as "kind!",
                  coalesce(width_bucket(u.started_at, cut.instants), 0) as "bucket!",
                  u.load <= $3 and u.load <> all($7) as "before!", u.load <= $4 and u.load <> all($8) as "after!",
                  count(*) as "rows!", sum(u.quantity)::text as "quantity!"
           from usage u left join cut on cut.member_id = u.member_id
           where u.month = $1 and u.member_id = any($2)
             and (u.load <= $3 and u.load <> all($7) or u.load <= $4 and u.load <> all($8))
           group by 1, 2, 3, 4, 5
           order by 1"#,
        month.to_string(),
        &ids(members),
        before.cutoff.get(),
        after.cutoff.get(),
        boundaries.members(),
        boundaries.instants() as &[jiff_sqlx::Timestamp],
        &before.taken_back,
        &after.taken_back
    )
    .fetch_all(tx)
    .await
    .during("cannot compare the usage of changed members")?;
    rows.into_iter()
        .map(|row| {
            Ok(ComparedUsageRow {
                usage: UsageRow {
                    member_id: read_number("usage.member_id", row.member_id)?,
                    kind: row.kind,
                    interval: usize::try_from(row.bucket)
                        .map_err(|_| StoreError::unreadable("usage bucket", row.bucket))?,
                    rows: u64::try_from(row.rows)
                        .map_err(|_| StoreError::unreadable("usage count", row.rows))?,
                    quantity: read_amount("usage.quantity", &row.quantity)?,
                },
                before: row.before,
                after: row.after,
            })
        })
        .collect()
}

fn ids(members: &[MemberId]) -> Vec<i64> {
    members.iter().map(|member| member.get()).collect()
}
