//! Applies actions to worker Jobs. Every action can be repeated.

use api::labels::MANAGER;
use api::run::Run;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::job_action::JobAction;
use crate::controller::run_identity;
use crate::error::{Doing as _, RunError};

pub(crate) async fn apply<R: Run>(client: &Client, run: &R, action: JobAction) -> Result<(), RunError> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), &run_identity::namespace(run)?);
    match action {
        JobAction::Create(new) => {
            // A create, as a server-side apply would adopt a Job of that name that appeared since the
            // observation.
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
                .doing(|| format!("update Job {name}"))?;
        }
        JobAction::Delete(name) => match jobs.delete(&name, &DeleteParams::foreground()).await {
            Err(kube::Error::Api(answer)) if answer.code == 404 => {}
            answer => drop(answer.doing(|| format!("delete Job {name}"))?),
        },
    }
    Ok(())
}
