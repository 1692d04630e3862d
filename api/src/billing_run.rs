//! `BillingRun`: bills one month. What each field means is on the field, for `kubectl explain`.

mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::status::{
    Amounts, BillingRunStatus, Counts, Phase, PinnedPriceBook, Progress, VerificationCheck,
};
use crate::{Limit, run::impl_run};

impl_run!(BillingRun, BillingRunSpec, BillingRunStatus, Phase);

/// Bills one month: every eligible member gets a bill or a quarantine record, and the result is issued as a whole.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "monthend.dev",
    version = "v1alpha1",
    kind = "BillingRun",
    plural = "billingruns",
    shortname = "brun",
    category = "monthend",
    namespaced,
    status = "BillingRunStatus",
    derive = "PartialEq",
    doc = "Bills one month: every eligible member gets a bill or a quarantine record, and the result is issued as a whole.",
    printcolumn(
        name = "Month",
        type_ = "string",
        json_path = ".spec.month",
        description = "The billing month"
    ),
    printcolumn(
        name = "Rev",
        type_ = "integer",
        json_path = ".status.revision",
        description = "The revision of the month that this run makes"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the run stands"
    ),
    printcolumn(
        name = "Progress",
        type_ = "integer",
        json_path = ".status.progress.percent",
        description = "Percent of the members that have an outcome"
    ),
    printcolumn(
        name = "Billed",
        type_ = "integer",
        json_path = ".status.counts.billed",
        description = "Members with a bill"
    ),
    printcolumn(
        name = "Quarantined",
        type_ = "integer",
        json_path = ".status.counts.quarantined",
        description = "Members that could not be priced"
    ),
    printcolumn(
        name = "Total",
        type_ = "string",
        json_path = ".status.amounts.total",
        description = "Sum of the bills in minor units"
    ),
    printcolumn(
        name = "ETA",
        type_ = "string",
        json_path = ".status.progress.estimatedCompletion",
        description = "When the last member is expected to be done"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.rebill)").message("rebill is not available in this version; leave it out, a month is billed once").field_path(".rebill"),
    validation = Rule::new("!has(self.rollback)").message("rollback is not available in this version; leave it out").field_path(".rollback"),
    validation = Rule::new("!has(self.scope)").message("scope is not available in this version; leave it out to bill everyone").field_path(".scope"),
    validation = Rule::new("has(self.dataCutoff) == has(oldSelf.dataCutoff) && (!has(self.dataCutoff) || self.dataCutoff == oldSelf.dataCutoff)")
        .message("dataCutoff cannot be changed; delete this run and create another with the other cut-off").field_path(".dataCutoff"),
    validation = Rule::new("has(self.limits) == has(oldSelf.limits) && (!has(self.limits) || self.limits == oldSelf.limits)")
        .message("limits cannot be changed; delete this run and create another with the other limits, or approve its draft").field_path(".limits")
)]
pub struct BillingRunSpec {
    /// The billing month, YYYY-MM. It must be over, in the installation's time zone, before the run starts. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^20[0-9]{2}-(0[1-9]|1[0-2])$')").message("month must be written YYYY-MM and lie in 2000-01 to 2099-12, such as 2026-10"),
        validation = Rule::new("self == oldSelf").message("month cannot be changed; create another run for the other month")
    )]
    pub month: String,

    /// The ConfigMap, in the run's namespace, that holds the price book. Its SHA-256 is pinned when the run starts.
    /// Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("priceBookRef cannot be changed; delete this run and create another with the other price book"))]
    pub price_book_ref: PriceBookRef,

    /// A new revision over the live one. Not available in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebill: Option<OverRevision>,

    /// Takes the live revision back. Not available in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<OverRevision>,

    /// The members to bill again. Not available in this version: everyone is billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,

    /// Automatic issues a draft that passed its checks and limits; Manual waits for `approval` first. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("approvalPolicy cannot be changed; delete this run and create another with the other policy"))]
    pub approval_policy: ApprovalPolicy,

    /// Approves the draft that `digest` identifies, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,

    /// Over one of these, the run finishes and verifies, and then waits for approval. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// The last load that counts; what is loaded later is left out, counted and reported. Default: the last finished
    /// load when the run starts. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("dataCutoff must be the number of a finished load, 1 or more; leave it out for the last one"))]
    pub data_cutoff: Option<i64>,

    /// Completions of the worker Job: the month's chunks are dealt out to so many shards. Immutable.
    #[serde(default = "default_shards")]
    #[x_kube(
        validation = Rule::new("self >= 1 && self <= 1000").message("shards must be 1 to 1000; 16 suits most months"),
        validation = Rule::new("self == oldSelf").message("shards cannot be changed; change parallelism, or delete this run and create another")
    )]
    pub shards: i32,

    /// Worker pods at a time.
    #[serde(default = "default_parallelism")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000").message("parallelism must be 1 to 1000; to stop the workers, set suspend to true"))]
    pub parallelism: i32,

    /// Eligible members in a chunk, which is one transaction. Immutable.
    #[serde(default = "default_chunk_size")]
    #[x_kube(
        validation = Rule::new("self >= 1 && self <= 10000").message("chunkSize must be 1 to 10000; 1000 suits most months"),
        validation = Rule::new("self == oldSelf").message("chunkSize cannot be changed; delete this run and create another with the other size")
    )]
    pub chunk_size: i32,

    /// Stops the workers at their next chunk; false again goes on from there.
    #[serde(default)]
    pub suspend: bool,

    /// Seconds after its end when the run is deleted; its bills stay. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0").message("ttlSecondsAfterFinished must be 0 or more; leave it out to keep the run"))]
    pub ttl_seconds_after_finished: Option<i64>,
}

fn default_shards() -> i32 {
    16
}

fn default_parallelism() -> i32 {
    2
}

fn default_chunk_size() -> i32 {
    1000
}

fn default_key() -> String {
    "pricebook.yaml".to_owned()
}

/// Where the price book is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PriceBookRef {
    /// Name of the ConfigMap.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.size() <= 253 && self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("priceBookRef.name must be the name of a ConfigMap: lower-case letters, digits, '-' and '.', such as pricebook-2026-07"))]
    pub name: String,
    /// The ConfigMap's entry that holds the price book's YAML.
    #[serde(default = "default_key")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.size() <= 253 && self.matches('^[-._a-zA-Z0-9]+$')").message("priceBookRef.key must be a key of the ConfigMap: letters, digits, '-', '_' and '.', such as pricebook.yaml"))]
    pub key: String,
}

/// The revision that a run puts itself over, and why.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OverRevision {
    /// The live revision.
    pub of_revision: i32,
    /// Why, for the revision's history.
    #[schemars(length(max = 1024))]
    pub reason: String,
}

/// Some of the members.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    /// Members by a span of ids, both ends inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_range: Option<MemberRange>,
    /// Up to 1000 members by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub member_ids: Option<Vec<i64>>,
    /// Members by what became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<ScopeSelect>,
}

/// A span of member ids, both ends inclusive.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct MemberRange {
    /// The first id.
    pub from: i64,
    /// The last id.
    pub to: i64,
}

/// Members by what became of them in the live revision.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeSelect {
    /// Those that could not be priced.
    Quarantined,
    /// Those with usage that was loaded after the cut-off.
    Late,
}

/// What has to happen before a verified draft is issued.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApprovalPolicy {
    /// Issue it, unless a limit is exceeded.
    #[default]
    Automatic,
    /// Wait for `approval`.
    Manual,
}

/// Somebody's word that a draft may be issued.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The draft that was looked at: `status.digest`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{64}$')").message("approval.digest must be the 64 hexadecimal digits of status.digest"))]
    pub digest: String,
    /// Who approves, for the revision's history.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.size() <= 253 && self.matches('[^ ]')").message("approval.by must name who approves, in 1 to 253 characters"))]
    pub by: String,
}

/// Limits of what is issued without approval.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.versusPreviousMonth)").message("limits.versusPreviousMonth is not available in this version; leave it out, or use limits.maxQuarantined").field_path(".versusPreviousMonth"),
    validation = Rule::new("!has(self.maxChangedBills)").message("limits.maxChangedBills is not available in this version; leave it out").field_path(".maxChangedBills"),
    validation = Rule::new("!has(self.maxTotalDelta)").message("limits.maxTotalDelta is not available in this version; leave it out").field_path(".maxTotalDelta")
)]
pub struct Limits {
    /// Members in quarantine: a count such as 100, or a percentage of the run's members such as 0.1%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 0 : self.matches('^(100([.]0{1,6})?|[0-9]{1,2}([.][0-9]{1,6})?)%$')").message("limits.maxQuarantined must be a count such as 100 or a percentage from 0% to 100% such as \"0.1%\""))]
    pub max_quarantined: Option<Limit>,
    /// Change against the month before. Not available in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versus_previous_month: Option<VersusPreviousMonth>,
    /// Bills that a new revision may change. Not available in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_changed_bills: Option<Limit>,
    /// Minor units by which a new revision may change the month's total. Not available in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_delta: Option<Limit>,
}

/// Percentages by which a month may differ from the one before it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct VersusPreviousMonth {
    /// Of the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Limit>,
    /// Of the total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Limit>,
}

#[cfg(test)]
mod tests;
