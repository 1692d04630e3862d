//! The labels, annotations and names of objects that the operator creates or reads.

/// The name of the product, for `app.kubernetes.io/name`.
pub const APP: &str = "monthend";
/// The field manager of server-side apply, and the controller's name in Events.
pub const MANAGER: &str = "monthend-operator";

pub const NAME: &str = "app.kubernetes.io/name";
pub const INSTANCE: &str = "app.kubernetes.io/instance";
pub const COMPONENT: &str = "app.kubernetes.io/component";
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The name of the object's run. A name of more than 63 characters is cut, so select objects by
/// [`RUN_UID`].
pub const RUN: &str = "monthend.dev/run";
pub const RUN_UID: &str = "monthend.dev/run-uid";
pub const MONTH: &str = "monthend.dev/month";

/// The annotation of a run with the user who created it. The chart's approval policy can ask for it.
pub const CREATED_BY: &str = "monthend.dev/created-by";

/// The annotation of a Job with the image that the operator wants its workers to have. What the Job
/// itself names can be changed at its creation, as by a policy that sets another registry.
pub const IMAGE: &str = "monthend.dev/image";

/// Keeps a deleted run until its workers have stopped and its work is rejected or cancelled.
pub const FINALIZER: &str = "monthend.dev/run";

/// The ConfigMap with the high-water mark of each month. The chart creates it.
pub const HIGH_WATER_MARKS: &str = "monthend-high-water-marks";
/// On a NotificationRun: a person says that it may send although the database was restored from
/// before this high-water mark.
pub const SEND_AFTER_RESTORE: &str = "monthend.dev/send-after-restore";
