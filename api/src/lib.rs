//! The custom resources: their types, conditions, reasons and labels. The CRDs in `crds/` are
//! generated from here. Has no client and decides nothing. Whatever is invalid by itself is
//! rejected in the API server, by CEL rules.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive copies each struct into a function, where pub has no effect"
)]
#![expect(clippy::duplicated_attributes, reason = "each printer column has its own type_ attribute")]

pub mod billing_run;
pub mod billing_schedule;
pub mod conditions;
pub mod kstatus;
pub mod labels;
mod limit;
mod member_range;
pub mod notification_run;
pub mod reasons;
pub mod reconciled;
pub mod run;

pub use billing_run::{BillingRun, BillingRunSpec, BillingRunStatus};
pub use billing_schedule::{BillingSchedule, BillingScheduleSpec, BillingScheduleStatus};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
pub use limit::{Limit, LimitError};
pub use member_range::MemberRange;
pub use notification_run::{NotificationRun, NotificationRunSpec, NotificationRunStatus};

/// Every CRD, in the order of the generated files.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![BillingRun::crd(), BillingSchedule::crd(), NotificationRun::crd()]
}

#[cfg(test)]
mod tests;
