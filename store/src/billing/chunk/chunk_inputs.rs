//! Reads what pricing a chunk's members needs, of the run's version of the data. The number of
//! statements does not depend on the number of members, and each returns its rows sorted by member.

use domain::ids::MemberId;
use domain::month::BillingMonth;
use domain::pricing::AdjustmentIdentity;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;

use super::chunk_span::ChunkSpan;
use crate::billing::billing_error::BillingError;
use crate::decode::{read_amount, read_month, read_number};
use crate::error::{During as _, StoreError};
use crate::load::DataVersion;

/// Reads the ids of the known members, ascending.
///
/// # Errors
/// When the database fails.
pub async fn read_members(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    data: &DataVersion,
) -> Result<Vec<MemberId>, BillingError> {
    let ids = sqlx::query_scalar!(
        "select distinct member_id from member
         where member_id between $1 and $2 and ($5::bigint[] is null or member_id = any($5))
           and load <= $3 and load <> all($4)
         order by member_id",
        chunk.from_member,
        chunk.to_member,
        data.cutoff.get(),
        &data.taken_back,
        chunk.members.as_deref()
    )
    .fetch_all(tx)
    .await
    .during("cannot read the members")?;
    ids.into_iter().map(|id| Ok(read_number("member.member_id", id)?)).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionRow {
    pub member_id: MemberId,
    pub plan_code: String,
    pub from_date: Date,
    pub to_date: Option<Date>,
}

/// Reads the subscriptions with a day in the month.
///
/// # Errors
/// When the database fails.
pub async fn read_subscriptions(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    data: &DataVersion,
) -> Result<Vec<SubscriptionRow>, BillingError> {
    let rows = sqlx::query!(
        r#"select member_id, plan_code, from_date as "from_date: jiff_sqlx::Date", to_date as "to_date: jiff_sqlx::Date"
           from (select distinct on (member_id, plan_code, from_date) member_id, plan_code, from_date, to_date
                 from subscription
                 where member_id between $1 and $2 and ($7::bigint[] is null or member_id = any($7))
                   and load <= $3 and load <> all($6) and from_date < $5
                 order by member_id, plan_code, from_date, load desc) as_of_cutoff
           where to_date is null or to_date > greatest(from_date, $4)
           order by member_id"#,
        chunk.from_member,
        chunk.to_member,
        data.cutoff.get(),
        month.first_day().to_sqlx() as _,
        month.next_first_day().to_sqlx() as _,
        &data.taken_back,
        chunk.members.as_deref()
    )
    .fetch_all(tx)
    .await
    .during("cannot read the subscriptions")?;
    rows.into_iter()
        .map(|row| {
            Ok(SubscriptionRow {
                member_id: read_number("subscription.member_id", row.member_id)?,
                plan_code: row.plan_code,
                from_date: row.from_date.to_jiff(),
                to_date: row.to_date.map(jiff_sqlx::Date::to_jiff),
            })
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    pub member_id: MemberId,
    pub discount_code: String,
    pub from_date: Date,
    pub to_date: Option<Date>,
}

/// Reads the grants with a day in the month.
///
/// # Errors
/// When the database fails.
pub async fn read_grants(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    data: &DataVersion,
) -> Result<Vec<GrantRow>, BillingError> {
    let rows = sqlx::query!(
        r#"select member_id, discount_code, from_date as "from_date: jiff_sqlx::Date", to_date as "to_date: jiff_sqlx::Date"
           from (select distinct on (member_id, discount_code, from_date) member_id, discount_code, from_date, to_date
                 from discount_grant
                 where member_id between $1 and $2 and ($7::bigint[] is null or member_id = any($7))
                   and load <= $3 and load <> all($6) and from_date < $5
                 order by member_id, discount_code, from_date, load desc) as_of_cutoff
           where to_date is null or to_date > greatest(from_date, $4)
           order by member_id"#,
        chunk.from_member,
        chunk.to_member,
        data.cutoff.get(),
        month.first_day().to_sqlx() as _,
        month.next_first_day().to_sqlx() as _,
        &data.taken_back,
        chunk.members.as_deref()
    )
    .fetch_all(tx)
    .await
    .during("cannot read the grants")?;
    rows.into_iter()
        .map(|row| {
            Ok(GrantRow {
                member_id: read_number("discount_grant.member_id", row.member_id)?,
                discount_code: row.discount_code,
                from_date: row.from_date.to_jiff(),
                to_date: row.to_date.map(jiff_sqlx::Date::to_jiff),
            })
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdjustmentRow {
    pub member_id: MemberId,
    pub id: AdjustmentIdentity,
    pub code: String,
    pub amount: i64,
}

/// Reads the month's adjustments: those that were loaded, and the differences that earlier months have
/// posted to it. The latter do not depend on the version of the data: they stay the same as long as
/// the month is live or being billed.
///
/// # Errors
/// When the database fails.
pub async fn read_adjustments(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    data: &DataVersion,
) -> Result<Vec<AdjustmentRow>, BillingError> {
    let rows = sqlx::query!(
        r#"select member_id as "member_id!", adjustment_id as "adjustment_id?", code as "code!", amount as "amount!",
                  from_month as "from_month?", from_revision as "from_revision?"
           from (select member_id, adjustment_id, code, amount, null as from_month, null::int as from_revision
                 from adjustment
                 where month = $1 and member_id between $2 and $3 and ($6::bigint[] is null or member_id = any($6))
                   and load <= $4 and load <> all($5)
                 union all
                 select member_id, null, code, amount, from_month, from_revision
                 from posted_adjustment
                 where month = $1 and member_id between $2 and $3 and ($6::bigint[] is null or member_id = any($6))) a
           order by member_id, adjustment_id nulls last, from_month, from_revision"#,
        month.to_string(),
        chunk.from_member,
        chunk.to_member,
        data.cutoff.get(),
        &data.taken_back,
        chunk.members.as_deref()
    )
    .fetch_all(tx)
    .await
    .during("cannot read the adjustments")?;
    rows.into_iter()
        .map(|row| {
            Ok(AdjustmentRow {
                member_id: read_number("adjustment.member_id", row.member_id)?,
                id: match (row.adjustment_id, row.from_month, row.from_revision) {
                    (Some(id), ..) => {
                        AdjustmentIdentity::Loaded(read_number("adjustment.adjustment_id", id)?)
                    }
                    (None, Some(month), Some(revision)) => AdjustmentIdentity::Correction {
                        month: read_month("posted_adjustment.from_month", &month)?,
                        revision: read_number("posted_adjustment.from_revision", revision.into())?,
                    },
                    (None, ..) => {
                        return Err(StoreError::unreadable("posted_adjustment.from_month", "null").into());
                    }
                },
                code: row.code,
                amount: row.amount,
            })
        })
        .collect()
}

/// The instants at which the usage of a member is divided, because its plan changes. Most members
/// have none.
#[derive(Debug, Default)]
pub struct UsageBoundaries {
    members: Vec<i64>,
    instants: Vec<jiff_sqlx::Timestamp>,
}

impl UsageBoundaries {
    pub fn add(&mut self, member: MemberId, instants: &[Timestamp]) {
        self.members.extend(instants.iter().map(|_| member.get()));
        self.instants.extend(instants.iter().map(|instant| jiff_sqlx::Timestamp::from(*instant)));
    }

    /// The member of each instant.
    pub(super) fn members(&self) -> &[i64] {
        &self.members
    }

    pub(super) fn instants(&self) -> &[jiff_sqlx::Timestamp] {
        &self.instants
    }
}

/// The usage of one member and kind between two boundaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    pub member_id: MemberId,
    pub kind: String,
    /// How many of the member's boundaries are at or before the usage.
    pub interval: usize,
    pub rows: u64,
    /// Can exceed 64 bits.
    pub quantity: i128,
}

/// Reads the month's usage, summed by member, kind and boundary. It includes the usage of unknown
/// members.
///
/// # Errors
/// When the database fails.
pub async fn read_usage(
    tx: &mut PgConnection,
    chunk: &ChunkSpan,
    month: BillingMonth,
    data: &DataVersion,
    boundaries: &UsageBoundaries,
) -> Result<Vec<UsageRow>, BillingError> {
    let rows = sqlx::query!(
        r#"with cut as materialized (
               select member_id, array_agg(instant order by instant) as instants
               from unnest($5::bigint[], $6::timestamptz[]) as c (member_id, instant)
               group by member_id
           )
           select u.member_id as "member_id!", u.kind as "kind!",
                  coalesce(width_bucket(u.started_at, cut.instants), 0) as "bucket!",
                  count(*) as "rows!", sum(u.quantity)::text as "quantity!"
           from usage u left join cut on cut.member_id = u.member_id
           where u.month = $1 and u.member_id between $2 and $3 and ($8::bigint[] is null or u.member_id = any($8))
             and u.load <= $4 and u.load <> all($7)
           group by 1, 2, 3
           order by 1"#,
        month.to_string(),
        chunk.from_member,
        chunk.to_member,
        data.cutoff.get(),
        &boundaries.members,
        &boundaries.instants as &[jiff_sqlx::Timestamp],
        &data.taken_back,
        chunk.members.as_deref()
    )
    .fetch_all(tx)
    .await
    .during("cannot sum the usage")?;
    rows.into_iter()
        .map(|row| {
            Ok(UsageRow {
                member_id: read_number("usage.member_id", row.member_id)?,
                kind: row.kind,
                interval: usize::try_from(row.bucket)
                    .map_err(|_| StoreError::unreadable("usage bucket", row.bucket))?,
                rows: u64::try_from(row.rows).map_err(|_| StoreError::unreadable("usage count", row.rows))?,
                quantity: read_amount("usage.quantity", &row.quantity)?,
            })
        })
        .collect()
}
