//! The labels and names that the operator puts on what it makes.

/// The name of the product, for `app.kubernetes.io/name`.
pub const APP: &str = "monthend";
/// Server-side apply's field manager, and the controller's name in Events.
pub const MANAGER: &str = "monthend-operator";

pub const NAME: &str = "app.kubernetes.io/name";
pub const INSTANCE: &str = "app.kubernetes.io/instance";
pub const COMPONENT: &str = "app.kubernetes.io/component";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The run that an object works for. A name over 63 characters is cut, as the object's own name is: match by
/// [`RUN_UID`] where it matters.
pub const RUN: &str = "monthend.dev/run";
pub const RUN_UID: &str = "monthend.dev/run-uid";
pub const MONTH: &str = "monthend.dev/month";

/// Keeps a run until its workers are gone and its draft is settled.
pub const FINALIZER: &str = "monthend.dev/run";
