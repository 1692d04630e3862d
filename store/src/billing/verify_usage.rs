//! The checks of a revision's input: that the usage of the scope's members was counted once, and
//! that what the loads recorded of the month when they finished is still in the tables.

use sqlx::PgConnection;

use super::amounts::Counts;
use super::billing_error::BillingError;
use super::revision::RevisionKey;
use super::scope::ScopeRule;
use super::verification::Check;
use crate::error::During as _;
use crate::load::DataVersion;

/// At most so many differences are named.
const MAX_DIFFERENCES: usize = 5;

/// The usage and adjustments of a month within the cut-off.
pub(super) struct InputTotals {
    /// Of members of the scope.
    usage_rows: i64,
    loads: i64,
    /// In words.
    differences: Vec<String>,
}

/// Reads the month's usage and adjustments once, by load and kind, and compares the sums with
/// `load_total`, which is of all members.
pub(super) async fn total_input(
    tx: &mut PgConnection,
    key: &RevisionKey,
    scope: ScopeRule,
    data: &DataVersion,
) -> Result<InputTotals, BillingError> {
    let rows = sqlx::query!(
        r#"with stored as (
               select load, 'usage' as file, kind, count(*) as rows, sum(quantity) as quantity,
                      count(*) filter (where member_id between $4 and $5 and (not $6::boolean or member_id in (
                          select s.member_id from scope_member s where s.month = $1 and s.revision = $7))) as of_scope
               from usage
               where month = $1 and load <= $2 and load <> all($3) group by load, kind
               union all
               select load, 'adjustments', '', count(*), sum(amount), 0 from adjustment
               where month = $1 and load <= $2 and load <> all($3) group by load
           ), recorded as (
               select t.load, t.file, t.kind, t.rows, t.quantity from load_total t
               where t.from_month = $1 and t.to_month = $1 and t.file in ('usage', 'adjustments')
                 and t.load <= $2 and t.load <> all($3)
           )
           select load as "load!", file as "file!", kind as "kind!",
                  coalesce(s.rows, 0) as "rows!", coalesce(s.quantity, 0)::text as "quantity!",
                  coalesce(r.rows, 0) as "recorded_rows!", coalesce(r.quantity, 0)::text as "recorded_quantity!",
                  coalesce(s.of_scope, 0) as "of_scope!", (s.rows, s.quantity) is not distinct from (r.rows, r.quantity) as "same!"
           from stored s full join recorded r using (load, file, kind)
           order by load, file, kind"#,
        key.month.to_string(),
        data.cutoff.get(),
        &data.taken_back,
        scope.from,
        scope.to,
        scope.listed,
        key.revision.get()
    )
    .fetch_all(tx)
    .await
    .during("cannot compare the month's usage and adjustments with what the loads recorded")?;
    let mut loads: Vec<i64> = rows.iter().map(|row| row.load).collect();
    loads.dedup();
    let differences = rows.iter().filter(|row| !row.same).map(|row| {
        let what =
            if row.kind.is_empty() { row.file.clone() } else { format!("{} of kind {}", row.file, row.kind) };
        format!(
            "load {}, {what}: {} rows over {} in the table, {} over {} when it finished",
            row.load, row.rows, row.quantity, row.recorded_rows, row.recorded_quantity
        )
    });
    Ok(InputTotals {
        usage_rows: rows.iter().map(|row| row.of_scope).sum(),
        loads: loads.len().try_into().unwrap_or(i64::MAX),
        differences: differences.collect(),
    })
}

pub(super) fn usage_check(counts: &Counts, input: &InputTotals, late: i64) -> Check {
    let Counts { rated_usage, unbillable_usage, quarantined_usage, .. } = *counts;
    let within = input.usage_rows;
    Check {
        check: "usage".to_owned(),
        passed: within == rated_usage + unbillable_usage + quarantined_usage,
        detail: format!(
            "{within} rows within the cut-off; {rated_usage} rated, {unbillable_usage} unbillable and \
             {quarantined_usage} quarantined; {late} late"
        ),
    }
}

pub(super) fn loads_check(input: &InputTotals) -> Check {
    let InputTotals { loads, differences, .. } = input;
    let detail = if differences.is_empty() {
        format!("usage and adjustments of {loads} loads are as they were when the loads finished")
    } else {
        let named = differences.iter().take(MAX_DIFFERENCES).cloned().collect::<Vec<_>>().join("; ");
        let more = differences.len().saturating_sub(MAX_DIFFERENCES);
        if more == 0 { named } else { format!("{named}; and {more} more") }
    };
    Check { check: "loads".to_owned(), passed: differences.is_empty(), detail }
}
