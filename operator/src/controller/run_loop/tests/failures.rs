//! Actions that fail, are refused or do not end: what the run's condition says, and when it is
//! replaced.

use api::conditions::{RECONCILING, STALLED};
use api::reasons;

use super::*;
use crate::controller::lifecycle;

const STATUS: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns/october/status";
const WRITER: &str = "force=true&fieldManager=monthend-operator-status";

/// As an exhausted quota refuses a Job; the message has an address, which no condition may show.
pub(super) fn refused() -> RunError {
    let message = "jobs.batch \"october-bill\" is forbidden: exceeded quota: jobs, asked by kim@example.com";
    let answer = kube::core::Status { code: 403, message: message.to_owned(), ..Default::default() };
    let source = kube::Error::Api(answer.boxed());
    RunError::Kubernetes { operation: "create Job october-bill".to_owned(), source }
}

/// A run that has begun, in this phase, with this condition.
fn begun(phase: Phase, update: ConditionUpdate) -> BillingRun {
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    let mut run = run(phase);
    let status = run.status.as_mut().unwrap();
    status.start_time = Some(now.clone());
    status.conditions = conditions::replace(&[], &[update], None, &now);
    run
}

fn working(phase: Phase) -> BillingRun {
    begun(phase, ConditionUpdate::new(PROGRESSING, true, reasons::BILLING, "billing"))
}

fn failing(reason: &str, message: &str) -> BillingRun {
    begun(Phase::Running, ConditionUpdate::new(PROGRESSING, false, reason, message))
}

/// A kind whose status says what failed as that of every run does.
fn scripted(script: Script<BillingRun>) -> Scripted<BillingRun> {
    Scripted { with_failure: lifecycle::with_failure, ..Scripted::new(script) }
}

/// The decision that leaves the run as it is, or gives it this status.
fn decide_on(run: &BillingRun, next: Next<&'static str>) -> Decision<BillingRunStatus, &'static str> {
    Decision { status: run.status.clone().unwrap(), next }
}

/// Expects a status that says this.
fn write_saying(phase: Phase, condition: &str, health: &str, answer: &BillingRun) -> Call {
    let update = |text: &str| {
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        json!({"type": words[0], "status": words[1], "reason": words[2], "message": words[3]})
    };
    let update = update(condition);
    let reason = update["reason"].clone();
    let body = json!({"status": {"phase": phase, "conditions": [
        update, {"type": "Ready", "status": "False", "reason": reason}, {"type": health, "status": "True", "reason": reason},
    ]}});
    patch(STATUS, WRITER, body, answer)
}

#[tokio::test]
async fn a_refused_action_is_a_condition_with_the_refusals_words_and_an_event() {
    let running = working(Phase::Running);
    let script = vec![decide_on(&running, Next::Apply("refused"))];
    let words = "Progressing False ActionRefused cannot create Job october-bill: jobs.batch \"october-bill\" is \
                 forbidden: exceeded quota: jobs, asked by k***@e***.com; the operator tries again";
    let calls = vec![
        get(Some(&running)),
        write_saying(Phase::Running, words, STALLED, &running),
        event("ActionRefused"),
    ];
    let outcome = reconciled_after(1, running, scripted(script), calls).await;
    assert!(outcome.action.unwrap_err().is_refusal());
}

#[tokio::test]
async fn a_failure_is_reported_only_when_the_second_attempt_fails_too() {
    let running = working(Phase::Running);
    let script = || scripted(vec![decide_on(&running, Next::Apply("fail"))]);
    let first = reconciled_after(0, running.clone(), script(), vec![get(Some(&running))]).await;
    assert!(first.action.is_err());
    let words = "Progressing False ActionFailed a BillingRun has no uid, which the API server sets on every object; the \
                 operator tries again";
    let calls = vec![
        get(Some(&running)),
        write_saying(Phase::Running, words, RECONCILING, &running),
        event("ActionFailed"),
    ];
    assert!(reconciled_after(1, running.clone(), script(), calls).await.action.is_err());
}

#[tokio::test]
async fn a_run_that_has_not_begun_says_it_in_the_condition_started() {
    let update = ConditionUpdate::new(STARTED, false, reasons::PLANNING, "planning");
    let mut planning = begun(Phase::Planning, update);
    planning.status.as_mut().unwrap().start_time = None;
    let script = vec![decide_on(&planning, Next::Apply("refused"))];
    let body = json!({"status": {"phase": "Planning"}});
    let calls = vec![get(Some(&planning)), patch(STATUS, WRITER, body, &planning), event("ActionRefused")];
    assert!(reconciled_after(1, planning, scripted(script), calls).await.action.is_err());
}

#[tokio::test]
async fn a_run_that_tries_again_keeps_its_condition_until_an_action_gets_through() {
    let failed = failing(
        reasons::ACTION_FAILED,
        "a BillingRun has no uid, which the API server sets on every object; \
                                                  the operator tries again",
    );
    let working = working(Phase::Running);
    // It fails again: the status that was decided is not written, and the same words are not written twice.
    // (The health is added with the first write.)
    let script = vec![decide_on(&working, Next::Apply("fail"))];
    let mut with_health = failed.clone();
    let health = [ConditionUpdate::new(
        PROGRESSING,
        false,
        reasons::ACTION_FAILED,
        failed.conditions()[0].message.clone(),
    )];
    let all: Vec<ConditionUpdate> = health
        .iter()
        .cloned()
        .chain(api::kstatus::of_run(api::kstatus::RunState::Unfinished, &health))
        .collect();
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    with_health.status.as_mut().unwrap().conditions = conditions::replace(&[], &all, None, &now);
    let again =
        reconciled_after(5, with_health.clone(), scripted(script), vec![get(Some(&with_health))]).await;
    assert!(again.action.is_err());
    // It gets through: the next status is written.
    let script = vec![
        decide_on(&working, Next::Apply("create")),
        decide_on(&working, Next::RequeueAfter(Duration::from_secs(1))),
    ];
    let body = json!({"status": {"conditions": [{"type": "Progressing", "status": "True"}]}});
    let mut event = event("Billing");
    event.body["type"] = json!("Normal");
    let calls = vec![get(Some(&with_health)), patch(STATUS, WRITER, body, &working), event];
    let through = reconciled_after(5, with_health, scripted(script), calls).await;
    assert_eq!(through.action.unwrap(), Action::requeue(Duration::from_secs(1)));
}

#[tokio::test]
async fn a_status_that_is_refused_is_an_event_once() {
    let running = working(Phase::Running);
    for (failures, events) in [(1, 1), (2, 0)] {
        let script = vec![decide_on(&running, Next::Apply("refused"))];
        let refused = Call {
            answer: refusal(StatusCode::FORBIDDEN, "Forbidden", "cannot patch billingruns/status"),
            ..patch(STATUS, WRITER, Value::Null, &running)
        };
        let mut calls = vec![get(Some(&running)), refused];
        calls.extend((0..events).map(|_| event("ActionRefused")));
        let outcome = reconciled_after(failures, running.clone(), scripted(script), calls).await;
        assert!(outcome.action.is_err());
    }
}

#[tokio::test]
async fn an_action_that_does_not_end_is_a_condition_while_it_goes_on() {
    let verifying = working(Phase::Verifying);
    let script = vec![
        decide_on(&verifying, Next::Apply("wait")),
        decide_on(&verifying, Next::RequeueAfter(Duration::from_secs(1))),
    ];
    let kind = scripted(script);
    let slow = failing(reasons::ACTION_SLOW, "slow");
    let body = json!({"status": {"phase": "Verifying"}});
    let written = patch(STATUS, WRITER, body, &slow);
    // The action ends only after the Event of the condition.
    let reported = Call { opens: Some(kind.gate.clone()), ..event("ActionSlow") };
    let body =
        json!({"status": {"conditions": [{"type": "Progressing", "status": "True", "reason": "Billing"}]}});
    let mut resumed = event("Billing");
    resumed.body["type"] = json!("Normal");
    let calls =
        vec![get(Some(&verifying)), written, reported, patch(STATUS, WRITER, body, &verifying), resumed];
    let outcome = reconciled_after(0, verifying, kind, calls).await;
    assert_eq!(outcome.seen, [None, Some("wait")]);
    assert_eq!(outcome.action.unwrap(), Action::requeue(Duration::from_secs(1)));
}

#[tokio::test]
async fn the_status_of_a_run_that_is_over_stays_when_an_action_fails() {
    let over = working(Phase::Succeeded);
    let script = vec![decide_on(&over, Next::Apply("refused"))];
    let outcome = reconciled_after(3, over.clone(), scripted(script), vec![get(Some(&over))]).await;
    assert!(outcome.action.is_err());
}

#[test]
fn only_what_the_api_server_refuses_is_a_refusal() {
    let answered = |code: u16| {
        let answer = kube::core::Status { code, message: "no".to_owned(), ..Default::default() };
        RunError::Kubernetes { operation: "x".to_owned(), source: kube::Error::Api(answer.boxed()) }
    };
    for (code, refusal) in
        [(400, true), (403, true), (422, true), (404, false), (409, false), (429, false), (500, false)]
    {
        assert_eq!(answered(code).is_refusal(), refusal, "{code}");
    }
    assert_eq!(answered(403).words(), "cannot x: no");
    assert!(!RunError::Incomplete("BillingRun", "uid").is_refusal());
}
