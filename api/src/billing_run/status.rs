//! The status of a `BillingRun`. Counts are 64-bit integers; amounts are decimal strings, as totals
//! can exceed 64 bits.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::diff::Diff;
use crate::run::RunPhase;

/// The state of the run, as the operator last observed it.
// The default is what kstatus needs: a run that the operator has not looked at yet is not finished.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct BillingRunStatus {
    /// The phase of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The number of the revision that this run creates for its month, or takes back. Numbers are
    /// never reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i32>,
    /// The SHA-256 digest of the draft, for spec.approval.digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The price book that the run uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_book: Option<PinnedPriceBook>,
    /// The number of the last data load that is billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_cutoff: Option<i64>,
    /// The progress of the workers. With spec.scope, of the scope's members only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Members and usage rows by outcome. With spec.scope, of the scope's members only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// What nobody is charged for, because the member has no base plan in the month or is not
    /// known. The view not_charged has it by member. With spec.scope, of the scope's members only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_charged: Option<NotCharged>,
    /// What was loaded after the cut-off and concerns the month. Known once the run is verified.
    /// With spec.scope, of the scope's members only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
    /// Sums over all bills, in minor units of the currency. With spec.scope, over the bills of the
    /// scope's members only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amounts: Option<Amounts>,
    /// The checks that were made after the last chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub verification: Vec<VerificationCheck>,
    /// What a run with spec.rebill changes, once its draft is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<Diff>,
    /// What a run with spec.rebill posts to a later month, because it leaves bills that were sent or
    /// corrects bills that an earlier run had left. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjusted: Option<Adjusted>,
    /// When the run locked its month and started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The generation of the spec that this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions Started, Suspended, Approved, Progressing, Complete, Failed and Finished, and
    /// those of kstatus: Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The phase of a run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The run waits to start; the condition Started says for what.
    Pending,
    /// The month is being locked, and its members are being counted and split into chunks.
    Planning,
    /// The workers are billing, chunk by chunk.
    Running,
    /// Every chunk is done and the result is being verified.
    Verifying,
    /// The draft waits for spec.approval; the condition Approved says why.
    AwaitingApproval,
    /// The bills are being issued, or a revision is being taken back.
    Issuing,
    /// The month's bills are issued, or the revision is taken back.
    Succeeded,
    /// The run failed; the condition Failed says why. Another run can bill the month.
    Failed,
    /// The draft was rejected. Another run can bill the month.
    Rejected,
}

impl RunPhase for Phase {
    const ALL: &[Self] = &[
        Self::Pending,
        Self::Planning,
        Self::Running,
        Self::Verifying,
        Self::AwaitingApproval,
        Self::Issuing,
        Self::Succeeded,
        Self::Failed,
        Self::Rejected,
    ];
    const PENDING: Self = Self::Pending;
    const FAILED: Self = Self::Failed;

    fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Rejected)
    }

    fn is_success(self) -> bool {
        self == Self::Succeeded
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Planning => "Planning",
            Self::Running => "Running",
            Self::Verifying => "Verifying",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Issuing => "Issuing",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Rejected => "Rejected",
        }
    }
}

/// The price book that a run uses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PinnedPriceBook {
    /// The `version` in the price book.
    pub version: String,
    /// The SHA-256 of the price book's text.
    pub sha256: String,
}

/// The progress of the workers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Eligible members of the run: those who had a base plan in the month.
    pub members: i64,
    /// Members that are billed or quarantined.
    pub members_done: i64,
    /// Chunks that the members are split into.
    pub chunks: i64,
    /// Chunks that are done.
    pub chunks_done: i64,
    /// Percentage of the members that are done, rounded down; 100 only once all chunks are done.
    pub percent: i64,
    /// Members per second: over the last 10 seconds, or over the whole run once all chunks are
    /// done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_per_second: Option<i64>,
    /// When the last member will be done, at that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<Time>,
}

/// Members and usage rows by outcome. `billed` and `quarantined` add up to the run's members. Each
/// usage row of the month, with a scope each one of its members, is counted in exactly one of the
/// other four: the first that applies, in the order late, quarantined, unbillable, rated.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Members with a bill.
    pub billed: i64,
    /// Members whose bill could not be calculated.
    pub quarantined: i64,
    /// Usage rows that were loaded after the cut-off. Known once the run is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_usage: Option<i64>,
    /// Usage rows of quarantined members.
    pub quarantined_usage: i64,
    /// Usage rows from a time without a base plan, or of a kind that the price book does not have.
    pub unbillable_usage: i64,
    /// Usage rows that are billed, free usage included.
    pub rated_usage: i64,
}

/// Add-ons, adjustments and usage of members without a base plan in the month, or who are not known.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NotCharged {
    /// Subscriptions of add-ons.
    pub add_ons: i64,
    /// Adjustments of the month.
    pub adjustments: i64,
    /// The sum of these adjustments, in minor units of the currency.
    pub adjustment_amount: String,
    /// Usage rows; a part of counts.unbillableUsage.
    pub usage_rows: i64,
}

/// Differences that are posted to a later month as adjustments. The view posted_adjustment has
/// them by member once the revision is issued.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Adjusted {
    /// Members with a difference. They count as unchanged in diff.
    pub members: i64,
    /// The sum of the differences, in minor units of the currency. It is no part of diff.totalDelta.
    pub amount: String,
    /// The month that bills the differences. Known once the revision is issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_month: Option<String>,
}

/// Rows that were loaded after the cut-off, of loads that were not taken back.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Late {
    /// New members, whatever their months.
    pub members: i64,
    /// Subscriptions that begin, end or change in the month or cover it.
    pub subscriptions: i64,
    /// Grants that begin, end or change in the month or cover it.
    pub grants: i64,
    /// Adjustments of the month.
    pub adjustments: i64,
    /// Usage rows of the month; the same as counts.lateUsage.
    pub usage_rows: i64,
    /// Rows within the cut-off whose load was taken back after it.
    pub taken_back: i64,
}

/// Sums over all bills, in minor units of the currency, as decimal strings.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Base fees, add-ons included.
    pub base: String,
    /// Charges for usage beyond the allowances.
    pub usage: String,
    /// Discounts, zero or positive.
    pub discount: String,
    /// One-off charges and credits.
    pub adjustment: String,
    /// Tax.
    pub tax: String,
    /// The sum of the rounding differences; positive if rounding raised the bills.
    pub rounding: String,
    /// The sum of all bills.
    pub total: String,
}

/// A check of the result.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct VerificationCheck {
    /// The name of the check.
    pub check: String,
    /// Whether the check passed.
    pub passed: bool,
    /// The figures that were compared.
    pub detail: String,
}
