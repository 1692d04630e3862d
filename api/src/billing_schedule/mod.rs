//! `BillingSchedule`: closes every month by itself. The comments on the fields are what `kubectl
//! explain` shows.

mod template;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::template::{BillingTemplate, NotificationTemplate, RunTemplate};
use crate::reconciled::impl_reconciled;

impl_reconciled!(BillingSchedule, BillingScheduleStatus);

/// Five fields with numbers: minute, hour, day of the month, month, day of the week.
const FIVE_FIELDS: &str = concat!(
    "self.matches('^",
    r"(\\*(/[1-9][0-9]?)?|[0-5]?[0-9](-[0-5]?[0-9](/[1-9][0-9]?)?)?)(,(\\*(/[1-9][0-9]?)?|[0-5]?[0-9](-[0-5]?[0-9](/[1-9][0-9]?)?)?))* ",
    r"(\\*(/[1-9][0-9]?)?|([01]?[0-9]|2[0-3])(-([01]?[0-9]|2[0-3])(/[1-9][0-9]?)?)?)(,(\\*(/[1-9][0-9]?)?|([01]?[0-9]|2[0-3])(-([01]?[0-9]|2[0-3])(/[1-9][0-9]?)?)?))* ",
    r"(\\*(/[1-9][0-9]?)?|(0?[1-9]|[12][0-9]|3[01])(-(0?[1-9]|[12][0-9]|3[01])(/[1-9][0-9]?)?)?)(,(\\*(/[1-9][0-9]?)?|(0?[1-9]|[12][0-9]|3[01])(-(0?[1-9]|[12][0-9]|3[01])(/[1-9][0-9]?)?)?))* ",
    r"(\\*(/[1-9][0-9]?)?|(0?[1-9]|1[0-2])(-(0?[1-9]|1[0-2])(/[1-9][0-9]?)?)?)(,(\\*(/[1-9][0-9]?)?|(0?[1-9]|1[0-2])(-(0?[1-9]|1[0-2])(/[1-9][0-9]?)?)?))* ",
    r"(\\*(/[1-9][0-9]?)?|[0-7](-[0-7](/[1-9][0-9]?)?)?)(,(\\*(/[1-9][0-9]?)?|[0-7](-[0-7](/[1-9][0-9]?)?)?))*",
    "$')",
);

/// The 30th or 31st of months that have no such day. With a day of the week, other days match too.
const FIRES: &str = concat!(
    "!self.matches('^[^ ]+ [^ ]+ (",
    "(30|31|30-31)(,(30|31|30-31))* 0?2(,0?2)*",
    "|31(,31)* (0?2|0?4|0?6|0?9|11)(,(0?2|0?4|0?6|0?9|11))*",
    r") \\*$')",
);

/// Closes every month by itself: creates a BillingRun for each month at the time that it says, and a
/// NotificationRun once the month is billed.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "monthend.dev",
    version = "v1alpha1",
    kind = "BillingSchedule",
    plural = "billingschedules",
    shortname = "bsched",
    category = "monthend",
    namespaced,
    status = "BillingScheduleStatus",
    derive = "PartialEq",
    doc = "Closes every month by itself: creates a BillingRun for each month at the time that it says, and a NotificationRun once the month is billed.",
    validation = Rule::new("self.metadata.name.size() <= 52").message("metadata.name must have at most 52 characters, as the runs are named NAME-YYYY-MM"),
    printcolumn(
        name = "Schedule",
        type_ = "string",
        json_path = ".spec.schedule",
        description = "When a month is billed, in the installation's time zone"
    ),
    printcolumn(
        name = "Last month",
        type_ = "string",
        json_path = ".status.lastMonth",
        description = "The last month for which the schedule created a run"
    ),
    printcolumn(
        name = "Next",
        type_ = "string",
        json_path = ".status.nextTime",
        description = "When the schedule fires next"
    ),
    printcolumn(
        name = "Suspend",
        type_ = "boolean",
        json_path = ".spec.suspend",
        description = "Whether the schedule creates no runs"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BillingScheduleSpec {
    /// When to bill, as a cron expression with five fields, in the installation's time zone: minute,
    /// hour, day of the month, month, day of the week. Each time bills the month before its own date.
    /// Default: at 02:00 on the 1st.
    #[serde(default = "default_schedule")]
    #[schemars(length(max = 256))]
    #[x_kube(
        validation = Rule::new(FIVE_FIELDS).message("schedule must have five fields with numbers: minute (0-59), hour (0-23), day of the month (1-31), month (1-12), day of the week (0-7), such as '0 2 1 * *'"),
        validation = Rule::new(FIRES).message("schedule must name a day that exists: no month that it names has this day")
    )]
    pub schedule: String,

    /// What each BillingRun is made of: the spec of a BillingRun without month, rebill, rollback,
    /// scope and approval. A change counts for runs that are created after it.
    pub billing: BillingTemplate,

    /// What each NotificationRun is made of: the spec of a NotificationRun without month and select.
    /// It is created once the month's BillingRun has issued the bills. Default: no bill is e-mailed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification: Option<NotificationTemplate>,

    /// After a time without an operator, or suspended: how many months to bill, counted back from the
    /// last one that was due, the oldest first. With 0, a month is billed only within ten minutes of
    /// its time.
    #[serde(default = "default_catch_up_months")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 24").message("catchUpMonths must be 0 to 24; 1 is a good value for most schedules"))]
    pub catch_up_months: i32,

    /// Creates no runs. Runs that exist already go on. Set it to false to resume the schedule.
    #[serde(default)]
    pub suspend: bool,

    /// How many finished runs of this schedule are kept in the cluster. The bills stay in the database.
    #[serde(default)]
    pub history_limits: HistoryLimits,
}

fn default_schedule() -> String {
    "0 2 1 * *".to_owned()
}

fn default_catch_up_months() -> i32 {
    1
}

fn default_history() -> i32 {
    12
}

/// How many finished runs of a schedule are kept, of each kind.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The number of runs that ended with a result.
    #[serde(default = "default_history")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 1000").message("historyLimits.succeeded must be 0 to 1000; 12 is a year"))]
    pub succeeded: i32,
    /// The number of runs that failed or were rejected.
    #[serde(default = "default_history")]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 1000").message("historyLimits.failed must be 0 to 1000; 12 is a year"))]
    pub failed: i32,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { succeeded: default_history(), failed: default_history() }
    }
}

/// What the operator reports about a schedule.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BillingScheduleStatus {
    /// The last month for which the schedule created a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_month: Option<String>,

    /// When the schedule fires next, by the database's clock. Not set while it is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,

    /// The schedule's runs that are unfinished, as KIND/NAME.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,

    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The conditions Suspended, Progressing, and those of kstatus: Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests;
