//! What a delivery and a target are: their keys, outcomes and reasons, and how lists of them become
//! columns of `unnest`.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;

use super::run::NotificationId;
use crate::decode::read_number;
use crate::error::StoreError;

/// A bill of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillKey {
    pub member: MemberId,
    pub revision: Revision,
}

/// How a delivery and its target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Sent,
    Failed,
    Unknown,
    Skipped,
    /// In a rehearsal: the email can be rendered.
    Rendered,
}

impl Outcome {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "SENT",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
            Self::Skipped => "SKIPPED",
            Self::Rendered => "RENDERED",
        }
    }
}

/// The reasons that this crate writes or reads; consumers write others.
pub mod reasons {
    /// Another run sent the bill, or one of the member's bills of another revision, already.
    pub const ALREADY_SENT: &str = "ALREADY_SENT";
    /// Another run attempted the bill after this run had selected it.
    pub const TAKEN: &str = "TAKEN";
    /// The bill is no longer the member's live bill.
    pub const SUPERSEDED: &str = "SUPERSEDED";
    /// The email would be a correction, and the bill that it corrects was not sent after all.
    pub const NOTHING_TO_CORRECT: &str = "NOTHING_TO_CORRECT";
    /// The member has no address. Consumers write it.
    pub const NO_ADDRESS: &str = "NO_ADDRESS";
    /// The bill is of 0, and the run leaves such bills unsent. Consumers write it.
    pub const ZERO_AMOUNT: &str = "ZERO_AMOUNT";
    /// The delivery was handed over, and its lease expired before an outcome was recorded.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
}

/// The delivery of one bill, claimed by a consumer for one run, at one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimedDelivery {
    pub run: NotificationId,
    pub month: BillingMonth,
    pub key: BillKey,
    pub attempt: i32,
}

/// A claim that a consumer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedClaim {
    pub delivery: ClaimedDelivery,
    /// How many tries of this attempt the mail server answered with "try again later".
    pub tries: i32,
    /// How long ago the first try of this attempt began.
    pub since_first_try: Option<Duration>,
}

/// A row that the claiming statements return.
pub(super) struct DeliveryRow {
    pub(super) notification: i64,
    pub(super) member_id: i64,
    pub(super) revision: i32,
    pub(super) attempt: i32,
}

impl DeliveryRow {
    pub(super) fn into_delivery(self, month: BillingMonth) -> Result<ClaimedDelivery, StoreError> {
        let key = read_key(self.member_id, self.revision)?;
        Ok(ClaimedDelivery { run: NotificationId(self.notification), month, key, attempt: self.attempt })
    }
}

/// The same, with the attempt's earlier tries.
pub(super) struct ClaimRow {
    pub(super) notification: i64,
    pub(super) member_id: i64,
    pub(super) revision: i32,
    pub(super) attempt: i32,
    pub(super) tries: i32,
    /// Milliseconds.
    pub(super) since_first_try: Option<i64>,
}

impl ClaimRow {
    pub(super) fn into_claim(self, month: BillingMonth) -> Result<GrantedClaim, StoreError> {
        let Self { notification, member_id, revision, attempt, tries, since_first_try } = self;
        let delivery = DeliveryRow { notification, member_id, revision, attempt }.into_delivery(month)?;
        // Negative when the server's clock was set back.
        let since_first_try =
            since_first_try.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
        Ok(GrantedClaim { delivery, tries, since_first_try })
    }
}

/// Claimed deliveries, column by column. The statements that take them compare holder and state
/// within a `case`: as plain conditions, these would make the planner search the whole partition,
/// although the rows can be found by their keys.
pub(super) struct DeliveryColumns {
    pub(super) runs: Vec<i64>,
    pub(super) members: Vec<i64>,
    pub(super) revisions: Vec<i32>,
    pub(super) attempts: Vec<i32>,
}

pub(super) fn delivery_columns(deliveries: &[ClaimedDelivery]) -> DeliveryColumns {
    DeliveryColumns {
        runs: deliveries.iter().map(|delivery| delivery.run.0).collect(),
        members: deliveries.iter().map(|delivery| delivery.key.member.get()).collect(),
        revisions: deliveries.iter().map(|delivery| delivery.key.revision.get()).collect(),
        attempts: deliveries.iter().map(|delivery| delivery.attempt).collect(),
    }
}

pub(super) fn key_columns(keys: &[BillKey]) -> (Vec<i64>, Vec<i32>) {
    keys.iter().map(|key| (key.member.get(), key.revision.get())).unzip()
}

/// Grouped by month, as each month is a partition, and sorted by key within each month.
pub(super) fn by_month<T: Copy>(
    items: &[T],
    delivery: impl Fn(&T) -> &ClaimedDelivery,
) -> BTreeMap<BillingMonth, Vec<T>> {
    let mut months: BTreeMap<BillingMonth, Vec<T>> = BTreeMap::new();
    for item in items {
        months.entry(delivery(item).month).or_default().push(*item);
    }
    for items in months.values_mut() {
        items.sort_unstable_by_key(|item| delivery(item).key);
    }
    months
}

pub(super) fn read_key(member: i64, revision: i32) -> Result<BillKey, StoreError> {
    Ok(BillKey {
        member: read_number("delivery.member_id", member)?,
        revision: read_number("delivery.revision", revision.into())?,
    })
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
