//! What a `BillingRun` reports. Counts are 64-bit integers, amounts decimal strings: totals can pass 64 bits.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run::RunPhase;

/// What the run has done so far.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BillingRunStatus {
    /// Where the run stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The revision of the month that this run makes; taken at planning, never reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i32>,
    /// Identifies the draft: what `approval.digest` must equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The price book that the run is pinned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_book: Option<PinnedPriceBook>,
    /// The last load that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_cutoff: Option<i64>,
    /// How far the workers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Members and usage rows by what became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// Sums over the bills, in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amounts: Option<Amounts>,
    /// The checks made after the last chunk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub verification: Vec<VerificationCheck>,
    /// When the run took its month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Started, Progressing, Suspended, Approved, Complete, Failed, Finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where a run stands.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Waits for what it needs to start; the condition Started says for what.
    Pending,
    /// Takes the month, counts members, cuts chunks.
    Planning,
    /// Workers bill chunk by chunk.
    Running,
    /// Every chunk is done and the whole is checked.
    Verifying,
    /// The draft waits for `spec.approval`; the condition Approved says why.
    AwaitingApproval,
    /// The revision is being made live.
    Issuing,
    /// The month's bills are out.
    Succeeded,
    /// Ended without a result; the condition Failed says why. The month is free for another run.
    Failed,
    /// The draft was turned down. The month is free for another run.
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

    fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Rejected)
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

/// A price book by its text.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PinnedPriceBook {
    /// Its `version`.
    pub version: String,
    /// SHA-256 of its exact text.
    pub sha256: String,
}

/// How far the workers are.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Members with a base segment in the month.
    pub members: i64,
    /// Members that have an outcome.
    pub members_done: i64,
    /// Chunks planned.
    pub chunks: i64,
    /// Chunks done.
    pub chunks_done: i64,
    /// Members done, in whole percent; 100 only when all are.
    pub percent: i64,
    /// Members a second, over the last seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_per_second: Option<i64>,
    /// When the last member is expected to be done, at that rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_completion: Option<Time>,
}

/// Members and usage rows by what became of them. `billed` and `quarantined` together are the run's members; each
/// usage row of the month is in exactly one of the other four, the first that fits.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Members with a bill.
    pub billed: i64,
    /// Members that could not be priced.
    pub quarantined: i64,
    /// Usage rows loaded after the cut-off; known once the run is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_usage: Option<i64>,
    /// Usage rows of members in quarantine.
    pub quarantined_usage: i64,
    /// Usage rows that belong to no base segment or are of a kind that the price book does not declare.
    pub unbillable_usage: i64,
    /// Usage rows that were priced, free ones included.
    pub rated_usage: i64,
}

/// Sums over the bills, in minor units, as decimal strings.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Base fees, add-ons included.
    pub base: String,
    /// Usage over the allowances.
    pub usage: String,
    /// Discounts taken off, zero or positive.
    pub discount: String,
    /// One-off charges and credits.
    pub adjustment: String,
    /// Tax.
    pub tax: String,
    /// What rounding the bills added or took off.
    pub rounding: String,
    /// What all bills come to.
    pub total: String,
}

/// One check of the whole run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct VerificationCheck {
    /// What was compared.
    pub check: String,
    /// Whether it agrees.
    pub passed: bool,
    /// The figures.
    pub detail: String,
}
