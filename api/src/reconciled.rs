//! What every custom resource has in common, so that one reconcile loop can work with each kind.
//! What only runs have is in [`crate::run`].

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use kube::core::object::{HasSpec, HasStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A custom resource whose status has conditions.
pub trait Reconciled:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasSpec
    + HasStatus<Status: ReconciledStatus>
    + Clone
    + DeserializeOwned
    + Serialize
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// The kind as Kubernetes writes it, such as `BillingRun`.
    const KIND: &'static str;

    /// The conditions of the last status.
    fn conditions(&self) -> &[Condition] {
        self.status().map_or(&[], ReconciledStatus::conditions)
    }

    /// The object with this status.
    #[must_use]
    fn with_status(&self, status: Self::Status) -> Self {
        let mut object = self.clone();
        *object.status_mut() = Some(status);
        object
    }
}

/// The fields that every kind's status has.
pub trait ReconciledStatus: Clone + Default + PartialEq + Serialize + Send + Sync + 'static {
    fn conditions(&self) -> &[Condition];
    fn set_observed_generation(&mut self, generation: Option<i64>);
    fn set_conditions(&mut self, conditions: Vec<Condition>);
}

/// Implements the traits for a kind; the fields of all kinds have the same names.
macro_rules! impl_reconciled {
    ($object:ident, $status:ty) => {
        impl $crate::reconciled::Reconciled for $object {
            const KIND: &'static str = stringify!($object);
        }

        impl $crate::reconciled::ReconciledStatus for $status {
            fn conditions(&self) -> &[::k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition] {
                &self.conditions
            }

            fn set_observed_generation(&mut self, generation: Option<i64>) {
                self.observed_generation = generation;
            }

            fn set_conditions(
                &mut self,
                conditions: Vec<::k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
            ) {
                self.conditions = conditions;
            }
        }
    };
}
pub(crate) use impl_reconciled;
