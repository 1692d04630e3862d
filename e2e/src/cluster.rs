//! Access to the cluster's objects as JSON, exactly as the API server returns them. Must not use
//! the types of `api`.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch, PatchParams,
};
use kube::{Api, Client};
use serde_json::Value;

/// The field manager of everything that the tests apply.
pub const MANAGER: &str = "e2e";

/// An API for any namespaced kind.
pub fn dynamic(
    client: &Client,
    namespace: &str,
    group: &str,
    version: &str,
    kind: &str,
) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Server-side apply of a whole object.
pub async fn apply(api: &Api<DynamicObject>, object: &Value) -> kube::Result<DynamicObject> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object)).await
}

/// Reads the text of one key of a Secret.
pub async fn secret_text(client: &Client, namespace: &str, name: &str, key: &str) -> Result<String> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get(name).await;
    let secret = secret.with_context(|| format!("read Secret {namespace}/{name}"))?;
    let bytes = secret.data.and_then(|mut data| data.remove(key));
    let bytes = bytes.with_context(|| format!("Secret {namespace}/{name} has no key {key}"))?;
    String::from_utf8(bytes.0)
        .with_context(|| format!("key {key} of Secret {namespace}/{name} is not UTF-8 text"))
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub async fn pods(client: &Client, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
    let list =
        Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default().labels(selector)).await;
    Ok(list.with_context(|| format!("list pods of {namespace} with {selector}"))?.items)
}

/// Whether the pod is in phase `Running` and is not being deleted.
pub fn is_running(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

pub fn pod_name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// The last lines of the pod's log, or the reason why it cannot be read. Used in failure reports.
pub async fn log_tail(client: &Client, namespace: &str, pod: &str, lines: i64) -> String {
    let parameters = LogParams { tail_lines: Some(lines), ..LogParams::default() };
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    api.logs(pod, &parameters).await.unwrap_or_else(|error| format!("(no log: {error})\n"))
}

/// Deletes the pod without a grace period, as happens after a node is lost: the API server drops
/// the object at once, and the kubelet kills the remaining processes.
pub async fn force_delete(client: &Client, namespace: &str, pod: &str) -> Result<()> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let parameters = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    api.delete(pod, &parameters).await.with_context(|| format!("delete pod {namespace}/{pod}"))?;
    Ok(())
}

/// Server-side apply of an object whose kind has a Rust type.
pub async fn apply_typed<K>(client: &Client, namespace: &str, object: &Value) -> Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Api::<K>::namespaced(client.clone(), namespace)
        .patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
        .await
        .with_context(|| format!("apply {} {namespace}/{name}", K::kind(&())))?;
    Ok(())
}

/// Sends an HTTP request to a Service through the API server's proxy and returns the response body.
pub async fn request_service(
    client: &Client,
    namespace: &str,
    service: &str,
    port: u16,
    method: &str,
    page: &str,
    body: Vec<u8>,
) -> Result<String> {
    let path = format!("/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy/{page}");
    let request = http::Request::builder()
        .method(method)
        .uri(&path)
        .body(body)
        .with_context(|| format!("build the request for {path}"))?;
    client.request_text(request).await.with_context(|| format!("{method} {path}"))
}
