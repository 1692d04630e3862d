//! Acts on the Jobs of runs. Every action can be repeated.

use api::{labels::MANAGER, run::Run};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{JobAction, look};
use crate::error::{Doing as _, RunError};

pub(crate) async fn perform<R: Run>(client: &Client, run: &R, action: JobAction) -> Result<(), RunError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), &look::namespace(run)?);
    match action {
        JobAction::Create(new) => {
            // Not an apply, which would also take over a Job of that name that appeared since we looked.
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            jobs.create(&params, &new).await.doing(|| format!("create Job {}", new.name_any()))?;
        }
        JobAction::Adjust { name, parallelism, suspend } => {
            let patch = json!({
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": { "name": name },
                "spec": { "parallelism": parallelism, "suspend": suspend },
            });
            jobs.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch))
                .await
                .doing(|| format!("change Job {name}"))?;
        }
        JobAction::Delete(name) => match jobs.delete(&name, &DeleteParams::foreground()).await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            answer => drop(answer.doing(|| format!("delete Job {name}"))?),
        },
    }
    Ok(())
}
