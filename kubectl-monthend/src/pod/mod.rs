//! A pod of the release's image with the release's Secrets that runs one sub-command of `monthend`:
//! found, created, followed, and deleted in any case.

mod attach;
mod build;
mod follow;
mod log_lines;
mod rejects;
mod state;
pub(crate) mod upload;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};

pub(crate) use self::attach::load;
use self::build::Task;
pub(crate) use self::follow::{Printed, run};
use crate::cluster::Cluster;
use crate::exit::{Problem, Result};

/// How long a pod may take, if no other time is given.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

impl Cluster {
    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates the pod of a task from the template of the release.
    async fn create_pod(&self, release: Option<&str>, task: &Task<'_>) -> Result<Pod> {
        let templates = Api::<PodTemplate>::namespaced(self.client.clone(), &self.namespace);
        let selector = format!(
            "{}=toolbox,{}={}",
            api::labels::COMPONENT,
            "app.kubernetes.io/part-of",
            api::labels::APP
        );
        let found = templates.list(&ListParams::default().labels(&selector)).await;
        let found = self.check("list PodTemplates to find the release", found)?.items;
        let template = build::choose(&found, release, &self.namespace)?;
        let pod = build::pod(template, task)?;
        let created = self.pods().create(&PostParams::default(), &pod).await;
        self.check("create a pod for this command", created)
    }

    /// Deletes the pod at once. That it cannot be deleted is no reason to fail: it ends by itself.
    async fn delete_pod(&self, pod: &str) {
        let parameters = DeleteParams { grace_period_seconds: Some(2), ..DeleteParams::background() };
        if let Err(error) = self.pods().delete(pod, &parameters).await
            && !matches!(&error, kube::Error::Api(status) if status.code == 404)
        {
            crate::output::warning(&format!(
                "the pod {pod} cannot be deleted ({error}): delete it with `kubectl delete pod {pod}`"
            ));
        }
    }

    async fn pod(&self, name: &str) -> Result<Pod> {
        let pod = self.check(&format!("read the pod {name}"), self.pods().get_opt(name).await)?;
        pod.ok_or_else(|| deleted(name))
    }
}

/// A pod that this program has created is gone.
fn deleted(name: &str) -> Problem {
    Problem::try_again(format!("the pod {name} was deleted meanwhile: try again"))
}

fn name(pod: &Pod) -> String {
    pod.name_any()
}
