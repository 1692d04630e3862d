//! `NotificationRun`: tells a month's members of their bills. What each field means is on the field, for `kubectl explain`.

mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::status::{Consumers, NotificationCounts, NotificationProgress, NotificationRunStatus, Phase};
use crate::{MemberRange, run::impl_run};

impl_run!(NotificationRun, NotificationRunSpec, NotificationRunStatus, Phase);

/// Sends the e-mails for a month's bills: each chosen bill's member is told once, or it is said why not.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "monthend.dev",
    version = "v1alpha1",
    kind = "NotificationRun",
    plural = "notificationruns",
    shortname = "nrun",
    category = "monthend",
    namespaced,
    status = "NotificationRunStatus",
    derive = "PartialEq",
    doc = "Sends the e-mails for a month's bills: each chosen bill's member is told once, or it is said why not.",
    printcolumn(
        name = "Month",
        type_ = "string",
        json_path = ".spec.month",
        description = "The billing month"
    ),
    printcolumn(
        name = "Select",
        type_ = "string",
        json_path = ".spec.select",
        description = "Which of the month's bills it is about"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the run stands"
    ),
    printcolumn(
        name = "Targets",
        type_ = "integer",
        json_path = ".status.counts.targets",
        description = "Bills that it chose"
    ),
    printcolumn(
        name = "Sent",
        type_ = "integer",
        json_path = ".status.counts.sent",
        description = "Bills that a mail server took"
    ),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.counts.failed",
        description = "Bills that could not be sent"
    ),
    printcolumn(
        name = "Lag",
        type_ = "integer",
        json_path = ".status.consumers.lag",
        description = "Messages on the topic that no consumer is done with"
    ),
    printcolumn(
        name = "Consumers",
        type_ = "integer",
        json_path = ".status.consumers.replicas",
        description = "Consumers that are running"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.scope) == has(oldSelf.scope) && (!has(self.scope) || self.scope == oldSelf.scope)")
        .message("scope cannot be changed; delete this run and create another with the other scope").field_path(".scope"),
    validation = Rule::new("has(self.templateRef) == has(oldSelf.templateRef) && (!has(self.templateRef) || self.templateRef == oldSelf.templateRef)")
        .message("templateRef cannot be changed; delete this run and create another with the other templates").field_path(".templateRef")
)]
pub struct NotificationRunSpec {
    /// The billing month, YYYY-MM. The run starts once its bills are issued. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^20[0-9]{2}-(0[1-9]|1[0-2])$')").message("month must be written YYYY-MM and lie in 2000-01 to 2099-12, such as 2026-10"),
        validation = Rule::new("self == oldSelf").message("month cannot be changed; create another run for the other month")
    )]
    pub month: String,

    /// Which of the month's live bills: Ready ones, of members to whom nothing was sent for the month; only Failed ones;
    /// only those whose outcome is Unknown. Corrected is not available in this version. Immutable.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new("self != 'Corrected'").message("select: Corrected is not available in this version; leave it out, or use Failed or Unknown"),
        validation = Rule::new("self == oldSelf").message("select cannot be changed; create another run with the other selection")
    )]
    pub select: Select,

    /// Some of the members. Default: everyone. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<NotificationScope>,

    /// The ConfigMap, in the run's namespace, that holds the templates. They are pinned when the run starts. Default: the
    /// chart's. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,

    /// Reads, decrypts and renders every message and sends none; reports what would fail. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("rehearsal cannot be changed; create another run"))]
    pub rehearsal: bool,

    /// Messages a second, over all consumers together. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("maxPerSecond must be 1 to 100000; leave it out for no limit, or set suspend to true to send nothing"))]
    pub max_per_second: Option<i32>,

    /// Sends nothing further; false again goes on from there.
    #[serde(default)]
    pub suspend: bool,

    /// Seconds after its end when the run is deleted; what it sent stays known. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0").message("ttlSecondsAfterFinished must be 0 or more; leave it out to keep the run"))]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// Which of a month's live bills a run is about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// Not attempted yet, of members to whom nothing was sent for the month.
    #[default]
    Ready,
    /// Those that could not be sent.
    Failed,
    /// Those that may have been sent: the answer was lost.
    Unknown,
    /// Of members to whom another amount was sent. Not available in this version.
    Corrected,
}

/// Some of the members.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.memberRange) != has(self.memberIds)").message("scope must have either memberRange or memberIds; leave it out for everyone"),
    validation = Rule::new("!has(self.memberRange) || (self.memberRange.from >= 1 && self.memberRange.from <= self.memberRange.to)")
        .message("scope.memberRange must begin at 1 or more and not end before it begins").field_path(".memberRange")
)]
pub struct NotificationScope {
    /// Members by a span of ids, both ends inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_range: Option<MemberRange>,
    /// 1 to 1000 members by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    #[x_kube(validation = Rule::new("self.size() >= 1 && self.all(id, id >= 1)").message("scope.memberIds must be 1 to 1000 ids of 1 or more"))]
    pub member_ids: Option<Vec<i64>>,
}

/// Where the templates are.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TemplateRef {
    /// Name of the ConfigMap with an entry for each of LOCALE.subject.hbs, LOCALE.body.html.hbs and LOCALE.body.txt.hbs,
    /// where LOCALE is ko and en.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.size() <= 253 && self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("templateRef.name must be the name of a ConfigMap: lower-case letters, digits, '-' and '.', such as templates-2026-10"))]
    pub name: String,
}

#[cfg(test)]
mod tests;
