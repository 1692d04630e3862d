//! The names of a run: namespace, uid, and the name that the database has for it. Pure.

use api::run::Run;
use kube::ResourceExt as _;
use store::billing::Uuid;

use crate::error::RunError;

pub(crate) fn namespace<R: Run>(run: &R) -> Result<String, RunError> {
    run.namespace().ok_or(RunError::Incomplete(R::KIND, "namespace"))
}

pub(crate) fn uid<R: Run>(run: &R) -> Result<Uuid, RunError> {
    run.uid().and_then(|uid| Uuid::parse_str(&uid).ok()).ok_or(RunError::Incomplete(R::KIND, "uid"))
}

/// NAMESPACE/NAME, as the database records the run.
pub(crate) fn full_name<R: Run>(run: &R) -> Result<String, RunError> {
    Ok(format!("{}/{}", namespace(run)?, run.name_any()))
}
