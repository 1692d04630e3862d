//! Verifies a revision: compares what the workers wrote with the plan and with the tables, by
//! set-based statements that share nothing with the code that wrote it. Writes only the revision's
//! own row.
//!
//! What is compared is the month as it will be once the draft is issued: the draft's outcomes and,
//! for a re-billing, the live ones of all other members. `$3` in the statements says whether it is
//! a re-billing; otherwise the planner leaves the live ones out. `$4` to `$6` are the scope: what
//! is outside of it is not read.

use domain::ids::LoadNumber;
use sqlx::{PgConnection, PgPool};

use super::amounts::{AmountTexts, Amounts};
use super::billing_error::BillingError;
use super::chunk_sums::{ChunkSums, sum_chunks};
use super::diff;
use super::late_rows::{count_late_rows, count_late_rows_of_scope};
use super::month_figures::{KeptFigures, figures_over};
use super::posted_differences::{PostedDifferences, sum_posted};
use super::revision::{RevisionKey, RevisionState};
use super::scope::{ScopeKind, ScopeRule};
use super::verification::{Check, Verification, read_checks};
use super::verify_usage::{loads_check, total_input, usage_check};
use crate::decode::{read_amount, read_number};
use crate::error::{During as _, StoreError, expect_rows_affected};
use crate::load::DataVersion;

/// Verifies the revision when all its chunks are done, stores the result with it and returns it.
///
/// # Errors
/// When chunks are not done, when the run no longer holds the month, when the revision is closed,
/// or when the database fails. A check that does not pass is no error: see
/// [`Verification::passed`].
pub async fn verify_revision(pool: &PgPool, key: &RevisionKey) -> Result<Verification, BillingError> {
    // Its own transaction, as it locks the tables against another month's.
    sqlx::query!("select analyze_billing_month($1)", key.month.to_string())
        .execute(pool)
        .await
        .during("cannot analyze the bills")?;
    let mut tx = pool.begin().await.during("cannot open the verifying transaction")?;
    share_month(&mut tx, key).await?;
    let planned = read_plan(&mut tx, key).await?;
    configure_transaction(&mut tx, planned.is_rebilling()).await?;
    let done = sum_chunks(&mut tx, key).await?;
    if done.chunks_done < done.chunks {
        return Err(BillingError::ChunksPending {
            month: key.month,
            revision: key.revision,
            pending: done.chunks - done.chunks_done,
            wanted: "verified",
        });
    }
    let tiling = read_tiling(&mut tx, key, planned.scope).await?;
    let bills = sum_bills(&mut tx, key, &planned).await?;
    let items = sum_items(&mut tx, key, &planned).await?;
    let data = DataVersion::read(&mut tx, planned.data_cutoff).await?;
    let input = total_input(&mut tx, key, planned.scope, &data).await?;
    let late = if planned.is_scoped {
        count_late_rows_of_scope(&mut tx, key, planned.scope, planned.data_cutoff).await?
    } else {
        count_late_rows(&mut tx, key.month, planned.data_cutoff).await?
    };
    let mut checks = vec![
        members_check(planned.members, &bills),
        bills_check(&done, &bills),
        items_check(&done, &items),
        usage_check(&done.counts, &input, late.usage_rows),
        loads_check(&input),
        chunks_check(&done, &tiling, planned.scope),
    ];
    let month = match planned.of_revision {
        Some(below) if planned.is_scoped => figures_over(&mut tx, key, below, planned.scope).await?,
        _ => bills.figures(),
    };
    let mut diff = None;
    if planned.is_rebilling() {
        let changes = read_changes(&mut tx, key, planned.scope).await?;
        checks.push(changes_check(&done, &changes));
        checks.push(posted_check(done.posted, sum_posted(&mut tx, key).await?));
        let kept_by = planned.of_revision.filter(|_| planned.is_scoped);
        let summary = diff::summarize(&mut tx, key, bills.bills + bills.quarantined).await?;
        checks.push(diff::check(&mut tx, key, &summary, changes.outcomes, month.total, kept_by).await?);
        diff = Some(summary.to_json());
    }
    let row = sqlx::query!(
        r#"update revision
           set verified_at = clock_timestamp(), verification = $4, late_usage = $5, digest = $6, diff = $7,
               month_billed = $8, month_quarantined = $9, month_total = $10::text::numeric, late = $11
           where month = $1 and revision = $2 and fence = $3 and state = 'DRAFT'
           returning verified_at as "verified_at!: jiff_sqlx::Timestamp""#,
        key.month.to_string(),
        key.revision.get(),
        key.fence,
        serde_json::json!(checks),
        late.usage_rows,
        tiling.digest,
        diff,
        month.billed,
        month.quarantined,
        month.total.to_string(),
        serde_json::json!(late)
    )
    .fetch_all(&mut *tx)
    .await
    .during("cannot store the verification")?;
    expect_rows_affected("storing the verification", row.len() as u64, 1)?;
    tx.commit().await.during("cannot commit the verification")?;
    let at = row[0].verified_at.to_jiff();
    Ok(Verification { checks, digest: tiling.digest, late, at })
}

/// Fails unless the draft was verified and every check passed.
pub(super) async fn assert_verified(tx: &mut PgConnection, key: &RevisionKey) -> Result<(), BillingError> {
    let verification = sqlx::query_scalar!(
        "select verification from revision where month = $1 and revision = $2",
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot read the verification")?;
    let refused = |why| Err(BillingError::NotVerified { month: key.month, revision: key.revision, why });
    let Some(verification) = verification else { return refused("it was not verified".to_owned()) };
    let failed: Vec<String> = read_checks(verification)?
        .into_iter()
        .filter(|check| !check.passed)
        .map(|check| format!("check `{}` failed: {}", check.check, check.detail))
        .collect();
    if failed.is_empty() { Ok(()) } else { refused(failed.join("; ")) }
}

/// For a few large statements: memory for a million groups, and no JIT compilation, which takes
/// longer than it saves. The rows of a re-billing's draft are too new for statistics, and the
/// planner, which then expects next to none, would look for each member in all of them.
async fn configure_transaction(tx: &mut PgConnection, rebilling: bool) -> Result<(), BillingError> {
    sqlx::query!(
        "select set_config('work_mem', '256MB', true) as memory, set_config('jit', 'off', true) as jit,
                set_config('enable_nestloop', case when $1 then 'off' else current_setting('enable_nestloop') end, true) as nestloop",
        rebilling
    )
    .fetch_one(tx)
    .await
    .during("cannot prepare the verification")?;
    Ok(())
}

/// Keeps other runs from taking the month until the transaction ends.
async fn share_month(tx: &mut PgConnection, key: &RevisionKey) -> Result<(), BillingError> {
    sqlx::query_scalar!(
        r#"select 1 as "held!" from month_lock where month = $1 and fence = $2 and run_uid = $3 for share"#,
        key.month.to_string(),
        key.fence,
        key.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot read the month's lock")?
    .map(|_: i32| ())
    .ok_or_else(|| BillingError::fenced(key))
}

struct Planned {
    members: i64,
    data_cutoff: LoadNumber,
    of_revision: Option<i32>,
    is_scoped: bool,
    scope: ScopeRule,
}

impl Planned {
    fn is_rebilling(&self) -> bool {
        self.of_revision.is_some()
    }
}

async fn read_plan(tx: &mut PgConnection, key: &RevisionKey) -> Result<Planned, BillingError> {
    let row = sqlx::query!(
        "select state, members, data_cutoff, of_revision, scope, scope_from, scope_to
         from revision where month = $1 and revision = $2 and run_uid = $3",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot read the revision")?
    .ok_or_else(|| BillingError::no_such_revision(key))?;
    match RevisionState::parse(&row.state)? {
        RevisionState::Draft => {
            let scope = ScopeKind::read(&row.scope, row.scope_from, row.scope_to)?;
            Ok(Planned {
                members: row.members,
                data_cutoff: read_number("revision.data_cutoff", row.data_cutoff)?,
                of_revision: row.of_revision,
                is_scoped: scope != ScopeKind::Everyone,
                scope: scope.rule(),
            })
        }
        state => Err(BillingError::wrong_state(key, state, "verified")),
    }
}

/// How the chunks of a revision follow each other.
struct ChunkTiling {
    /// Chunks that do not start right after the chunk before, or the first one where the scope
    /// starts.
    misplaced: i64,
    last_member: i64,
    last_chunk: i64,
    digest: String,
}

async fn read_tiling(
    tx: &mut PgConnection,
    key: &RevisionKey,
    scope: ScopeRule,
) -> Result<ChunkTiling, BillingError> {
    let tiling = sqlx::query_as!(
        ChunkTiling,
        r#"select count(*) filter (where from_member::numeric <> coalesce(before, $3::bigint - 1)::numeric + 1) as "misplaced!",
                  max(to_member) as "last_member!", max(chunk_no)::bigint as "last_chunk!",
                  encode(sha256(coalesce(string_agg(digest, ''::bytea order by chunk_no), ''::bytea)), 'hex') as "digest!"
           from (select *, lag(to_member) over (order by chunk_no) as before
                 from chunk where month = $1 and revision = $2) c"#,
        key.month.to_string(),
        key.revision.get(),
        scope.from
    )
    .fetch_one(tx)
    .await
    .during("cannot read how the chunks follow each other")?;
    Ok(tiling)
}

struct BillTotals {
    bills: i64,
    quarantined: i64,
    amounts: Amounts,
}

impl BillTotals {
    fn figures(&self) -> KeptFigures {
        KeptFigures { billed: self.bills, quarantined: self.quarantined, total: self.amounts.total }
    }
}

async fn sum_bills(
    tx: &mut PgConnection,
    key: &RevisionKey,
    planned: &Planned,
) -> Result<BillTotals, BillingError> {
    let row = sqlx::query!(
        r#"select count(*) as "bills!",
                  coalesce(sum(base_amount), 0)::text as "base!", coalesce(sum(usage_amount), 0)::text as "usage!",
                  coalesce(sum(discount_amount), 0)::text as "discount!",
                  coalesce(sum(adjustment_amount), 0)::text as "adjustment!", coalesce(sum(tax_amount), 0)::text as "tax!",
                  coalesce(sum(rounding_amount), 0)::text as "rounding!", coalesce(sum(total_amount), 0)::text as "total!",
                  (select count(*) from quarantine_as_of($1, $2, $3, $4, $5, $6)) as "quarantined!"
           from bill_as_of($1, $2, $3, $4, $5, $6)"#,
        key.month.to_string(),
        key.revision.get(),
        planned.is_rebilling(),
        planned.scope.listed,
        planned.scope.from,
        planned.scope.to
    )
    .fetch_one(tx)
    .await
    .during("cannot sum the bills")?;
    let amounts = AmountTexts {
        base: row.base,
        usage: row.usage,
        discount: row.discount,
        adjustment: row.adjustment,
        tax: row.tax,
        rounding: row.rounding,
        total: row.total,
    };
    Ok(BillTotals { bills: row.bills, quarantined: row.quarantined, amounts: amounts.parse()? })
}

#[derive(Default)]
struct ItemTotals {
    items: i64,
    base: i128,
    usage: i128,
    discount: i128,
    adjustment: i128,
    rounding: i128,
    total: i128,
    /// Members whose bill is not the sum of their items, or who have a bill or items only.
    unbalanced: i64,
}

async fn sum_items(
    tx: &mut PgConnection,
    key: &RevisionKey,
    planned: &Planned,
) -> Result<ItemTotals, BillingError> {
    let rows = sqlx::query!(
        r#"select kind::text as "kind!", count(*) as "items!", sum(amount)::text as "amount!"
           from bill_item_as_of($1, $2, $3, $4, $5, $6)
           group by kind"#,
        key.month.to_string(),
        key.revision.get(),
        planned.is_rebilling(),
        planned.scope.listed,
        planned.scope.from,
        planned.scope.to
    )
    .fetch_all(&mut *tx)
    .await
    .during("cannot sum the items")?;
    let mut totals = ItemTotals::default();
    for row in rows {
        let sum = read_amount("bill_item.amount", &row.amount)?;
        totals.items += row.items;
        totals.total += sum;
        match row.kind.as_str() {
            "BASE" | "ADDON" => totals.base += sum,
            "USAGE" => totals.usage += sum,
            "DISCOUNT" => totals.discount -= sum,
            "ADJUSTMENT" => totals.adjustment += sum,
            "ROUNDING" => totals.rounding += sum,
            // The tax column also holds an inclusive tax, which is part of the total and has no item.
            "TAX" => {}
            kind => return Err(StoreError::unreadable("bill_item.kind", kind).into()),
        }
    }
    totals.unbalanced = sqlx::query_scalar!(
        r#"select count(*) as "unbalanced!"
           from bill_as_of($1, $2, $3, $4, $5, $6) b
           full join (select member_id, sum(amount) as items from bill_item_as_of($1, $2, $3, $4, $5, $6)
                      group by member_id) i using (member_id)
           where total_amount is distinct from items"#,
        key.month.to_string(),
        key.revision.get(),
        planned.is_rebilling(),
        planned.scope.listed,
        planned.scope.from,
        planned.scope.to
    )
    .fetch_one(tx)
    .await
    .during("cannot compare bills with their items")?;
    Ok(totals)
}

/// What a re-billing wrote.
struct Changes {
    outcomes: i64,
    members: i64,
    /// Chunks whose counts or sums differ from those of their members' bills and quarantine
    /// records.
    differing_chunks: i64,
}

async fn read_changes(
    tx: &mut PgConnection,
    key: &RevisionKey,
    scope: ScopeRule,
) -> Result<Changes, BillingError> {
    // Chunks cover the scope's ids and follow each other, so a member's chunk is the last one that starts
    // at or before its id.
    let changes = sqlx::query_as!(
        Changes,
        r#"with starts as (
               select array_agg(from_member order by chunk_no) as members from chunk where month = $1 and revision = $2
           ), month as (
               select member_id, 1 as billed, 0 as quarantined, total_amount
               from bill_as_of($1, $2, true, $3, $4, $5)
               union all
               select member_id, 0, 1, 0 from quarantine_as_of($1, $2, true, $3, $4, $5)
           ), by_chunk as (
               select width_bucket(member_id, (select members from starts)) as chunk_no, sum(billed) as billed,
                      sum(quarantined) as quarantined, sum(total_amount) as total
               from month group by 1
           )
           select written.outcomes as "outcomes!", written.members as "members!",
                  (select count(*)
                   from (select * from chunk where month = $1 and revision = $2) c full join by_chunk b using (chunk_no)
                   where (c.billed, c.quarantined, c.total_amount) is distinct from
                         (coalesce(b.billed, 0), coalesce(b.quarantined, 0), coalesce(b.total, 0))) as "differing_chunks!"
           from (select count(*) as outcomes, count(distinct member_id) as members
                 from outcome where month = $1 and revision = $2) written"#,
        key.month.to_string(),
        key.revision.get(),
        scope.listed,
        scope.from,
        scope.to
    )
    .fetch_one(tx)
    .await
    .during("cannot compare the changes with the chunks")?;
    Ok(changes)
}

fn check(name: &str, passed: bool, detail: String) -> Check {
    Check { check: name.to_owned(), passed, detail }
}

fn members_check(planned: i64, bills: &BillTotals) -> Check {
    let BillTotals { bills, quarantined, .. } = bills;
    let passed = planned == bills + quarantined;
    check("members", passed, format!("{planned} eligible; {bills} billed and {quarantined} quarantined"))
}

fn bills_check(done: &ChunkSums, bills: &BillTotals) -> Check {
    let passed = done.counts.billed == bills.bills
        && done.counts.quarantined == bills.quarantined
        && done.amounts == bills.amounts;
    let detail = format!(
        "{} bills over {} in the table, {} over {} in the chunks; quarantined {} and {}",
        bills.bills,
        bills.amounts.total,
        done.counts.billed,
        done.amounts.total,
        bills.quarantined,
        done.counts.quarantined
    );
    check("bills", passed, detail)
}

fn items_check(done: &ChunkSums, items: &ItemTotals) -> Check {
    let Amounts { base, usage, discount, adjustment, tax: _, rounding, total } = done.amounts;
    let passed = items.items == done.counts.items
        && (items.base, items.usage, items.discount) == (base, usage, discount)
        && (items.adjustment, items.rounding, items.total) == (adjustment, rounding, total)
        && items.unbalanced == 0;
    let detail = format!(
        "{} items over {} in the table, {} over {} in the chunks; {} bills differ from their items",
        items.items, items.total, done.counts.items, total, items.unbalanced
    );
    check("items", passed, detail)
}

fn chunks_check(done: &ChunkSums, tiling: &ChunkTiling, scope: ScopeRule) -> Check {
    let passed = tiling.misplaced == 0 && tiling.last_member == scope.to && tiling.last_chunk == done.chunks;
    let detail = format!(
        "{} chunks done; {} leave a gap or overlap; the last one ends at {}",
        done.chunks, tiling.misplaced, tiling.last_member
    );
    check("chunks", passed, detail)
}

fn changes_check(done: &ChunkSums, changes: &Changes) -> Check {
    let Changes { outcomes, members, differing_chunks } = *changes;
    let passed = outcomes == done.changed && members == outcomes && differing_chunks == 0;
    let detail = format!(
        "{outcomes} outcomes of {members} members in the tables, {} in the chunks; {differing_chunks} chunks differ from their members",
        done.changed
    );
    check("changes", passed, detail)
}

fn posted_check(chunks: PostedDifferences, table: PostedDifferences) -> Check {
    let detail = format!(
        "{} differences over {} in the table, {} over {} in the chunks",
        table.members, table.amount, chunks.members, chunks.amount
    );
    check("posted", chunks == table, detail)
}
