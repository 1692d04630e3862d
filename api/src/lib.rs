//! The custom resources: their types, conditions and labels. The CRDs in `crds/` are generated from here. Knows no
//! client, decides nothing, and refuses in the API server (CEL) whatever can be refused without looking elsewhere.

#![expect(
    unreachable_pub,
    reason = "the KubeSchema derive copies each struct into a function, where pub reaches nothing"
)]
#![expect(clippy::duplicated_attributes, reason = "each printer column has a type of its own")]

pub mod billing_run;
pub mod conditions;
pub mod labels;
mod limit;
pub mod notification_run;
pub mod run;

pub use billing_run::{BillingRun, BillingRunSpec, BillingRunStatus, MemberRange};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
pub use limit::{Limit, LimitError};
pub use notification_run::{NotificationRun, NotificationRunSpec, NotificationRunStatus};

/// Every CRD of the product, in the order in which their files are written.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![BillingRun::crd(), NotificationRun::crd()]
}

#[cfg(test)]
mod tests;
