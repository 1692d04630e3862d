//! Runs, and what is read beside them.

use api::run::Run;
use api::{BillingRun, NotificationRun};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::Cluster;
use crate::exit::{Problem, Result};
use crate::plan::find::AnyRun;

const MANAGER: &str = "kubectl-monthend";

impl Cluster {
    pub(crate) fn runs<R: Run>(&self) -> Api<R> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn billing_runs(&self) -> Result<Vec<BillingRun>> {
        let runs = self.runs::<BillingRun>().list(&ListParams::default()).await;
        Ok(self.check("list BillingRuns", runs)?.items)
    }

    pub(crate) async fn notification_runs(&self) -> Result<Vec<NotificationRun>> {
        let runs = self.runs::<NotificationRun>().list(&ListParams::default()).await;
        Ok(self.check("list NotificationRuns", runs)?.items)
    }

    /// The same run as it is now.
    async fn get<R: Run>(&self, run: &R) -> Result<R> {
        let name = run.name_any();
        let found = self.check(&format!("read {} {name}", R::KIND), self.runs::<R>().get_opt(&name).await)?;
        found
            .filter(|found| found.uid() == run.uid())
            .ok_or_else(|| Problem::failed(format!("{} {name} was deleted meanwhile", R::KIND)))
    }

    /// The worker Jobs of the namespace, or none if they may not be listed.
    pub(crate) async fn jobs(&self) -> Option<Vec<Job>> {
        let jobs = Api::<Job>::namespaced(self.client.clone(), &self.namespace);
        let managed = ListParams::default().labels(api::labels::RUN_UID);
        jobs.list(&managed).await.ok().map(|jobs| jobs.items)
    }

    pub(crate) async fn config_maps(&self) -> Result<Vec<ConfigMap>> {
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let maps = maps.list(&ListParams::default()).await;
        Ok(self.check("list ConfigMaps to find the price book", maps)?.items)
    }

    /// The name by which the API server knows the user.
    pub(crate) async fn user(&self) -> Result<String> {
        let reviews = Api::<SelfSubjectReview>::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
        let review = self.check("ask the API server who you are", review)?;
        let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        user.ok_or_else(|| Problem::failed("the API server does not say who you are"))
    }

    /// Creates a run; a run of this name that exists is left alone.
    pub(crate) async fn create<R: Run>(&self, run: &R) -> Result<R> {
        let name = run.name_any();
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match self.runs::<R>().create(&parameters, run).await {
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                Err(Problem::usage(format!(
                    "{} {name} exists already: look at it with `kubectl monthend status`, or give another --name",
                    R::KIND
                )))
            }
            created => self.check(&format!("create {} {name}", R::KIND), created),
        }
    }

    pub(crate) async fn suspend(&self, run: &AnyRun, suspend: bool) -> Result<()> {
        let doing = format!("{} {} {}", if suspend { "suspend" } else { "resume" }, run.kind(), run.name());
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        let parameters = manager();
        let patched = match run {
            AnyRun::Billing(run) => {
                self.runs::<BillingRun>().patch(&run.name_any(), &parameters, &patch).await.map(drop)
            }
            AnyRun::Notification(run) => {
                self.runs::<NotificationRun>().patch(&run.name_any(), &parameters, &patch).await.map(drop)
            }
        };
        self.check(&doing, patched)
    }

    /// Approves the draft of this run: only this run, while it has this digest.
    pub(crate) async fn approve(&self, run: &BillingRun, digest: &str, by: &str) -> Result<BillingRun> {
        let name = run.name_any();
        let operations = json!([
            {"op": "test", "path": "/metadata/uid", "value": run.uid()},
            {"op": "test", "path": "/status/digest", "value": digest},
            {"op": "add", "path": "/spec/approval", "value": {"digest": digest, "by": by}},
        ]);
        let patch = serde_json::from_value(operations)
            .map_err(|error| Problem::failed(format!("the patch is invalid: {error}")))?;
        match self.runs::<BillingRun>().patch(&name, &manager(), &Patch::<Value>::Json(patch)).await {
            Ok(approved) => Ok(approved),
            Err(error) => {
                self.same_draft(run, digest).await?;
                Err(self.problem(&format!("approve BillingRun {name}"), &error))
            }
        }
    }

    /// Deletes this run, unless its draft is another one by now.
    pub(crate) async fn reject(&self, run: &BillingRun) -> Result<()> {
        let name = run.name_any();
        let mut version = run.resource_version();
        // Each write of the status is another version, also of the same draft.
        for _ in 0..10 {
            let preconditions = Preconditions { uid: run.uid(), resource_version: version.clone() };
            let parameters =
                DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
            match self.runs::<BillingRun>().delete(&name, &parameters).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let digest = run.status.as_ref().and_then(|status| status.digest.clone());
                    let now = self.same_draft(run, &digest.unwrap_or_default()).await?;
                    version = now.resource_version();
                }
                Err(error) => return Err(self.problem(&format!("reject BillingRun {name}"), &error)),
            }
        }
        Err(Problem::try_again(format!("BillingRun {name} changes all the time: try again")))
    }

    /// The run as it is now, if it still waits with this draft.
    async fn same_draft(&self, run: &BillingRun, digest: &str) -> Result<BillingRun> {
        let now = self.get(run).await?;
        crate::plan::find::check_draft(&now)?;
        let current = now.status.as_ref().and_then(|status| status.digest.clone()).unwrap_or_default();
        if current != digest {
            return Err(Problem::failed(format!(
                "the draft of {} is another one than you looked at: its digest is {current}. Look at it with \
                 `kubectl monthend diff {}`",
                run.name_any(),
                run.name_any()
            )));
        }
        Ok(now)
    }
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

#[cfg(test)]
mod tests;
