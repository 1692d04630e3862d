//! The figures of a whole month: kept with each revision when it is verified, so that a draft is
//! compared with what is live at a cost that does not depend on the month's size. The chunks of a
//! revision have only the figures of its scope.

use domain::month::BillingMonth;
use sqlx::PgConnection;

use super::billing_error::BillingError;
use super::revision::RevisionKey;
use super::scope::ScopeRule;
use crate::decode::read_amount;
use crate::error::During as _;

/// What a verified draft is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Baselines {
    /// The month as it will be once the draft is issued, whatever the draft's scope.
    pub draft: MonthFigures,
    /// The month as it is; none for a first billing.
    pub live: Option<MonthFigures>,
    /// The month before; none where nothing is live.
    pub previous_month: Option<MonthFigures>,
}

/// Figures of all bills of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthFigures {
    /// Billed and quarantined members.
    pub members: i64,
    /// In minor units; can exceed 64 bits.
    pub total: i128,
}

/// The figures that a revision keeps.
pub(super) struct KeptFigures {
    pub(super) billed: i64,
    pub(super) quarantined: i64,
    pub(super) total: i128,
}

/// The month's figures once this revision is live: those of the revision below, plus what this one
/// has written, minus what the same members have below.
pub(super) async fn figures_over(
    tx: &mut PgConnection,
    key: &RevisionKey,
    of_revision: i32,
    scope: ScopeRule,
) -> Result<KeptFigures, BillingError> {
    let row = sqlx::query!(
        r#"with changed as materialized (
               select member_id from outcome where month = $1 and revision = $2
           ), written as (
               select count(*) as billed, coalesce(sum(total_amount), 0) as total,
                      (select count(*) from quarantined_member where month = $1 and revision = $2) as quarantined
               from bill where month = $1 and revision = $2
           ), before as (
               select count(*) as billed, coalesce(sum(total_amount), 0) as total,
                      (select count(*) from quarantine_as_of($1, $3, true, false, $4, $5)
                       where member_id in (select member_id from changed)) as quarantined
               from bill_as_of($1, $3, true, false, $4, $5)
               where member_id in (select member_id from changed)
           )
           select month_billed + written.billed - before.billed as "billed!",
                  month_quarantined + written.quarantined - before.quarantined as "quarantined!",
                  (month_total + written.total - before.total)::text as "total!"
           from revision, written, before
           where month = $1 and revision = $3"#,
        key.month.to_string(),
        key.revision.get(),
        of_revision,
        scope.from,
        scope.to
    )
    .fetch_one(tx)
    .await
    .during("cannot compute the month's figures")?;
    let total = read_amount("revision.month_total", &row.total)?;
    Ok(KeptFigures { billed: row.billed, quarantined: row.quarantined, total })
}

/// Reads what the verified draft is compared with.
pub(super) async fn read_baselines(
    tx: &mut PgConnection,
    key: &RevisionKey,
) -> Result<Option<Baselines>, BillingError> {
    let draft = read_figures(tx, key.month, Some(key.revision.get())).await?;
    let live = read_figures(tx, key.month, None).await?;
    let previous_month = match key.month.previous() {
        Some(previous) => read_figures(tx, previous, None).await?,
        None => None,
    };
    Ok(draft.map(|draft| Baselines { draft, live, previous_month }))
}

/// The figures of the month as of a revision, or else of the highest live one. None if there is no
/// such revision, or it is not verified.
async fn read_figures(
    tx: &mut PgConnection,
    month: BillingMonth,
    revision: Option<i32>,
) -> Result<Option<MonthFigures>, BillingError> {
    let row = sqlx::query!(
        r#"select month_billed + month_quarantined as "members!", month_total::text as "total!"
           from revision
           where month = $1 and month_total is not null
             and revision = coalesce($2, (select max(revision) from revision where month = $1 and state = 'LIVE'))"#,
        month.to_string(),
        revision
    )
    .fetch_optional(tx)
    .await
    .during("cannot read the month's figures to compare the draft with")?;
    row.map(|row| {
        Ok(MonthFigures { members: row.members, total: read_amount("revision.month_total", &row.total)? })
    })
    .transpose()
}
