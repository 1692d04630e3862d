//! What is let go and stopped, against an API server that expects exact calls.

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::Value;
use tower_test::mock;

use super::*;
use crate::mock_server::{Call, refusal, serve};

const BILLING: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns";
const ONE_BILLING: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns/october";
const NOTIFICATION: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/notificationruns";
const ONE_NOTIFICATION: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/notificationruns/october";
const JOBS: &str = "/apis/batch/v1/namespaces/billing/jobs";
const PODS: &str = "/api/v1/namespaces/billing/pods";
const SCALE: &str = "/apis/apps/v1/namespaces/billing/deployments/monthend-operator/scale";
const NAMESPACE: &str = "/api/v1/namespaces/billing";

fn args() -> ReleaseArgs {
    ReleaseArgs {
        namespace: "billing".to_owned(),
        deployment: "monthend-operator".to_owned(),
        instance: "monthend".to_owned(),
        log: "info".to_owned(),
    }
}

fn ok(answer: Value) -> (StatusCode, Value) {
    (StatusCode::OK, answer)
}

fn not_found() -> (StatusCode, Value) {
    refusal(StatusCode::NOT_FOUND, "NotFound", "not found")
}

/// The metadata of a run; its spec is none that this version can read.
fn run(uid: &str, finalizers: &[&str]) -> Value {
    json!({
        "metadata": {"name": "october", "namespace": "billing", "uid": uid, "finalizers": finalizers},
        "spec": {"month": 10},
    })
}

fn list(path: &'static str, items: &[Value]) -> Call {
    let answer = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items});
    Call::new(Method::GET, path, ok(answer))
}

fn get(path: &'static str, run: Value) -> Call {
    Call::new(Method::GET, path, ok(run))
}

/// The patch that removes the finalizer at this place of this run.
fn removal(path: &'static str, uid: &str, index: usize, answer: (StatusCode, Value)) -> Call {
    let finalizer = format!("/metadata/finalizers/{index}");
    let body = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": finalizer, "value": "monthend.dev/run"},
        {"op": "remove", "path": finalizer},
    ]);
    Call::new(Method::PATCH, path, answer).query("fieldManager=monthend-operator-finalizer").body(body)
}

fn stop_workers(query: &'static str) -> Call {
    let answer = ok(json!({"kind": "Status", "status": "Success"}));
    Call::new(Method::DELETE, JOBS, answer).query(query).body(json!({"propagationPolicy": "Background"}))
}

async fn released(calls: Vec<Call>) -> Result<()> {
    let (client, server) = serve(calls);
    let done = release_runs(&client, "billing").await;
    drop(client);
    server.await.unwrap();
    done
}

#[tokio::test]
async fn every_run_of_both_kinds_loses_the_operators_finalizer_and_its_workers() {
    let (billing, notification) =
        (run("uid-1", &["orphan", "monthend.dev/run"]), run("uid-2", &["monthend.dev/run"]));
    let calls = vec![
        list(BILLING, std::slice::from_ref(&billing)),
        get(ONE_BILLING, billing.clone()),
        removal(ONE_BILLING, "uid-1", 1, ok(billing)),
        stop_workers("labelSelector=monthend.dev%2Frun-uid%3Duid-1"),
        list(NOTIFICATION, std::slice::from_ref(&notification)),
        get(ONE_NOTIFICATION, notification.clone()),
        removal(ONE_NOTIFICATION, "uid-2", 0, ok(notification)),
        stop_workers("labelSelector=monthend.dev%2Frun-uid%3Duid-2"),
    ];
    released(calls).await.unwrap();
}

#[tokio::test]
async fn a_run_without_the_operators_finalizer_is_left_alone() {
    let calls = vec![list(BILLING, &[run("uid-1", &[]), run("uid-3", &["orphan"])]), list(NOTIFICATION, &[])];
    released(calls).await.unwrap();
}

#[tokio::test]
async fn a_definition_that_is_gone_has_no_runs() {
    let gone = |path| Call::new(Method::GET, path, not_found());
    released(vec![gone(BILLING), gone(NOTIFICATION)]).await.unwrap();
    // What cannot be listed for another reason is not released.
    let refused = refusal(StatusCode::FORBIDDEN, "Forbidden", "billingruns is forbidden");
    let error = released(vec![Call::new(Method::GET, BILLING, refused)]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot list the BillingRuns of billing");
}

#[tokio::test]
async fn a_run_that_is_gone_meanwhile_still_has_its_workers_stopped() {
    let listed = run("uid-1", &["monthend.dev/run"]);
    for gone in [
        vec![Call::new(Method::GET, ONE_BILLING, not_found())],
        vec![get(ONE_BILLING, listed.clone()), removal(ONE_BILLING, "uid-1", 0, not_found())],
    ] {
        let mut calls = vec![list(BILLING, std::slice::from_ref(&listed))];
        calls.extend(gone);
        calls.push(stop_workers("labelSelector=monthend.dev%2Frun-uid%3Duid-1"));
        calls.push(list(NOTIFICATION, &[]));
        released(calls).await.unwrap();
    }
}

#[tokio::test]
async fn a_run_that_changes_is_read_again_five_times() {
    let changing = run("uid-1", &["monthend.dev/run"]);
    let changed = || refusal(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "the server rejected our request");
    let attempt = || [get(ONE_BILLING, changing.clone()), removal(ONE_BILLING, "uid-1", 0, changed())];
    let attempts = |count: usize| {
        let mut calls = vec![list(BILLING, std::slice::from_ref(&changing))];
        calls.extend((0..count).flat_map(|_| attempt()));
        calls
    };
    let mut calls = attempts(4);
    // Another finalizer was added before the operator's.
    let moved = run("uid-1", &["orphan", "monthend.dev/run"]);
    calls.extend([
        get(ONE_BILLING, moved.clone()),
        removal(ONE_BILLING, "uid-1", 1, ok(moved)),
        stop_workers("labelSelector=monthend.dev%2Frun-uid%3Duid-1"),
        list(NOTIFICATION, &[]),
    ]);
    released(calls).await.unwrap();
    let error = released(attempts(5)).await.unwrap_err();
    assert_eq!(error.to_string(), "BillingRun october changes all the time; try again");
}

#[tokio::test]
async fn what_cannot_be_let_go_or_stopped_is_an_error() {
    let listed = run("uid-1", &["monthend.dev/run"]);
    let away = || refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "etcd is away");
    let calls = vec![
        list(BILLING, std::slice::from_ref(&listed)),
        get(ONE_BILLING, listed.clone()),
        removal(ONE_BILLING, "uid-1", 0, away()),
    ];
    assert_eq!(released(calls).await.unwrap_err().to_string(), "cannot release BillingRun october");
    let mut stop = stop_workers("labelSelector=monthend.dev%2Frun-uid%3Duid-1");
    stop.answer = away();
    let calls = vec![
        list(BILLING, std::slice::from_ref(&listed)),
        get(ONE_BILLING, listed.clone()),
        removal(ONE_BILLING, "uid-1", 0, ok(listed)),
        stop,
    ];
    assert_eq!(
        released(calls).await.unwrap_err().to_string(),
        "cannot delete the Jobs of BillingRun october"
    );
}

fn scale(answer: (StatusCode, Value)) -> Call {
    Call::new(Method::PATCH, SCALE, answer).body(json!({"spec": {"replicas": 0}}))
}

fn scaled() -> (StatusCode, Value) {
    ok(json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {}, "spec": {"replicas": 0}}))
}

fn pods(items: &[Value]) -> Call {
    list(PODS, items).query(
        "labelSelector=app.kubernetes.io%2Finstance%3Dmonthend%2Capp.kubernetes.io%2Fcomponent%3Doperator",
    )
}

async fn stopped(calls: Vec<Call>) -> Result<()> {
    let (client, server) = serve(calls);
    let done = stop_operator(&client, &args()).await;
    drop(client);
    server.await.unwrap();
    done
}

#[tokio::test(start_paused = true)]
async fn the_operator_is_scaled_down_and_its_pods_are_waited_for() {
    let pod = json!({"metadata": {"name": "monthend-operator-1"}});
    stopped(vec![scale(scaled()), pods(std::slice::from_ref(&pod)), pods(&[pod]), pods(&[])]).await.unwrap();
}

#[tokio::test]
async fn an_operator_that_is_gone_or_cannot_be_scaled() {
    stopped(vec![scale(not_found())]).await.unwrap();
    let refused = refusal(StatusCode::FORBIDDEN, "Forbidden", "deployments/scale is forbidden");
    let error = stopped(vec![scale(refused.clone())]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot scale Deployment monthend-operator to 0");
    let unread = Call { answer: refused, ..pods(&[]) };
    let error = stopped(vec![scale(scaled()), unread]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot list the operator's pods");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_end_is_waited_for_a_minute() {
    let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let client = Client::new(service, "billing");
    let server = tokio::spawn(async move {
        let pods = pods(&[json!({"metadata": {"name": "monthend-operator-1"}})]).answer.1;
        while let Some((request, send)) = handle.next_request().await {
            let answer = if request.uri().path() == SCALE { scaled().1 } else { pods.clone() };
            send.send_response(Response::new(Body::from(answer.to_string().into_bytes())));
        }
    });
    let began = tokio::time::Instant::now();
    stop_operator(&client, &args()).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), STOP_TIMEOUT.as_secs());
    drop(client);
    server.await.unwrap();
}

async fn released_with_namespace(answer: (StatusCode, Value), then: Vec<Call>) {
    let mut calls = vec![Call::new(Method::GET, NAMESPACE, answer)];
    calls.extend(then);
    let (client, server) = serve(calls);
    release_if_namespace_is_deleted(&client, "billing").await;
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn runs_are_let_go_when_their_namespace_is_deleted_and_only_then() {
    let none = || vec![list(BILLING, &[]), list(NOTIFICATION, &[])];
    let deleted = json!({"metadata": {"name": "billing", "deletionTimestamp": "2026-11-05T00:00:00Z"}});
    released_with_namespace(ok(deleted), none()).await;
    released_with_namespace(not_found(), none()).await;
    released_with_namespace(ok(json!({"metadata": {"name": "billing"}})), vec![]).await;
    let refused = refusal(StatusCode::FORBIDDEN, "Forbidden", "namespaces is forbidden");
    released_with_namespace(refused, vec![]).await;
}
