//! `BillingRun`: bills one month, or rolls a revision of it back. The comments on the fields are
//! what `kubectl explain` shows.

mod diff;
mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::diff::{CauseShare, ChangeCause, Diff};
pub use self::status::{
    Adjusted, Amounts, BillingRunStatus, Counts, Late, NotCharged, Phase, PinnedPriceBook, Progress,
    VerificationCheck,
};
use crate::limit::Limit;
use crate::member_range::MemberRange;
use crate::run::impl_run;

impl_run!(BillingRun, BillingRunSpec, BillingRunStatus, Phase);

/// Bills one month: every eligible member gets a bill, or is quarantined with a reason, and all
/// bills are issued at once. Or rolls a revision of the month back.
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
    doc = "Bills one month: every eligible member gets a bill, or is quarantined with a reason, and all bills are issued at once. With spec.rollback: takes the month's live revision back.",
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
        description = "The revision of the month that this run creates or takes back"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "The phase of the run"
    ),
    printcolumn(
        name = "Progress",
        type_ = "integer",
        json_path = ".status.progress.percent",
        description = "Percentage of the members that are billed or quarantined"
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
        description = "Members whose bill could not be calculated"
    ),
    printcolumn(
        name = "Total",
        type_ = "string",
        json_path = ".status.amounts.total",
        description = "Sum of all bills, in minor units of the currency"
    ),
    printcolumn(
        name = "ETA",
        type_ = "string",
        json_path = ".status.progress.estimatedCompletion",
        description = "When the last member will be billed, at the current rate"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.rebill) == has(oldSelf.rebill) && (!has(self.rebill) || self.rebill == oldSelf.rebill)")
        .message("rebill cannot be changed; delete this run and create another").field_path(".rebill"),
    validation = Rule::new("!has(self.scope) || has(self.rebill)")
        .message("scope is only for a run with rebill; leave it out to bill all members").field_path(".scope"),
    validation = Rule::new("has(self.scope) == has(oldSelf.scope) && (!has(self.scope) || self.scope == oldSelf.scope)")
        .message("scope cannot be changed; delete this run and create another with the other scope").field_path(".scope"),
    validation = Rule::new("has(self.priceBookRef) || has(self.rollback)")
        .message("priceBookRef must name the ConfigMap with the price book; only a run with rollback has none").field_path(".priceBookRef").reason(Reason::FieldValueRequired),
    validation = Rule::new("!has(self.rollback) || !(has(self.priceBookRef) || has(self.rebill) || has(self.scope) || has(self.approval) || has(self.limits) || has(self.dataCutoff) || has(self.requireSources) || self.approvalPolicy != 'Automatic')")
        .message("a run with rollback bills nothing: it must be without priceBookRef, rebill, scope, approval, limits, dataCutoff and requireSources, and its approvalPolicy must be Automatic").field_path(".rollback"),
    validation = Rule::new("has(self.rollback) == has(oldSelf.rollback) && (!has(self.rollback) || self.rollback == oldSelf.rollback)")
        .message("rollback cannot be changed; delete this run and create another").field_path(".rollback"),
    validation = Rule::new("has(self.dataCutoff) == has(oldSelf.dataCutoff) && (!has(self.dataCutoff) || self.dataCutoff == oldSelf.dataCutoff)")
        .message("dataCutoff cannot be changed; delete this run and create another with the other cut-off").field_path(".dataCutoff"),
    validation = Rule::new("has(self.requireSources) == has(oldSelf.requireSources) && (!has(self.requireSources) || self.requireSources == oldSelf.requireSources)")
        .message("requireSources cannot be changed; delete this run and create another with the other sources").field_path(".requireSources"),
    validation = Rule::new("has(self.limits) == has(oldSelf.limits) && (!has(self.limits) || self.limits == oldSelf.limits)")
        .message("limits cannot be changed; delete this run and create another with the other limits, or approve its draft").field_path(".limits")
)]
pub struct BillingRunSpec {
    /// The billing month, as YYYY-MM. The run starts once the month is over in the installation's
    /// time zone. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^20[0-9]{2}-(0[1-9]|1[0-2])$')").message("month must be YYYY-MM from 2000-01 to 2099-12, such as 2026-10"),
        validation = Rule::new("self == oldSelf").message("month cannot be changed; create another run for the other month")
    )]
    pub month: String,

    /// The ConfigMap, in the run's namespace, with the price book. The run keeps a copy of the
    /// price book when it starts, so later changes of the ConfigMap have no effect. Required,
    /// except with rollback, which needs no price book. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("priceBookRef cannot be changed; delete this run and create another with the other price book"))]
    pub price_book_ref: Option<PriceBookRef>,

    /// Bills the month again, over its live revision. Members whose outcome changes get a new bill,
    /// a quarantine record, or no bill any more; all others keep their bill and what became of
    /// its delivery. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebill: Option<Rebill>,

    /// Takes a revision back, which must be the month's highest live one: its bills are no longer
    /// live, and those of the live revision before it count again. Without one, another run can
    /// bill the month. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<OverRevision>,

    /// With rebill, the members to bill again. Outside the scope nothing changes. Progress, counts
    /// and amounts of the run are of the scope's members only. Default: all members. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,

    /// Automatic issues the bills as soon as they are verified and within the limits. Manual waits
    /// for `approval`. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("approvalPolicy cannot be changed; delete this run and create another with the other policy"))]
    pub approval_policy: ApprovalPolicy,

    /// Approves the draft with this digest, and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,

    /// A draft that exceeds one of these limits waits for approval. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// The number of the last data load to bill. Usage that was loaded later is not billed, but
    /// counted in status.counts.lateUsage. Default: the last load that is finished when the run
    /// starts. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1").message("dataCutoff must be the number of a finished load, 1 or more; leave it out for the last finished load"))]
    pub data_cutoff: Option<i64>,

    /// The sources of the input files, as their manifests name them. The run waits until finished
    /// loads of each of these sources cover every day of the month. Default: the run does not wait
    /// for input. Immutable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 256)))]
    #[x_kube(validation = Rule::new("self.all(source, source.size() >= 1 && source.size() <= 64 && !source.matches(r'\\p{Cc}'))").message("requireSources must be names as in manifest.yaml: 1 to 64 characters without control characters, such as cdr-a"))]
    pub require_sources: Vec<String>,

    /// The number of shards that the month's members are divided into, which is the number of
    /// completions of the worker Job. Immutable.
    #[serde(default = "default_shards")]
    #[x_kube(
        validation = Rule::new("self >= 1 && self <= 1000").message("shards must be 1 to 1000; 16 is a good value for most months"),
        validation = Rule::new("self == oldSelf").message("shards cannot be changed; change parallelism, or delete this run and create another")
    )]
    pub shards: i32,

    /// The number of worker pods that run at the same time. Can be changed while the run is in
    /// progress.
    #[serde(default = "default_parallelism")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000").message("parallelism must be 1 to 1000; to stop the workers, set suspend to true"))]
    pub parallelism: i32,

    /// The number of members that a worker bills in one database transaction. Immutable.
    #[serde(default = "default_chunk_size")]
    #[x_kube(
        validation = Rule::new("self >= 1 && self <= 10000").message("chunkSize must be 1 to 10000; 1000 is a good value for most months"),
        validation = Rule::new("self == oldSelf").message("chunkSize cannot be changed; delete this run and create another with the other size")
    )]
    pub chunk_size: i32,

    /// Stops the workers after their current chunk. Set it to false to resume the run.
    #[serde(default)]
    pub suspend: bool,

    /// Deletes the run this many seconds after its end. Its bills stay in the database. Default:
    /// never.
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

/// A price book in a ConfigMap.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PriceBookRef {
    /// The name of the ConfigMap.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.size() <= 253 && self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("priceBookRef.name must be the name of a ConfigMap: lower-case letters, digits, '-' and '.', such as pricebook-2026-07"))]
    pub name: String,
    /// The key of the ConfigMap with the price book's YAML.
    #[serde(default = "default_key")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.size() <= 253 && self.matches('^[-._a-zA-Z0-9]+$')").message("priceBookRef.key must be a key of the ConfigMap: letters, digits, '-', '_' and '.', such as pricebook.yaml"))]
    pub key: String,
}

/// The revision to bill again, and why.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rebill {
    /// The number of the month's highest live revision. If another revision is live when the run
    /// starts, the run fails, so that the same run never bills a month twice.
    #[x_kube(validation = Rule::new("self >= 1").message("rebill.ofRevision must be the number of the month's live revision, 1 or more"))]
    pub of_revision: i32,
    /// The reason, which is recorded with the new revision.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.matches('[^ ]')").message("rebill.reason must say why the month is billed again, in 1 to 1024 characters"))]
    pub reason: String,
    /// What happens to a member whose bill changes and was e-mailed already.
    #[serde(default)]
    pub after_sent: AfterSent,
}

/// What happens to a member whose bill changes and was e-mailed already.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterSent {
    /// The member gets the corrected bill. It is not e-mailed by itself.
    #[default]
    Revise,
    /// The member keeps the bill. The difference of the totals is posted to the first later month
    /// without a live revision, as an adjustment with the code CORRECTION.
    Adjust,
}

/// The revision to take back, and why.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OverRevision {
    /// The number of the live revision.
    #[x_kube(validation = Rule::new("self >= 1").message("ofRevision must be the number of the live revision, 1 or more, such as status.revision of the run that billed the month"))]
    pub of_revision: i32,
    /// The reason, which is recorded with the revision.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.size() <= 1024 && self.matches('[^ ]')").message("reason must say why, in 1 to 1024 characters"))]
    pub reason: String,
}

/// The members that a run bills again: a range, a list or a selection.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.memberRange), has(self.memberIds), has(self.select)].exists_one(given, given)")
        .message("scope must have exactly one of memberRange, memberIds and select; leave it out to bill all members"),
    validation = Rule::new("!has(self.memberRange) || (self.memberRange.from >= 1 && self.memberRange.from <= self.memberRange.to)")
        .message("scope.memberRange.from must be 1 or more, and not greater than scope.memberRange.to").field_path(".memberRange")
)]
pub struct Scope {
    /// Members by a range of ids, both ends inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_range: Option<MemberRange>,
    /// 1 to 1000 members by id. An id that is given twice counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    #[x_kube(validation = Rule::new("self.size() >= 1 && self.all(id, id >= 1)").message("scope.memberIds must be 1 to 1000 ids of 1 or more"))]
    pub member_ids: Option<Vec<i64>>,
    /// Members by what is known of them when the run starts: Quarantined or Late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<ScopeSelect>,
}

/// Members by what is known of them when a run starts.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeSelect {
    /// Members that are in quarantine.
    Quarantined,
    /// Members of whom usage or adjustments of the month, or subscriptions or grants with a day in
    /// it, were loaded after the cut-off of the highest live revision.
    Late,
}

/// When a verified draft is issued.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApprovalPolicy {
    /// At once, unless it exceeds a limit.
    #[default]
    Automatic,
    /// Once it is approved.
    Manual,
}

/// The approval of a draft.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The digest of the approved draft: the value of `status.digest`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-f]{64}$')").message("approval.digest must be the 64 hexadecimal digits of status.digest"))]
    pub digest: String,
    /// The name of the person who approves, which is recorded with the revision.
    #[schemars(length(max = 1024))]
    #[x_kube(validation = Rule::new("self.size() <= 253 && self.matches('[^ ]')").message("approval.by must be the name of the person who approves, in 1 to 253 characters"))]
    pub by: String,
}

/// Limits for issuing a draft without approval.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// The most quarantined members: a count such as 100, or a percentage of the run's members, which
    /// are those of the scope, such as 0.1%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 0 : self.matches('^(100([.]0{1,6})?|[0-9]{1,2}([.][0-9]{1,6})?)%$')").message("limits.maxQuarantined must be a count such as 100 or a percentage from 0% to 100% such as \"0.1%\""))]
    pub max_quarantined: Option<Limit>,
    /// The most change against the live bills of the month before, of the whole month, also with
    /// scope. If that month has none, the draft waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versus_previous_month: Option<VersusPreviousMonth>,
    /// With rebill, the most members whose outcome changes: a count such as 100, or a percentage of
    /// the run's members, which are those of the scope, such as 1%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 0 : self.matches('^(100([.]0{1,6})?|[0-9]{1,2}([.][0-9]{1,6})?)%$')").message("limits.maxChangedBills must be a count such as 100 or a percentage from 0% to 100% such as \"1%\""))]
    pub max_changed_bills: Option<Limit>,
    /// With rebill, the most by which the month's total rises or falls: minor units of the currency
    /// such as 100000, or a percentage of the month's live total such as 1%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 0 : self.matches('^(100([.]0{1,6})?|[0-9]{1,2}([.][0-9]{1,6})?)%$')").message("limits.maxTotalDelta must be an amount in minor units such as 100000 or a percentage from 0% to 100% such as \"1%\""))]
    pub max_total_delta: Option<Limit>,
}

/// The most by which a month differs from the month before, in percent of the month before.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct VersusPreviousMonth {
    /// The most by which the number of members rises or falls, such as 5%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == string && self.matches('^(100([.]0{1,6})?|[0-9]{1,2}([.][0-9]{1,6})?)%$')").message("limits.versusPreviousMonth.members must be a percentage from 0% to 100% such as \"5%\""))]
    pub members: Option<Limit>,
    /// The most by which the sum of all bills rises or falls, such as 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == string && self.matches('^(100([.]0{1,6})?|[0-9]{1,2}([.][0-9]{1,6})?)%$')").message("limits.versusPreviousMonth.total must be a percentage from 0% to 100% such as \"10%\""))]
    pub total: Option<Limit>,
}

#[cfg(test)]
mod tests;
