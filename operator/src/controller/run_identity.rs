//! The names of an object: namespace, uid, and the name that the database has for a run. Pure.

use api::reconciled::Reconciled;
use kube::ResourceExt as _;
use store::billing::Uuid;

use crate::error::RunError;

pub(crate) fn namespace<R: Reconciled>(object: &R) -> Result<String, RunError> {
    object.namespace().ok_or(RunError::Incomplete(R::KIND, "namespace"))
}

pub(crate) fn uid<R: Reconciled>(object: &R) -> Result<Uuid, RunError> {
    object.uid().and_then(|uid| Uuid::parse_str(&uid).ok()).ok_or(RunError::Incomplete(R::KIND, "uid"))
}

/// NAMESPACE/NAME, as the database records a run.
pub(crate) fn full_name<R: Reconciled>(object: &R) -> Result<String, RunError> {
    Ok(format!("{}/{}", namespace(object)?, object.name_any()))
}
