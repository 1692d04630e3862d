//! The summary of what a re-billing changes: computed once, when its draft is verified, and stored
//! with the revision.

use domain::change_cause::ChangeCause;
use sqlx::PgConnection;

use super::billing_error::BillingError;
use super::revision::RevisionKey;
use super::verification::Check;
use crate::decode::read_amount;
use crate::error::{During as _, StoreError};

/// What a re-billing changes: numbers of members and sums of their totals. A member without a bill
/// counts as 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// Members who had a bill or a quarantine record and get another.
    pub changed: i64,
    /// Members whose bill or quarantine record stays.
    pub unchanged: i64,
    /// Members who had neither a bill nor a quarantine record and get one.
    pub added: i64,
    /// Members who had one and are no longer eligible.
    pub removed: i64,
    /// The sum of the totals that rise, by how much they do: zero or positive.
    pub increase: i128,
    /// The sum of the totals that fall: zero or negative.
    pub decrease: i128,
    /// By number of members, descending.
    pub causes: Vec<CauseShare>,
}

/// The changes that have one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CauseShare {
    pub cause: ChangeCause,
    pub members: i64,
    pub delta: i128,
}

impl Diff {
    /// By how much the month's total rises, or falls if it is negative.
    #[must_use]
    pub fn total_delta(&self) -> i128 {
        self.increase + self.decrease
    }

    /// Members whose outcome changes.
    #[must_use]
    pub fn outcomes(&self) -> i64 {
        self.changed + self.added + self.removed
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        let causes: Vec<_> = self
            .causes
            .iter()
            .map(|share| {
                serde_json::json!({
                    "cause": share.cause.as_str(), "members": share.members, "delta": share.delta.to_string()
                })
            })
            .collect();
        serde_json::json!({
            "changed": self.changed, "unchanged": self.unchanged, "added": self.added, "removed": self.removed,
            "totalDelta": self.total_delta().to_string(), "increase": self.increase.to_string(),
            "decrease": self.decrease.to_string(), "causes": causes,
        })
    }

    /// The summary as `revision.diff` stores it.
    pub(super) fn read(stored: serde_json::Value) -> Result<Self, StoreError> {
        let text = stored.to_string();
        let stored: Stored =
            serde_json::from_value(stored).map_err(|_| StoreError::unreadable("revision.diff", text))?;
        let causes = stored.causes.into_iter().map(|share| {
            Ok(CauseShare {
                cause: read_cause(&share.cause)?,
                members: share.members,
                delta: read_amount("revision.diff", &share.delta)?,
            })
        });
        Ok(Self {
            changed: stored.changed,
            unchanged: stored.unchanged,
            added: stored.added,
            removed: stored.removed,
            increase: read_amount("revision.diff", &stored.increase)?,
            decrease: read_amount("revision.diff", &stored.decrease)?,
            causes: causes.collect::<Result<_, StoreError>>()?,
        })
    }
}

/// Amounts are text, as they can exceed what JSON readers take for a number.
#[derive(serde::Deserialize)]
struct Stored {
    changed: i64,
    unchanged: i64,
    added: i64,
    removed: i64,
    increase: String,
    decrease: String,
    causes: Vec<StoredShare>,
}

#[derive(serde::Deserialize)]
struct StoredShare {
    cause: String,
    members: i64,
    delta: String,
}

fn read_cause(text: &str) -> Result<ChangeCause, StoreError> {
    ChangeCause::ALL
        .into_iter()
        .find(|cause| cause.as_str() == text)
        .ok_or_else(|| StoreError::unreadable("bill_change.cause", text))
}

/// Sums the changes of a re-billing. `members` is the number of members with a bill or a quarantine
/// record once it is issued.
pub(super) async fn summarize(
    tx: &mut PgConnection,
    key: &RevisionKey,
    members: i64,
) -> Result<Diff, BillingError> {
    let rows = sqlx::query!(
        r#"select cause as "cause!", count(*) as "members!",
                  count(*) filter (where change = 'ADDED') as "added!", count(*) filter (where change = 'REMOVED') as "removed!",
                  coalesce(sum(delta) filter (where delta > 0), 0)::text as "increase!",
                  coalesce(sum(delta) filter (where delta < 0), 0)::text as "decrease!"
           from bill_diff where month = $1 and revision = $2
           group by cause order by count(*) desc, cause"#,
        key.month.to_string(),
        key.revision.get()
    )
    .fetch_all(tx)
    .await
    .during("cannot sum the changes")?;
    let mut diff =
        Diff { changed: 0, unchanged: 0, added: 0, removed: 0, increase: 0, decrease: 0, causes: Vec::new() };
    for row in rows {
        let increase = read_amount("bill_diff.delta", &row.increase)?;
        let decrease = read_amount("bill_diff.delta", &row.decrease)?;
        diff.changed += row.members - row.added - row.removed;
        diff.added += row.added;
        diff.removed += row.removed;
        diff.increase += increase;
        diff.decrease += decrease;
        let cause = read_cause(&row.cause)?;
        diff.causes.push(CauseShare { cause, members: row.members, delta: increase + decrease });
    }
    diff.unchanged = members - diff.changed - diff.added;
    Ok(diff)
}

/// Compares the summary with the number of outcomes in the tables, and with the month's totals: the
/// one that is live, and `total` as it will be. What a run with a scope leaves as it is, is not read
/// again: `kept_by` is then the revision that keeps the live total.
pub(super) async fn check(
    tx: &mut PgConnection,
    key: &RevisionKey,
    diff: &Diff,
    outcomes: i64,
    total: i128,
    kept_by: Option<i32>,
) -> Result<Check, BillingError> {
    let live = sqlx::query_scalar!(
        r#"select case when $2::int is null then (select coalesce(sum(total_amount), 0) from live_bill where month = $1)
                       else (select month_total from revision where month = $1 and revision = $2) end::text as "live!""#,
        key.month.to_string(),
        kept_by
    )
    .fetch_one(tx)
    .await
    .during("cannot sum the live bills")?;
    let live = read_amount("live_bill.total_amount", &live)?;
    let passed = diff.outcomes() == outcomes && diff.total_delta() == total - live;
    let detail = format!(
        "{} changes of {} for {outcomes} outcomes; the total is {live}, and {total} once the revision is issued",
        diff.outcomes(),
        diff.total_delta()
    );
    Ok(Check { check: "diff".to_owned(), passed, detail })
}
