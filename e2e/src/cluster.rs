//! Objects of the cluster, as JSON: what the API server says, not what our own types make of it.

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, LogParams, Patch, PatchParams,
    },
};
use serde_json::Value;

/// Who writes: the field manager of everything that the tests apply.
pub const MANAGER: &str = "e2e";

/// Any namespaced kind.
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

/// The text of a Secret's entry.
pub async fn secret_text(client: &Client, namespace: &str, name: &str, key: &str) -> Result<String> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get(name).await;
    let secret = secret.with_context(|| format!("read Secret {namespace}/{name}"))?;
    let bytes = secret.data.and_then(|mut data| data.remove(key));
    let bytes = bytes.with_context(|| format!("Secret {namespace}/{name} has no entry {key}"))?;
    String::from_utf8(bytes.0).with_context(|| format!("entry {key} of Secret {namespace}/{name} is no text"))
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub async fn pods(client: &Client, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
    let list =
        Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default().labels(selector)).await;
    Ok(list.with_context(|| format!("list pods of {namespace} with {selector}"))?.items)
}

/// Whether the pod's containers run.
pub fn runs(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

pub fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// The pod's log, or why there is none: for the report of a failure.
pub async fn log_tail(client: &Client, namespace: &str, pod: &str, lines: i64) -> String {
    let parameters = LogParams { tail_lines: Some(lines), ..LogParams::default() };
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    api.logs(pod, &parameters).await.unwrap_or_else(|error| format!("(no log: {error})\n"))
}

/// Deletes at once, as after a lost node: the API server forgets the pod, the kubelet kills what is left of it.
pub async fn force_delete(client: &Client, namespace: &str, pod: &str) -> Result<()> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let parameters = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    api.delete(pod, &parameters).await.with_context(|| format!("delete pod {namespace}/{pod}"))?;
    Ok(())
}

/// Applies an object of a kind that the client knows.
pub async fn put<K>(client: &Client, namespace: &str, object: &Value) -> Result<()>
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

/// What a Service answers, asked through the API server.
pub async fn proxied(
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
        .with_context(|| format!("ask for {path}"))?;
    client.request_text(request).await.with_context(|| format!("{method} {path}"))
}
