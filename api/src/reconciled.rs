//! What every custom resource has in common, so that one reconcile loop can work with each kind.
//! What only runs have is in [`crate::run`].

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use kube::core::object::{HasSpec, HasStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conditions::ConditionUpdate;

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
    /// The conditions of [`crate::kstatus`], as they follow from the rest of the status and from these
    /// other conditions.
    fn health(&self, others: &[ConditionUpdate]) -> Vec<ConditionUpdate>;
}

/// Implements the traits for a kind; the fields of all kinds have the same names. The last argument
/// is the function of [`ReconciledStatus::health`]; without it, the object is one that has no end.
macro_rules! impl_reconciled {
    ($object:ident, $status:ty) => {
        $crate::reconciled::impl_reconciled!($object, $status, |_, others| $crate::kstatus::of_object(
            others
        ));
    };
    ($object:ident, $status:ty, $health:expr) => {
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

            fn health(
                &self,
                others: &[$crate::conditions::ConditionUpdate],
            ) -> Vec<$crate::conditions::ConditionUpdate> {
                let health: fn(&Self, &[$crate::conditions::ConditionUpdate]) -> Vec<_> = $health;
                health(self, others)
            }
        }
    };
}
pub(crate) use impl_reconciled;
