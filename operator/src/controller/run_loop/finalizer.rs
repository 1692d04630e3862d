//! Adds this operator's finalizer to a run and removes it. The finalizers of others stay.

use std::fmt;

use api::labels::{FINALIZER, MANAGER};
use api::reconciled::Reconciled;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::{Doing as _, RunError};

fn manager() -> String {
    format!("{MANAGER}-finalizer")
}

pub(super) async fn add<R: Reconciled>(runs: &Api<R>, run: &R) -> Result<R, RunError> {
    let name = run.name_any();
    let patch = json!({
        "apiVersion": R::api_version(&()),
        "kind": R::kind(&()),
        "metadata": { "name": name, "uid": run.uid(), "finalizers": [FINALIZER] },
    });
    runs.patch(&name, &PatchParams::apply(&manager()).force(), &Patch::Apply(&patch))
        .await
        .doing(|| format!("add the finalizer to {} {name}", R::KIND))
}

/// Removes the finalizer, also if another field manager owns it: in a run that was created from an
/// exported one it is not this operator, and a server-side apply would leave it. The patch takes
/// nothing from another run of this name, and no other finalizer. Returns the run as it is then, or
/// none if it no longer exists.
pub(crate) async fn remove<R>(runs: &Api<R>, run: &R) -> Result<Option<R>, RunError>
where
    R: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let name = run.name_any();
    let Some(index) = run.finalizers().iter().position(|finalizer| finalizer == FINALIZER) else {
        return Ok(Some(run.clone()));
    };
    let operation = || format!("remove the finalizer of {} {name}", R::kind(&()));
    let path = format!("/metadata/finalizers/{index}");
    let patch = serde_json::from_value(json!([
        { "op": "test", "path": "/metadata/uid", "value": run.uid() },
        { "op": "test", "path": path, "value": FINALIZER },
        { "op": "remove", "path": path },
    ]))
    .map_err(|source| RunError::Patch { operation: operation(), source })?;
    let params = PatchParams { field_manager: Some(manager()), ..PatchParams::default() };
    match runs.patch(&name, &params, &Patch::<()>::Json(patch)).await {
        Ok(left) => Ok(Some(left)),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(None),
        // One of the tests failed: the run was changed since it was read.
        Err(kube::Error::Api(answer)) if answer.code == 422 => {
            Err(RunError::Outdated { operation: operation() })
        }
        Err(source) => Err(RunError::Kubernetes { operation: operation(), source }),
    }
}
