//! What was loaded or taken back after a cut-off. Of all members it is counted from what each load
//! recorded, not from the rows, so that it can be read at any time.

use std::collections::BTreeMap;

use domain::ids::LoadNumber;
use domain::month::BillingMonth;
use sqlx::{PgConnection, PgPool};

use super::billing_error::BillingError;
use super::revision::RevisionKey;
use super::scope::{ScopeKind, ScopeRule};
use crate::decode::{read_month, read_number};
use crate::error::During as _;

/// Rows that concern a month and that a cut-off leaves out, of finished loads that were not taken
/// back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LateRows {
    /// New members. They concern every month.
    pub members: i64,
    pub subscriptions: i64,
    pub grants: i64,
    pub adjustments: i64,
    pub usage_rows: i64,
    /// Rows within the cut-off whose load was taken back after it.
    pub taken_back: i64,
}

/// What is late for a live month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateMonth {
    pub month: BillingMonth,
    pub rows: LateRows,
}

/// Counts what is late for a month that is billed with this cut-off.
pub(super) async fn count_late_rows(
    tx: &mut PgConnection,
    month: BillingMonth,
    cutoff: LoadNumber,
) -> Result<LateRows, BillingError> {
    let rows = sqlx::query_as!(
        LateRows,
        r#"select coalesce(sum(rows) filter (where not voided and file = 'members' and kind = 'NEW'), 0)::bigint as "members!",
                  coalesce(sum(rows) filter (where not voided and file = 'subscriptions'), 0)::bigint as "subscriptions!",
                  coalesce(sum(rows) filter (where not voided and file = 'grants'), 0)::bigint as "grants!",
                  coalesce(sum(rows) filter (where not voided and file = 'adjustments'), 0)::bigint as "adjustments!",
                  coalesce(sum(rows) filter (where not voided and file = 'usage'), 0)::bigint as "usage_rows!",
                  coalesce(sum(rows) filter (where voided), 0)::bigint as "taken_back!"
           from (select t.file, t.kind, t.rows, l.taken_back_by is not null as voided
                 from load l join load_total t on t.load = l.number
                 where (l.number > $2 and l.taken_back_by is null or l.number <= $2 and l.taken_back_by > $2)
                   and $1 between t.from_month and t.to_month) late"#,
        month.to_string(),
        cutoff.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot count what was loaded after the cut-off")?;
    Ok(rows)
}

/// Counts what is late for the members of a revision's scope.
pub(super) async fn count_late_rows_of_scope(
    tx: &mut PgConnection,
    key: &RevisionKey,
    scope: ScopeRule,
    cutoff: LoadNumber,
) -> Result<LateRows, BillingError> {
    let rows = sqlx::query_as!(
        LateRows,
        r#"select count(*) filter (where not taken_back and file = 'members') as "members!",
                  count(*) filter (where not taken_back and file = 'subscriptions') as "subscriptions!",
                  count(*) filter (where not taken_back and file = 'grants') as "grants!",
                  count(*) filter (where not taken_back and file = 'adjustments') as "adjustments!",
                  count(*) filter (where not taken_back and file = 'usage') as "usage_rows!",
                  count(*) filter (where taken_back) as "taken_back!"
           from late_row($1, $2, $3)
           where member_id between $4 and $5 and (not $6::boolean or member_id in (
               select s.member_id from scope_member s where s.month = $1 and s.revision = $7))"#,
        key.month.to_string(),
        cutoff.get(),
        i64::MAX,
        scope.from,
        scope.to,
        scope.listed,
        key.revision.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot count what was loaded after the cut-off for the members of the scope")?;
    Ok(rows)
}

/// The cut-offs that the live bills of a month's members can be as of. Which member's bill is as of
/// which one is not known without reading the members.
#[derive(Debug, PartialEq, Eq)]
struct BilledCutoffs {
    /// Of the members outside the scopes.
    everyone: LoadNumber,
    /// Of the scopes that were billed since.
    scoped: Vec<LoadNumber>,
}

impl BilledCutoffs {
    /// After one more live revision.
    fn then(self, scope: ScopeKind, cutoff: LoadNumber) -> Self {
        let Self { everyone, mut scoped } = self;
        // Everybody whose data differs from that of the revision below is billed: if that one's cut-off is
        // everybody's, all others are as of the new cut-off too.
        let bills_all_late =
            scope == ScopeKind::Late && cutoff >= everyone && scoped.iter().all(|of| *of == everyone);
        if scope == ScopeKind::Everyone || bills_all_late {
            return Self { everyone: cutoff, scoped: Vec::new() };
        }
        scoped.push(cutoff);
        Self { everyone, scoped }
    }
}

/// Counts what is late now, for the last 24 months that are live, sorted by month: what was loaded
/// after the month was last billed for everyone, as a whole or by billing all that was late, and
/// what any live revision since then has billed and was taken back after its cut-off. So what only a
/// range or list of members was billed for still counts, as it may concern others.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_late_months(pool: &PgPool) -> Result<Vec<LateMonth>, BillingError> {
    let mut connection = pool.acquire().await.during("cannot connect to the database")?;
    let billed = read_billed_cutoffs(&mut connection).await?;
    let mut months = Vec::new();
    let mut cutoffs = Vec::new();
    let mut of_everyone = Vec::new();
    for (month, BilledCutoffs { everyone, scoped }) in billed {
        for (cutoff, is_of_everyone) in
            [(everyone, true)].into_iter().chain(scoped.into_iter().map(|of| (of, false)))
        {
            months.push(month.to_string());
            cutoffs.push(cutoff.get());
            of_everyone.push(is_of_everyone);
        }
    }
    let rows = sqlx::query!(
        r#"with billed as materialized (
               select * from unnest($1::text[], $2::bigint[], $3::boolean[]) as b (month, cutoff, of_everyone)
           )
           select b.month as "month!",
                  coalesce(sum(rows) filter (where not voided and file = 'members' and kind = 'NEW'), 0)::bigint as "members!",
                  coalesce(sum(rows) filter (where not voided and file = 'subscriptions'), 0)::bigint as "subscriptions!",
                  coalesce(sum(rows) filter (where not voided and file = 'grants'), 0)::bigint as "grants!",
                  coalesce(sum(rows) filter (where not voided and file = 'adjustments'), 0)::bigint as "adjustments!",
                  coalesce(sum(rows) filter (where not voided and file = 'usage'), 0)::bigint as "usage_rows!",
                  coalesce(sum(rows) filter (where voided), 0)::bigint as "taken_back!"
           from billed b
           left join lateral (
               select t.file, t.kind, t.rows, l.taken_back_by is not null as voided
               from load l join load_total t on t.load = l.number
               where (l.number > b.cutoff and l.taken_back_by is null or exists (
                         select from billed any_of
                         where any_of.month = b.month and l.number <= any_of.cutoff and l.taken_back_by > any_of.cutoff))
                 and b.month between t.from_month and t.to_month) late on true
           where b.of_everyone
           group by b.month order by b.month"#,
        &months,
        &cutoffs,
        &of_everyone
    )
    .fetch_all(&mut *connection)
    .await
    .during("cannot count what was loaded after the months were billed")?;
    rows.into_iter()
        .map(|row| {
            let rows = LateRows {
                members: row.members,
                subscriptions: row.subscriptions,
                grants: row.grants,
                adjustments: row.adjustments,
                usage_rows: row.usage_rows,
                taken_back: row.taken_back,
            };
            Ok(LateMonth { month: read_month("revision.month", &row.month)?, rows })
        })
        .collect()
}

/// For the last 24 months that are live, from the revision of everyone on that was the last one.
async fn read_billed_cutoffs(
    connection: &mut PgConnection,
) -> Result<BTreeMap<BillingMonth, BilledCutoffs>, BillingError> {
    let rows = sqlx::query!(
        r#"select r.month, r.scope, r.scope_from, r.scope_to, r.data_cutoff
           from last_billing l join revision r on r.month = l.month and r.revision = l.revision
           where l.month in (select month from highest_live_revision order by month desc limit 24)
           order by r.month, r.revision"#
    )
    .fetch_all(connection)
    .await
    .during("cannot read the cut-offs of the live months")?;
    let mut billed: BTreeMap<BillingMonth, BilledCutoffs> = BTreeMap::new();
    for row in rows {
        let month = read_month("revision.month", &row.month)?;
        let scope = ScopeKind::read(&row.scope, row.scope_from, row.scope_to)?;
        let cutoff = read_number("revision.data_cutoff", row.data_cutoff)?;
        let after = match billed.remove(&month) {
            None => BilledCutoffs { everyone: cutoff, scoped: Vec::new() },
            Some(before) => before.then(scope, cutoff),
        };
        billed.insert(month, after);
    }
    Ok(billed)
}

#[cfg(test)]
mod tests {
    use domain::ids::MemberId;

    use super::*;

    /// The scope and the cut-off of a revision.
    type Billing = (ScopeKind, i64);

    #[test]
    fn a_scope_hides_nothing_of_the_members_outside_it() {
        let range = ScopeKind::Range { from: MemberId::FIRST, to: MemberId::FIRST };
        // The revisions over a first billing as of load 4, and the cut-offs that are left.
        let table: [(&[Billing], i64, &[i64]); 11] = [
            (&[], 4, &[]),
            (&[(ScopeKind::Everyone, 6)], 6, &[]),
            (&[(ScopeKind::Everyone, 3)], 3, &[]),
            (&[(range, 6)], 4, &[6]),
            (&[(ScopeKind::Members, 3), (ScopeKind::Quarantined, 6)], 4, &[3, 6]),
            (&[(range, 6), (ScopeKind::Everyone, 7)], 7, &[]),
            // It has everybody with a row after load 4.
            (&[(ScopeKind::Late, 6)], 6, &[]),
            (&[(range, 4), (ScopeKind::Late, 6)], 6, &[]),
            // It looks for what came after load 6 only.
            (&[(range, 6), (ScopeKind::Late, 7)], 4, &[6, 7]),
            (&[(range, 3), (ScopeKind::Late, 7)], 4, &[3, 7]),
            (&[(ScopeKind::Late, 3)], 4, &[3]),
        ];
        let load = |number: i64| LoadNumber::try_from(number).unwrap();
        for (revisions, everyone, scoped) in table {
            let first = BilledCutoffs { everyone: load(4), scoped: Vec::new() };
            let left =
                revisions.iter().fold(first, |before, (scope, cutoff)| before.then(*scope, load(*cutoff)));
            let expected = BilledCutoffs {
                everyone: load(everyone),
                scoped: scoped.iter().map(|number| load(*number)).collect(),
            };
            assert_eq!(left, expected, "{revisions:?}");
        }
    }
}
