//! Approving and rejecting, against an API server that expects exact calls.

use api::billing_run::Phase;
use http::Method;

use super::*;
use crate::exit::Exit;
use crate::mock_server::{Call, failure, serve};
use crate::plan::testing::{DIGEST, billing_run};

const RUN: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns/october";
const OTHER: &str = "ffff456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn draft() -> BillingRun {
    billing_run("october", "2026-10", Phase::AwaitingApproval, Some(1))
}

fn as_json(run: &BillingRun) -> Value {
    serde_json::to_value(run).unwrap()
}

fn patch(code: u16, answer: &Value) -> Call {
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": "uid-of-october"},
        {"op": "test", "path": "/status/digest", "value": DIGEST},
        {"op": "add", "path": "/spec/approval", "value": {"digest": DIGEST, "by": "kim"}},
    ]);
    Call::new(Method::PATCH, RUN, operations, code, answer)
}

async fn approved(calls: Vec<Call>) -> Result<BillingRun> {
    let (cluster, server) = serve(calls);
    let result = cluster.approve(&draft(), DIGEST, "kim").await;
    drop(cluster);
    server.await.unwrap();
    result
}

#[tokio::test]
async fn an_approval_is_for_this_run_while_it_has_this_digest() {
    assert!(approved(vec![patch(200, &as_json(&draft()))]).await.is_ok());
}

#[tokio::test]
async fn a_draft_that_changed_between_the_look_and_the_approval_is_not_approved() {
    let mut changed = draft();
    changed.status.as_mut().unwrap().digest = Some(OTHER.to_owned());
    let refused = failure(422, "Invalid", "testing path /status/digest value failed");
    let problem = approved(vec![patch(422, &refused), Call::get(RUN, &as_json(&changed))]).await.unwrap_err();
    assert_eq!(problem.exit, Exit::Failed);
    assert_eq!(
        problem.text,
        format!(
            "the draft of october is another one than you looked at: its digest is {OTHER}. Look at it with \
             `kubectl monthend diff october`"
        )
    );
}

#[tokio::test]
async fn a_run_that_was_decided_meanwhile_says_so() {
    let issued = billing_run("october", "2026-10", Phase::Succeeded, Some(1));
    let refused = failure(422, "Invalid", "testing path /status/digest value failed");
    let problem = approved(vec![patch(422, &refused), Call::get(RUN, &as_json(&issued))]).await.unwrap_err();
    assert_eq!(problem.text, "october is finished (Succeeded): there is no draft to approve or reject");
    let gone = failure(404, "NotFound", "billingruns \"october\" not found");
    let lost = Call::new(Method::GET, RUN, Value::Null, 404, &gone);
    let problem = approved(vec![patch(404, &gone), lost]).await.unwrap_err();
    assert_eq!(problem.text, "BillingRun october was deleted meanwhile");
}

#[tokio::test]
async fn the_words_of_the_policy_are_shown() {
    let words =
        "kim may not approve BillingRun october: it needs the verb approve on billingruns.monthend.dev";
    let refused = failure(403, "Forbidden", words);
    let problem = approved(vec![patch(403, &refused), Call::get(RUN, &as_json(&draft()))]).await.unwrap_err();
    assert_eq!(
        problem.text,
        format!(
            "you may not approve BillingRun october in namespace billing: {words}. docs/kubectl-plugin.md lists \
             the rights that each command needs"
        )
    );
}

fn delete(version: &str, code: u16) -> Call {
    let body = json!({"preconditions": {"uid": "uid-of-october", "resourceVersion": version}});
    let answer = match code {
        200 => json!({"kind": "Status", "status": "Success"}),
        _ => failure(code, "Conflict", "the object has been modified"),
    };
    Call::new(Method::DELETE, RUN, body, code, &answer)
}

#[tokio::test]
async fn a_rejection_is_for_the_draft_that_was_looked_at() {
    let mut later = draft();
    later.metadata.resource_version = Some("8".to_owned());
    let calls = vec![delete("7", 409), Call::get(RUN, &as_json(&later)), delete("8", 200)];
    let (cluster, server) = serve(calls);
    assert_eq!(cluster.reject(&draft()).await, Ok(()));
    drop(cluster);
    server.await.unwrap();

    later.status.as_mut().unwrap().digest = Some(OTHER.to_owned());
    let (cluster, server) = serve(vec![delete("7", 409), Call::get(RUN, &as_json(&later))]);
    let problem = cluster.reject(&draft()).await.unwrap_err();
    assert!(problem.text.starts_with("the draft of october is another one than you looked at"), "{problem}");
    drop(cluster);
    server.await.unwrap();
}

#[tokio::test]
async fn a_run_that_exists_is_left_alone() {
    const RUNS: &str = "/apis/monthend.dev/v1alpha1/namespaces/billing/billingruns";
    let exists = failure(409, "AlreadyExists", "billingruns \"october\" already exists");
    let (cluster, server) = serve(vec![Call::new(Method::POST, RUNS, Value::Null, 409, &exists)]);
    let problem = cluster.create(&draft()).await.unwrap_err();
    assert_eq!(
        problem,
        Problem::usage(
            "BillingRun october exists already: look at it with `kubectl monthend status`, or give another --name"
        )
    );
    drop(cluster);
    server.await.unwrap();
}
