//! What the actions of a schedule write, against an API server that expects exact calls.

use http::{Method, StatusCode};
use kube::api::ObjectMeta;
use kube::runtime::events::{Recorder, Reporter};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::controller::kind::Kind as _;
use crate::database::Database;
use crate::error::{ErrorClass, RunError};
use crate::metrics::Metrics;
use crate::mock_server::{Call, refusal, serve};
use crate::schedule::Schedules;
use crate::schedule::apply::belong_to;

const BILLING: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns";
const NOTIFICATION: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/notificationruns";
const CREATOR: &str = "fieldManager=monthend-operator";

fn of_november(kind: RunKindName) -> Action {
    Action::Create { kind, month: month("2026-11") }
}

fn review() -> Call {
    let user = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "status": {"userInfo": {"username": "system:serviceaccount:billing:monthend-operator"}}});
    Call::new(Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews", (StatusCode::CREATED, user))
}

fn event(reason: &str, note: &str) -> Call {
    let body = json!({
        "type": "Normal", "reason": reason, "note": note,
        "regarding": {"kind": "BillingSchedule", "name": "close", "uid": UID},
    });
    let answer = (StatusCode::CREATED, json!({"metadata": {"name": "close.1"}}));
    Call::new(Method::POST, "/apis/events.k8s.io/v1/namespaces/billing/events", answer).body(body)
}

/// What both kinds of run have in common.
fn metadata() -> Value {
    let owner = json!({
        "apiVersion": "monthend.dev/v1alpha1", "kind": "BillingSchedule", "name": "close", "uid": UID, "controller": true,
    });
    json!({
        "name": "close-2026-11",
        "labels": {"app.kubernetes.io/managed-by": "monthend-operator", "monthend.dev/month": "2026-11"},
        "ownerReferences": [owner],
    })
}

fn created(path: &'static str, body: Value) -> Call {
    let mut answer = json!({
        "metadata": {"name": "close-2026-11", "uid": "uid-1"},
        "spec": {"month": "2026-11", "priceBookRef": {"name": "book"}},
    });
    answer["kind"] = body["kind"].clone();
    Call::new(Method::POST, path, (StatusCode::CREATED, answer)).query(CREATOR).body(body)
}

/// Applies an action of a schedule with `notification`, and returns how many runs the metrics count.
async fn applied(
    change: fn(&mut BillingSchedule),
    action: Action,
    calls: Vec<Call>,
) -> Result<String, RunError> {
    let mut schedule = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").with_notification().schedule;
    change(&mut schedule);
    let (client, server) = serve(calls);
    let pool = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let reporter = Reporter { controller: "monthend-operator".to_owned(), instance: Some("test".to_owned()) };
    let schedules = Schedules {
        client: client.clone(),
        database: Database::watch(pool, stop),
        recorder: Recorder::new(client, reporter),
        metrics: Metrics::new().unwrap(),
        clock: Clock::SYSTEM,
    };
    let done = schedules.apply(&schedule, action).await;
    let text = schedules.metrics.render().unwrap();
    drop(schedules);
    server.await.unwrap();
    let counted: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("monthend_schedule_runs_total"))
        .map(str::to_owned)
        .collect();
    done.map(|()| counted.join(" "))
}

#[tokio::test]
async fn a_billing_run_is_created_for_the_month_and_says_who_asked_for_it() {
    let mut metadata = metadata();
    metadata["annotations"] =
        json!({"monthend.dev/created-by": "system:serviceaccount:billing:monthend-operator"});
    let body = json!({
        "kind": "BillingRun", "metadata": metadata, "spec": {"month": "2026-11", "priceBookRef": {"name": "book"}},
    });
    let calls =
        vec![review(), created(BILLING, body), event("RunCreated", "created BillingRun close-2026-11")];
    let counted = applied(|_| (), of_november(RunKindName::Billing), calls).await.unwrap();
    assert_eq!(counted, "{kind=\"BillingRun\"} 1 {kind=\"NotificationRun\"} 0");
}

#[tokio::test]
async fn a_notification_run_is_created_for_the_month() {
    let change = |schedule: &mut BillingSchedule| {
        schedule.spec.notification = Some(serde_json::from_value(json!({"maxPerSecond": 5})).unwrap());
    };
    let body = json!({
        "kind": "NotificationRun", "metadata": metadata(), "spec": {"month": "2026-11", "select": "Ready", "maxPerSecond": 5},
    });
    let calls =
        vec![created(NOTIFICATION, body), event("RunCreated", "created NotificationRun close-2026-11")];
    let counted = applied(change, of_november(RunKindName::Notification), calls).await.unwrap();
    assert_eq!(counted, "{kind=\"BillingRun\"} 0 {kind=\"NotificationRun\"} 1");
}

#[test]
fn a_run_does_not_hold_the_deletion_of_its_schedule() {
    let schedule = World::new("Asia/Seoul", "2026-11-15T00:00:00Z").schedule;
    let mut metadata = ObjectMeta::default();
    belong_to(&schedule, month("2026-11"), &mut metadata);
    let owners = metadata.owner_references.unwrap();
    assert_eq!(owners.len(), 1);
    assert_eq!(owners[0].block_owner_deletion, None, "it needs a right on the schedule's finalizers");
}

#[tokio::test]
async fn a_run_that_exists_already_is_left_alone() {
    let exists =
        refusal(StatusCode::CONFLICT, "AlreadyExists", "billingruns \"close-2026-11\" already exists");
    let create = Call::new(Method::POST, BILLING, exists).query(CREATOR);
    let counted = applied(|_| (), of_november(RunKindName::Billing), vec![review(), create]).await.unwrap();
    assert_eq!(counted, "{kind=\"BillingRun\"} 0 {kind=\"NotificationRun\"} 0");
}

#[tokio::test]
async fn a_notification_that_was_taken_out_since_the_decision_is_not_made() {
    let counted =
        applied(|schedule| schedule.spec.notification = None, of_november(RunKindName::Notification), vec![])
            .await
            .unwrap();
    assert_eq!(counted, "{kind=\"BillingRun\"} 0 {kind=\"NotificationRun\"} 0");
}

#[tokio::test]
async fn a_refusal_names_the_run_that_could_not_be_created() {
    let refused = refusal(StatusCode::FORBIDDEN, "Forbidden", "exceeded quota: notificationruns");
    let create = Call::new(Method::POST, NOTIFICATION, refused).query(CREATOR);
    let error = applied(|_| (), of_november(RunKindName::Notification), vec![create]).await.unwrap_err();
    assert!(error.is_refusal());
    assert_eq!(error.to_string(), "cannot create NotificationRun close-2026-11");
    // Without the operator's own name no BillingRun is made, whose approval may depend on it.
    let mut review = review();
    review.answer = refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "etcd is away");
    let error = applied(|_| (), of_november(RunKindName::Billing), vec![review]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot ask the API server for the operator's own user");
}

fn deletion(kind: RunKindName) -> Action {
    Action::Delete { kind, name: "close-2026-01".to_owned(), uid: "uid-1".to_owned() }
}

fn delete(path: &'static str, answer: (StatusCode, Value)) -> Call {
    let body = json!({"propagationPolicy": "Background", "preconditions": {"uid": "uid-1"}});
    Call::new(Method::DELETE, path, answer).body(body)
}

#[tokio::test]
async fn a_finished_run_is_deleted_by_its_uid() {
    const ONE_BILLING: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns/close-2026-01";
    const ONE_NOTIFICATION: &str =
        "/apis/monthend.dev/v1alpha1/namespaces/billing/notificationruns/close-2026-01";
    let done = (StatusCode::OK, json!({"kind": "Status", "status": "Success"}));
    for (kind, path, note) in [
        (RunKindName::Billing, ONE_BILLING, "deleted BillingRun close-2026-01, by historyLimits"),
        (
            RunKindName::Notification,
            ONE_NOTIFICATION,
            "deleted NotificationRun close-2026-01, by historyLimits",
        ),
    ] {
        let calls = vec![delete(path, done.clone()), event("RunDeleted", note)];
        assert!(applied(|_| (), deletion(kind), calls).await.is_ok());
        // It is gone, or another run has its name.
        for answer in [
            refusal(StatusCode::NOT_FOUND, "NotFound", "not found"),
            refusal(StatusCode::CONFLICT, "Conflict", "the UID in the precondition does not match"),
        ] {
            assert!(applied(|_| (), deletion(kind), vec![delete(path, answer)]).await.is_ok());
        }
        let away = refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "etcd is away");
        let error = applied(|_| (), deletion(kind), vec![delete(path, away)]).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Kubernetes);
    }
}
