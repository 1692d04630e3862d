//! The loop against an API server that expects exact calls in an exact order. What happens when an
//! action fails or does not end is in [`failures`].

mod failures;

use std::collections::VecDeque;

use api::billing_run::{ApprovalPolicy, Phase, PriceBookRef};
use api::conditions::{self, ConditionUpdate, PROGRESSING, STARTED};
use api::run::RunPhase as _;
use api::{BillingRun, BillingRunStatus, NotificationRun, NotificationRunStatus, notification_run};
use http::{Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::object::HasStatus;
use kube::runtime::events::Reporter;
use serde_json::Value;
use tokio::sync::Notify;

use super::*;
use crate::controller::decision::Decision;
use crate::controller::kind::ControllerOf;
use crate::mock_server::{Call, client, refusal, serve};

const RUNS: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns/october";

type Script<R> = Vec<Decision<<R as HasStatus>::Status, &'static str>>;

/// A kind whose decisions are given, and that records the outcomes that it observes.
struct Scripted<R: Reconciled> {
    decisions: Mutex<VecDeque<Decision<R::Status, &'static str>>>,
    seen: Mutex<Vec<Option<&'static str>>>,
    /// What the action `wait` waits for.
    gate: Arc<Notify>,
    with_failure: WithFailure<R>,
}

type WithFailure<R> = fn(&R, Timestamp, &'static str, &str) -> Option<<R as HasStatus>::Status>;

impl<R: Reconciled> Scripted<R> {
    fn new(script: Script<R>) -> Self {
        Self {
            decisions: Mutex::new(script.into()),
            seen: Mutex::default(),
            gate: Arc::default(),
            with_failure: |_, _, _, _| None,
        }
    }
}

impl<R: Reconciled> Kind for Scripted<R> {
    type Object = R;
    type Observed = ();
    type Action = &'static str;
    type Outcome = &'static str;

    fn watch(controller: ControllerOf<Self>, _: &Arc<Context<Self>>, _: &str) -> ControllerOf<Self> {
        controller
    }

    fn count<'a>(_: impl Iterator<Item = &'a R>, _: &Metrics) {}

    fn count_change(_: Option<&R::Status>, _: &R::Status, metrics: &Metrics) {
        // Any counter.
        metrics.jobs_closed.inc();
    }

    fn without_estimates(status: &R::Status) -> R::Status {
        status.clone()
    }

    async fn observe(&self, _: &R, outcome: Option<&'static str>) -> Result<(), RunError> {
        self.seen.lock().unwrap().push(outcome);
        Ok(())
    }

    fn decide(&self, _: &R, (): &()) -> Decision<R::Status, &'static str> {
        self.decisions.lock().unwrap().pop_front().expect("no decision is left in the script")
    }

    async fn apply(&self, _: &R, action: &'static str) -> Result<&'static str, RunError> {
        match action {
            "fail" => Err(RunError::Incomplete("BillingRun", "uid")),
            "refused" => Err(failures::refused()),
            "wait" => {
                self.gate.notified().await;
                Ok(action)
            }
            action => Ok(action),
        }
    }

    fn with_failure(
        &self,
        object: &R,
        now: Timestamp,
        reason: &'static str,
        message: &str,
    ) -> Option<R::Status> {
        (self.with_failure)(object, now, reason, message)
    }

    fn action_limit(&self, _: &&'static str) -> Duration {
        Duration::from_millis(20)
    }
}

fn run(phase: Phase) -> BillingRun {
    let price_book_ref = PriceBookRef { name: "book".to_owned(), key: "pricebook.yaml".to_owned() };
    let spec = serde_json::json!({"month": "2026-10", "priceBookRef": price_book_ref});
    let mut run = BillingRun::new("october", serde_json::from_value(spec).unwrap());
    assert_eq!(run.spec.approval_policy, ApprovalPolicy::Automatic);
    run.metadata.namespace = Some("billing".to_owned());
    run.metadata.uid = Some("uid-1".to_owned());
    run.status = Some(status(phase));
    run
}

fn status(phase: Phase) -> BillingRunStatus {
    let update = ConditionUpdate::new(PROGRESSING, false, phase.as_str(), "note".repeat(500));
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    BillingRunStatus {
        phase: Some(phase),
        conditions: conditions::replace(&[], &[update], None, &now),
        ..BillingRunStatus::default()
    }
}

fn decision(phase: Phase, next: Next<&'static str>) -> Decision<BillingRunStatus, &'static str> {
    Decision { status: status(phase), next }
}

fn get(found: Option<&BillingRun>) -> Call {
    let answer = match found {
        Some(run) => (StatusCode::OK, serde_json::to_value(run).unwrap()),
        None => (
            StatusCode::NOT_FOUND,
            json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}),
        ),
    };
    Call { method: Method::GET, path: RUNS, query: "", body: Value::Null, answer, opens: None }
}

fn patch(path: &'static str, manager: &'static str, body: Value, answer: &BillingRun) -> Call {
    let answer = (StatusCode::OK, serde_json::to_value(answer).unwrap());
    Call { method: Method::PATCH, path, query: manager, body, answer, opens: None }
}

fn write_of(phase: Phase) -> Call {
    let body = json!({"metadata": {"name": "october", "uid": "uid-1"}, "status": {"phase": phase}});
    patch(
        "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns/october/status",
        "force=true&fieldManager=monthend-operator-status",
        body,
        &run(phase),
    )
}

fn event(reason: &str) -> Call {
    Call {
        method: Method::POST,
        path: "/apis/events.k8s.io/v1/namespaces/billing/events",
        query: "",
        body: json!({"reason": reason, "type": "Warning", "regarding": {"name": "october", "uid": "uid-1"}}),
        answer: (StatusCode::CREATED, json!({"metadata": {"name": "october.1"}})),
        opens: None,
    }
}

fn finalizers(names: &[&str]) -> Call {
    let body = json!({"metadata": {"uid": "uid-1", "finalizers": names}});
    patch(RUNS, "force=true&fieldManager=monthend-operator-finalizer", body, &run(Phase::Pending))
}

/// The patch that removes the finalizer at this place, and the run that is left.
fn removal(index: usize, answer: (StatusCode, Value)) -> Call {
    let path = format!("/metadata/finalizers/{index}");
    let body = json!([
        {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
        {"op": "test", "path": path, "value": "monthend.dev/run"},
        {"op": "remove", "path": path},
    ]);
    let query = "fieldManager=monthend-operator-finalizer";
    Call { method: Method::PATCH, path: RUNS, query, body, answer, opens: None }
}

fn with_finalizers(mut run: BillingRun, names: &[&str]) -> BillingRun {
    run.metadata.finalizers = Some(names.iter().map(|name| (*name).to_owned()).collect());
    run
}

fn ok(run: &BillingRun) -> (StatusCode, Value) {
    (StatusCode::OK, serde_json::to_value(run).unwrap())
}

struct Outcome {
    action: Result<Action, RunError>,
    seen: Vec<Option<&'static str>>,
    /// How many changes of the status were counted.
    counted: u64,
}

async fn reconciled<R: Reconciled>(cached: R, script: Script<R>, calls: Vec<Call>) -> Outcome {
    reconciled_after(0, cached, Scripted::new(script), calls).await
}

/// After so many failures in a row.
async fn reconciled_after<R: Reconciled>(
    failures: u32,
    cached: R,
    kind: Scripted<R>,
    calls: Vec<Call>,
) -> Outcome {
    let (client, server) = serve(calls);
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some("test".to_owned()) };
    let recorder = Recorder::new(client.clone(), reporter);
    let clock = Clock::SYSTEM;
    let context = Arc::new(Context::new(client, kind, recorder, Metrics::new().unwrap(), clock));
    for _ in 0..failures {
        context.back_off("uid-1");
    }
    let action = reconcile(Arc::new(DeserializeGuard(Ok(cached))), context.clone()).await;
    assert!(context.kind.decisions.lock().unwrap().is_empty(), "decisions were left");
    let seen = context.kind.seen.lock().unwrap().clone();
    let counted = context.metrics.jobs_closed.get();
    drop(context);
    server.await.unwrap();
    Outcome { action, seen, counted }
}

#[tokio::test]
async fn an_unchanged_status_is_not_written() {
    let running = run(Phase::Running);
    let script = vec![decision(Phase::Running, Next::RequeueAfter(Duration::from_secs(1)))];
    let outcome = reconciled(running.clone(), script, vec![get(Some(&running))]).await;
    assert_eq!(outcome.action.unwrap(), Action::requeue(Duration::from_secs(1)));
    assert_eq!(outcome.counted, 0);
}

#[tokio::test]
async fn a_changed_status_is_written_for_this_uid_and_then_an_event() {
    let running = run(Phase::Running);
    let script = vec![decision(Phase::Failed, Next::AwaitChange)];
    let calls = vec![get(Some(&running)), write_of(Phase::Failed), event("Failed")];
    let outcome = reconciled(running, script, calls).await;
    assert_eq!(outcome.action.unwrap(), Action::await_change());
    assert_eq!(outcome.counted, 1);
}

#[tokio::test]
async fn another_kind_uses_the_same_loop() {
    const OTHERS: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/notificationruns/october";
    const STATUS: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/notificationruns/october/status";
    let spec = serde_json::from_value(json!({"month": "2026-10"})).unwrap();
    let mut pending = NotificationRun::new("october", spec);
    pending.metadata.namespace = Some("billing".to_owned());
    pending.metadata.uid = Some("uid-1".to_owned());
    let update = ConditionUpdate::new(STARTED, false, "TemplatesNotFound", "there is no ConfigMap");
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    let status = NotificationRunStatus {
        phase: Some(notification_run::Phase::Pending),
        conditions: conditions::replace(&[], &[update], None, &now),
        ..NotificationRunStatus::default()
    };
    let found = (StatusCode::OK, serde_json::to_value(&pending).unwrap());
    let mut written = found.clone();
    written.1["status"] = serde_json::to_value(&status).unwrap();
    let calls = vec![
        Call { method: Method::GET, path: OTHERS, query: "", body: Value::Null, answer: found, opens: None },
        Call {
            method: Method::PATCH,
            path: STATUS,
            query: "force=true&fieldManager=monthend-operator-status",
            body: json!({"kind": "NotificationRun", "metadata": {"uid": "uid-1"}, "status": {"phase": "Pending"}}),
            answer: written.clone(),
            opens: None,
        },
        event("TemplatesNotFound"),
        Call {
            method: Method::PATCH,
            path: OTHERS,
            query: "force=true&fieldManager=monthend-operator-finalizer",
            body: json!({"kind": "NotificationRun", "metadata": {"finalizers": ["monthend.dev/run"]}}),
            answer: written,
            opens: None,
        },
    ];
    let script = vec![
        Decision { status: status.clone(), next: Next::AddFinalizer },
        Decision { status, next: Next::AwaitChange },
    ];
    let outcome = reconciled(pending, script, calls).await;
    assert_eq!(outcome.action.unwrap(), Action::await_change());
}

#[tokio::test]
async fn the_status_is_compared_with_the_api_servers_not_the_caches() {
    let script = vec![decision(Phase::Running, Next::AwaitChange)];
    let outcome = reconciled(run(Phase::Pending), script, vec![get(Some(&run(Phase::Running)))]).await;
    assert_eq!(outcome.action.unwrap(), Action::await_change());
}

#[tokio::test]
async fn the_outcome_of_an_action_is_observed_once() {
    let pending = run(Phase::Pending);
    let script = vec![
        decision(Phase::Pending, Next::Apply("begin")),
        decision(Phase::Running, Next::Apply("create")),
        decision(Phase::Running, Next::AddFinalizer),
        decision(Phase::Pending, Next::AwaitChange),
    ];
    let calls = vec![
        get(Some(&pending)),
        write_of(Phase::Running),
        event("Running"),
        finalizers(&["monthend.dev/run"]),
    ];
    let outcome = reconciled(pending, script, calls).await;
    assert_eq!(outcome.seen, [None, Some("begin"), Some("create"), None]);
}

#[tokio::test]
async fn only_the_operators_own_finalizer_is_removed_whoever_set_it() {
    // Created from an exported run, whose fields belong to another manager.
    let over = with_finalizers(run(Phase::Succeeded), &["orphan", "monthend.dev/run"]);
    let left = with_finalizers(over.clone(), &["orphan"]);
    let script = vec![
        decision(Phase::Succeeded, Next::RemoveFinalizer),
        // The run is over and stays: it is looked at again, for its time to live.
        decision(Phase::Succeeded, Next::RequeueAfter(Duration::from_secs(9))),
    ];
    let calls = vec![get(Some(&over)), removal(1, ok(&left))];
    let outcome = reconciled(over, script, calls).await;
    assert_eq!(outcome.action.unwrap(), Action::requeue(Duration::from_secs(9)));
}

#[tokio::test]
async fn a_run_that_is_being_deleted_is_left_once_its_finalizer_is_removed() {
    let mut deleted = with_finalizers(run(Phase::Succeeded), &["monthend.dev/run"]);
    deleted.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    let left = with_finalizers(deleted.clone(), &[]);
    for answer in [ok(&left), refusal(StatusCode::NOT_FOUND, "NotFound", "not found")] {
        let script = vec![decision(Phase::Succeeded, Next::RemoveFinalizer)];
        let calls = vec![get(Some(&deleted)), removal(0, answer)];
        let outcome = reconciled(deleted.clone(), script, calls).await;
        assert_eq!(outcome.action.unwrap(), Action::await_change());
    }
}

#[tokio::test]
async fn a_run_that_changed_keeps_its_finalizer_until_the_next_attempt() {
    let over = with_finalizers(run(Phase::Succeeded), &["monthend.dev/run"]);
    let script = vec![decision(Phase::Succeeded, Next::RemoveFinalizer)];
    let answer = refusal(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "the server rejected our request");
    let calls = vec![get(Some(&over)), removal(0, answer)];
    let outcome = reconciled(over, script, calls).await;
    assert_eq!(outcome.action.unwrap_err().class(), ErrorClass::Conflict);
}

#[tokio::test]
async fn a_run_whose_time_to_live_is_over_is_deleted_by_its_uid() {
    let over = run(Phase::Succeeded);
    let delete = Call {
        method: Method::DELETE,
        path: RUNS,
        query: "",
        body: json!({"propagationPolicy": "Background", "preconditions": {"uid": "uid-1"}}),
        answer: (StatusCode::OK, json!({"kind": "Status", "status": "Success"})),
        opens: None,
    };
    let script = vec![decision(Phase::Succeeded, Next::DeleteRun)];
    let outcome = reconciled(over.clone(), script, vec![get(Some(&over)), delete]).await;
    assert_eq!(outcome.action.unwrap(), Action::await_change());
}

#[tokio::test]
async fn a_run_that_was_deleted_or_recreated_is_left_alone() {
    let gone = reconciled(run(Phase::Running), vec![], vec![get(None)]).await;
    assert_eq!(gone.action.unwrap(), Action::await_change());
    let mut again = run(Phase::Pending);
    again.metadata.uid = Some("uid-2".to_owned());
    let again = reconciled(run(Phase::Running), vec![], vec![get(Some(&again))]).await;
    assert_eq!(again.action.unwrap(), Action::await_change());
}

#[tokio::test]
async fn a_failed_action_ends_the_reconciliation() {
    let running = run(Phase::Running);
    let script = vec![decision(Phase::Running, Next::Apply("fail"))];
    let outcome = reconciled(running.clone(), script, vec![get(Some(&running))]).await;
    assert_eq!(outcome.action.unwrap_err().class(), ErrorClass::Internal);
}

#[tokio::test]
async fn a_reconciliation_with_too_many_passes_is_requeued() {
    let running = run(Phase::Running);
    let script = (0..MAX_PASSES).map(|_| decision(Phase::Running, Next::Apply("again"))).collect();
    let outcome = reconciled(running.clone(), script, vec![get(Some(&running))]).await;
    assert_eq!(outcome.action.unwrap(), Action::requeue(Duration::from_millis(100)));
}

#[tokio::test]
async fn delays_grow_to_a_limit_and_start_over_after_a_success() {
    let client = client();
    let recorder = Recorder::new(client.clone(), Reporter { controller: MANAGER.to_owned(), instance: None });
    let kind = Scripted::<BillingRun>::new(Vec::new());
    let context = Context::new(client, kind, recorder, Metrics::new().unwrap(), Clock::SYSTEM);
    let delays: Vec<u128> = (0..7).map(|_| context.back_off("uid-1").as_millis()).collect();
    assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    assert_eq!(context.back_off("uid-2").as_millis(), 500);
    context.succeeded("uid-1");
    assert_eq!(context.back_off("uid-1").as_millis(), 500);
}
