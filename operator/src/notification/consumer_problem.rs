//! Why no consumer of the installation runs: what its Deployment and the Deployment's pods say. Reads
//! only.

use api::labels;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::controller::worker_job::pod_messages;
use crate::error::{Doing as _, RunError};

const COMPONENT: &str = "notify";

/// Reads why none of the consumers is available; none if one is, or if nothing says why not.
pub(super) async fn find(
    client: &Client,
    namespace: &str,
    instance: &str,
) -> Result<Option<String>, RunError> {
    let ours = ListParams::default().labels(&format!(
        "{}={COMPONENT},{}={instance}",
        labels::COMPONENT,
        labels::INSTANCE
    ));
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deployments = deployments.list(&ours).await.doing(|| "list the consumers' Deployments".to_owned())?;
    if deployments.items.iter().any(is_available) {
        return Ok(None);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&ours).await.doing(|| "list the consumers' pods".to_owned())?;
    Ok(deployments.items.iter().find_map(|deployment| problem(deployment, &pods.items)))
}

fn is_available(deployment: &Deployment) -> bool {
    deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0) > 0
}

/// Why a Deployment without an available pod has none.
fn problem(deployment: &Deployment, pods: &[Pod]) -> Option<String> {
    let name = deployment.name_any();
    if deployment.spec.replicas == Some(0) {
        return Some(format!("Deployment {name} is scaled to 0"));
    }
    let conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let refused = conditions
        .filter(|condition| {
            (condition.type_.as_deref(), condition.status.as_deref())
                == (Some("ReplicaFailure"), Some("True"))
        })
        .find_map(|condition| condition.message.clone());
    let words = pods.iter().find_map(pod_messages::problem).or(refused)?;
    Some(format!("Deployment {name}: {words}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(replicas: i32, available: i32, refused: Option<&str>) -> Deployment {
        let conditions: Vec<_> = refused
            .map(|message| json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}))
            .into_iter()
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "monthend-notify"},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
            "status": {"availableReplicas": available, "conditions": conditions},
        }))
        .unwrap()
    }

    fn waiting_pod() -> Pod {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        serde_json::from_value(json!({
            "metadata": {"name": "monthend-notify-x"},
            "status": {"containerStatuses": [{
                "name": "notify", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting,
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn a_deployment_without_consumers_is_named_with_what_its_pods_say() {
        assert!(is_available(&deployment(2, 1, None)) && !is_available(&deployment(2, 0, None)));
        assert_eq!(
            problem(&deployment(2, 0, None), &[waiting_pod()]).unwrap(),
            "Deployment monthend-notify: pod monthend-notify-x cannot start (ImagePullBackOff): no such image"
        );
        assert_eq!(
            problem(&deployment(2, 0, Some("pods \"x\" is forbidden: exceeded quota")), &[]).unwrap(),
            "Deployment monthend-notify: pods \"x\" is forbidden: exceeded quota"
        );
        assert_eq!(
            problem(&deployment(0, 0, None), &[]).unwrap(),
            "Deployment monthend-notify is scaled to 0"
        );
        // It is merely starting.
        assert_eq!(problem(&deployment(2, 0, None), &[]), None);
    }
}
