//! `NotificationRun`: e-mails the bills of a month. The comments on the fields are what `kubectl
//! explain` shows.

mod status;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::status::{Consumers, NotificationCounts, NotificationProgress, NotificationRunStatus, Phase};
use crate::member_range::MemberRange;
use crate::run::impl_run;

impl_run!(NotificationRun, NotificationRunSpec, NotificationRunStatus, Phase);

/// E-mails the bills of a month: each selected bill is sent once, or gets the reason why it was not
/// sent.
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
    doc = "E-mails the bills of a month: each selected bill is sent once, or gets the reason why it was not sent.",
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
        description = "Which of the month's bills are selected"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "The phase of the run"
    ),
    printcolumn(
        name = "Targets",
        type_ = "integer",
        json_path = ".status.counts.targets",
        description = "Bills that the run selected"
    ),
    printcolumn(
        name = "Sent",
        type_ = "integer",
        json_path = ".status.counts.sent",
        description = "Bills that the mail server accepted"
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
        description = "Messages on the Kafka topic that no consumer has processed"
    ),
    printcolumn(
        name = "Consumers",
        type_ = "integer",
        json_path = ".status.consumers.replicas",
        description = "Running consumers"
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
    /// The billing month, as YYYY-MM. The run starts once the month's bills are issued. Immutable.
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^20[0-9]{2}-(0[1-9]|1[0-2])$')").message("month must be YYYY-MM from 2000-01 to 2099-12, such as 2026-10"),
        validation = Rule::new("self == oldSelf").message("month cannot be changed; create another run for the other month")
    )]
    pub month: String,

    /// Which of the month's live bills to send. Ready: bills that were not attempted yet, of
    /// members who got no e-mail for the month. Failed: bills that could not be sent. Unknown:
    /// bills that may have been sent. Corrected: bills that were not attempted yet, of members who
    /// were sent another amount for the month, or may have been; they get a correction. Skipped:
    /// bills of members who had no address and have one now. Immutable.
    #[serde(default)]
    #[x_kube(
        validation = Rule::new("self == oldSelf").message("select cannot be changed; create another run with the other selection")
    )]
    pub select: Select,

    /// The members whose bills to send. Default: all members. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<NotificationScope>,

    /// The ConfigMap, in the run's namespace, with the e-mail templates. The run keeps a copy of
    /// the templates when it starts, so later changes of the ConfigMap have no effect. Default:
    /// the chart's templates. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,

    /// Decrypts and renders every e-mail without sending any, and reports which ones would fail.
    /// Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("rehearsal cannot be changed; create another run"))]
    pub rehearsal: bool,

    /// Leaves bills of 0 unsent: they are skipped with the reason ZERO_AMOUNT. A correction is sent
    /// whatever it comes to. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("skipZero cannot be changed; create another run"))]
    pub skip_zero: bool,

    /// The most e-mails per second, over all consumers together. Can be changed while the run is in
    /// progress. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100000").message("maxPerSecond must be 1 to 100000; leave it out for no limit, or set suspend to true to send nothing"))]
    pub max_per_second: Option<i32>,

    /// Stops sending. Set it to false to resume the run.
    #[serde(default)]
    pub suspend: bool,

    /// Deletes the run this many seconds after its end. The outcomes of its bills stay in the
    /// database. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 0").message("ttlSecondsAfterFinished must be 0 or more; leave it out to keep the run"))]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// Which of a month's live bills a run sends.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// Bills that were not attempted yet, of members who got no e-mail for the month.
    #[default]
    Ready,
    /// Bills that could not be sent.
    Failed,
    /// Bills that may have been sent: the mail server's answer was lost.
    Unknown,
    /// Bills that were not attempted yet, of members who were sent another amount for the month,
    /// or may have been: they get a correction.
    Corrected,
    /// Bills of members who had no address and have one now.
    Skipped,
}

/// A selection of members: either a range or a list of ids.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.memberRange) != has(self.memberIds)").message("scope must have either memberRange or memberIds; leave it out for all members"),
    validation = Rule::new("!has(self.memberRange) || (self.memberRange.from >= 1 && self.memberRange.from <= self.memberRange.to)")
        .message("scope.memberRange.from must be 1 or more, and not greater than scope.memberRange.to").field_path(".memberRange")
)]
pub struct NotificationScope {
    /// Members by a range of ids, both ends inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_range: Option<MemberRange>,
    /// 1 to 1000 members by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    #[x_kube(validation = Rule::new("self.size() >= 1 && self.all(id, id >= 1)").message("scope.memberIds must be 1 to 1000 ids of 1 or more"))]
    pub member_ids: Option<Vec<i64>>,
}

/// Templates in a ConfigMap.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TemplateRef {
    /// The name of the ConfigMap. Its keys are, for each LOCALE such as ko, LOCALE.subject.hbs,
    /// LOCALE.body.html.hbs, LOCALE.body.txt.hbs and LOCALE.formats.yaml, and for corrections
    /// LOCALE.correction.subject.hbs, LOCALE.correction.body.html.hbs and
    /// LOCALE.correction.body.txt.hbs. ko and en need no LOCALE.formats.yaml.
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.size() <= 253 && self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("templateRef.name must be the name of a ConfigMap: lower-case letters, digits, '-' and '.', such as templates-2026-10"))]
    pub name: String,
}

#[cfg(test)]
mod tests;
