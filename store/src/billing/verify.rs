//! Verification: what the workers wrote, compared with what was planned and with what is in the tables, by set-based
//! statements that share nothing with how it was written. Changes nothing but the revision's own row.

use sqlx::{PgConnection, PgPool};

use super::observe::read_checks;
use super::{
    Amounts, BillingError, Check, Counts, RevisionKey, RevisionState, Verification, amount, touched,
};
use crate::error::During as _;

/// Checks the revision after its last chunk, keeps the result with it and returns it.
///
/// # Errors
/// When chunks are still to be done, when the run no longer holds the month, when the revision is closed, or when the
/// database fails. A check that does not pass is no error: see [`Verification::passed`].
pub async fn verify_revision(pool: &PgPool, key: &RevisionKey) -> Result<Verification, BillingError> {
    let mut tx = pool.begin().await.during("cannot open the verifying transaction")?;
    hold(&mut tx, key).await?;
    prepare(&mut tx).await?;
    let planned = planned(&mut tx, key).await?;
    let done = chunk_totals(&mut tx, key).await?;
    if done.pending > 0 {
        return Err(BillingError::ChunksPending {
            month: key.month,
            revision: key.revision,
            pending: done.pending,
            wanted: "verified",
        });
    }
    let bills = bill_totals(&mut tx, key).await?;
    let items = item_totals(&mut tx, key).await?;
    let usage = usage_totals(&mut tx, key, planned.data_cutoff).await?;
    let checks = vec![
        members_check(planned.members, &bills),
        bills_check(&done, &bills),
        items_check(&done, &items),
        usage_check(&done, &usage),
        chunks_check(&done),
    ];
    let row = sqlx::query!(
        r#"update revision
           set verified_at = clock_timestamp(), verification = $4, late_usage = $5, digest = $6
           where month = $1 and revision = $2 and fence = $3 and state = 'DRAFT'
           returning verified_at as "verified_at!: jiff_sqlx::Timestamp""#,
        key.month.to_string(),
        key.revision.get(),
        key.fence,
        serde_json::json!(checks),
        usage.late,
        done.digest
    )
    .fetch_all(&mut *tx)
    .await
    .during("cannot keep the verification")?;
    touched("keeping the verification", row.len() as u64, 1)?;
    tx.commit().await.during("cannot commit the verification")?;
    let at = row[0].verified_at.to_jiff();
    Ok(Verification { checks, digest: done.digest, late_usage: usage.late, at })
}

/// For the issuing transaction: the draft was verified, and every check passed.
pub(super) async fn assert_passed(tx: &mut PgConnection, key: &RevisionKey) -> Result<(), BillingError> {
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

/// A few large statements: memory for a million groups, and no time lost in compiling.
async fn prepare(tx: &mut PgConnection) -> Result<(), BillingError> {
    sqlx::query!(
        "select set_config('work_mem', '256MB', true) as memory, set_config('jit', 'off', true) as jit"
    )
    .fetch_one(tx)
    .await
    .during("cannot prepare the verification")?;
    Ok(())
}

/// Keeps the month from changing hands until the transaction ends.
async fn hold(tx: &mut PgConnection, key: &RevisionKey) -> Result<(), BillingError> {
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
    data_cutoff: i64,
}

async fn planned(tx: &mut PgConnection, key: &RevisionKey) -> Result<Planned, BillingError> {
    let row = sqlx::query!(
        "select state, members, data_cutoff from revision where month = $1 and revision = $2 and run_uid = $3",
        key.month.to_string(),
        key.revision.get(),
        key.run_uid
    )
    .fetch_optional(tx)
    .await
    .during("cannot read the revision")?
    .ok_or(BillingError::NoSuchRevision { month: key.month, revision: key.revision, run_uid: key.run_uid })?;
    match RevisionState::parse(&row.state)? {
        RevisionState::Draft => Ok(Planned { members: row.members, data_cutoff: row.data_cutoff }),
        state => Err(BillingError::WrongState {
            month: key.month,
            revision: key.revision,
            state,
            wanted: "verified",
        }),
    }
}

struct ChunkTotals {
    chunks: i64,
    pending: i64,
    /// Chunks that do not start right after the one before, the first one at 1.
    misplaced: i64,
    last_member: i64,
    last_chunk: i64,
    counts: Counts,
    amounts: Amounts,
    digest: String,
}

async fn chunk_totals(tx: &mut PgConnection, key: &RevisionKey) -> Result<ChunkTotals, BillingError> {
    let row = sqlx::query!(
        r#"select count(*) as "chunks!", count(*) filter (where state <> 'DONE') as "pending!",
                  count(*) filter (where from_member::numeric <> coalesce(before, 0)::numeric + 1) as "misplaced!",
                  max(to_member) as "last_member!", max(chunk_no)::bigint as "last_chunk!",
                  coalesce(sum(billed), 0)::bigint as "billed!", coalesce(sum(quarantined), 0)::bigint as "quarantined!",
                  coalesce(sum(items), 0)::bigint as "items!", coalesce(sum(rated_usage), 0)::bigint as "rated!",
                  coalesce(sum(unbillable_usage), 0)::bigint as "unbillable!",
                  coalesce(sum(quarantined_usage), 0)::bigint as "quarantined_usage!",
                  coalesce(sum(base_amount), 0)::text as "base!", coalesce(sum(usage_amount), 0)::text as "usage!",
                  coalesce(sum(discount_amount), 0)::text as "discount!",
                  coalesce(sum(adjustment_amount), 0)::text as "adjustment!", coalesce(sum(tax_amount), 0)::text as "tax!",
                  coalesce(sum(rounding_amount), 0)::text as "rounding!", coalesce(sum(total_amount), 0)::text as "total!",
                  encode(sha256(coalesce(string_agg(digest, ''::bytea order by chunk_no), ''::bytea)), 'hex') as "digest!"
           from (select *, lag(to_member) over (order by chunk_no) as before
                 from chunk where month = $1 and revision = $2) c"#,
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot sum the chunks")?;
    Ok(ChunkTotals {
        chunks: row.chunks,
        pending: row.pending,
        misplaced: row.misplaced,
        last_member: row.last_member,
        last_chunk: row.last_chunk,
        counts: Counts {
            billed: row.billed,
            quarantined: row.quarantined,
            items: row.items,
            rated_usage: row.rated,
            unbillable_usage: row.unbillable,
            quarantined_usage: row.quarantined_usage,
        },
        amounts: Amounts {
            base: amount("chunk.base_amount", &row.base)?,
            usage: amount("chunk.usage_amount", &row.usage)?,
            discount: amount("chunk.discount_amount", &row.discount)?,
            adjustment: amount("chunk.adjustment_amount", &row.adjustment)?,
            tax: amount("chunk.tax_amount", &row.tax)?,
            rounding: amount("chunk.rounding_amount", &row.rounding)?,
            total: amount("chunk.total_amount", &row.total)?,
        },
        digest: row.digest,
    })
}

struct BillTotals {
    bills: i64,
    quarantined: i64,
    amounts: Amounts,
}

async fn bill_totals(tx: &mut PgConnection, key: &RevisionKey) -> Result<BillTotals, BillingError> {
    let row = sqlx::query!(
        r#"select count(*) as "bills!",
                  coalesce(sum(base_amount), 0)::text as "base!", coalesce(sum(usage_amount), 0)::text as "usage!",
                  coalesce(sum(discount_amount), 0)::text as "discount!",
                  coalesce(sum(adjustment_amount), 0)::text as "adjustment!", coalesce(sum(tax_amount), 0)::text as "tax!",
                  coalesce(sum(rounding_amount), 0)::text as "rounding!", coalesce(sum(total_amount), 0)::text as "total!",
                  (select count(*) from quarantined_member where month = $1 and revision = $2) as "quarantined!"
           from bill where month = $1 and revision = $2"#,
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot sum the bills")?;
    Ok(BillTotals {
        bills: row.bills,
        quarantined: row.quarantined,
        amounts: Amounts {
            base: amount("bill.base_amount", &row.base)?,
            usage: amount("bill.usage_amount", &row.usage)?,
            discount: amount("bill.discount_amount", &row.discount)?,
            adjustment: amount("bill.adjustment_amount", &row.adjustment)?,
            tax: amount("bill.tax_amount", &row.tax)?,
            rounding: amount("bill.rounding_amount", &row.rounding)?,
            total: amount("bill.total_amount", &row.total)?,
        },
    })
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
    /// Members whose bill is not the sum of their items, or who have one without the other.
    unbalanced: i64,
}

async fn item_totals(tx: &mut PgConnection, key: &RevisionKey) -> Result<ItemTotals, BillingError> {
    let rows = sqlx::query!(
        r#"select kind::text as "kind!", count(*) as "items!", sum(amount)::text as "amount!"
           from bill_item where month = $1 and revision = $2 group by kind"#,
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_all(&mut *tx)
    .await
    .during("cannot sum the items")?;
    let mut totals = ItemTotals::default();
    for row in rows {
        let sum = amount("bill_item.amount", &row.amount)?;
        totals.items += row.items;
        totals.total += sum;
        match row.kind.as_str() {
            "BASE" | "ADDON" => totals.base += sum,
            "USAGE" => totals.usage += sum,
            "DISCOUNT" => totals.discount -= sum,
            "ADJUSTMENT" => totals.adjustment += sum,
            "ROUNDING" => totals.rounding += sum,
            // The tax column also holds what an inclusive tax keeps within the total, for which there is no item.
            "TAX" => {}
            kind => return Err(BillingError::stored("bill_item.kind", kind)),
        }
    }
    totals.unbalanced = sqlx::query_scalar!(
        r#"select count(*) as "unbalanced!"
           from (select member_id, total_amount from bill where month = $1 and revision = $2) b
           full join (select member_id, sum(amount) as items from bill_item where month = $1 and revision = $2
                      group by member_id) i using (member_id)
           where total_amount is distinct from items"#,
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_one(tx)
    .await
    .during("cannot compare bills with their items")?;
    Ok(totals)
}

struct UsageTotals {
    within: i64,
    late: i64,
}

async fn usage_totals(
    tx: &mut PgConnection,
    key: &RevisionKey,
    cutoff: i64,
) -> Result<UsageTotals, BillingError> {
    let row = sqlx::query!(
        r#"select count(*) filter (where load <= $2) as "within!", count(*) filter (where load > $2) as "late!"
           from usage where month = $1"#,
        key.month.to_string(),
        cutoff
    )
    .fetch_one(tx)
    .await
    .during("cannot count the month's usage")?;
    Ok(UsageTotals { within: row.within, late: row.late })
}

fn check(name: &str, passed: bool, detail: String) -> Check {
    Check { check: name.to_owned(), passed, detail }
}

fn members_check(planned: i64, bills: &BillTotals) -> Check {
    let BillTotals { bills, quarantined, .. } = bills;
    let passed = planned == bills + quarantined;
    check("members", passed, format!("{planned} eligible; {bills} billed and {quarantined} quarantined"))
}

fn bills_check(done: &ChunkTotals, bills: &BillTotals) -> Check {
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

fn items_check(done: &ChunkTotals, items: &ItemTotals) -> Check {
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

fn usage_check(done: &ChunkTotals, usage: &UsageTotals) -> Check {
    let Counts { rated_usage, unbillable_usage, quarantined_usage, .. } = done.counts;
    let passed = usage.within == rated_usage + unbillable_usage + quarantined_usage;
    let detail = format!(
        "{} rows within the cut-off; {rated_usage} rated, {unbillable_usage} unbillable and {quarantined_usage} quarantined; {} late",
        usage.within, usage.late
    );
    check("usage", passed, detail)
}

fn chunks_check(done: &ChunkTotals) -> Check {
    let passed = done.misplaced == 0 && done.last_member == i64::MAX && done.last_chunk == done.chunks;
    let detail = format!(
        "{} chunks done; {} leave a gap or overlap; the last one ends at {}",
        done.chunks, done.misplaced, done.last_member
    );
    check("chunks", passed, detail)
}
