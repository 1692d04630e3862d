//! Runs a command in a pod that reads nothing, and passes on what it prints.

use std::time::Duration;

use futures::{AsyncBufReadExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use super::build::{CONTAINER, Task};
use super::log_lines::{Line, line};
use super::state::{End, State, state};
use super::{LONGEST, deleted, name};
use crate::cluster::Cluster;
use crate::exit::{Exit, Problem, Result};
use crate::output;

/// How often the log is asked for again after its connection broke, and how soon.
const CONNECTIONS: u32 = 20;
const RETRY: Duration = Duration::from_millis(500);

/// Where the lines go.
#[derive(Debug)]
pub(crate) enum Printed<'a> {
    /// To the person: output and log.
    Shown,
    /// Into a text; the log to the person.
    Kept(&'a mut String),
}

/// Runs `monthend ARGS` in a pod. Its exit status is the command's.
pub(crate) async fn run(
    cluster: &Cluster,
    release: Option<&str>,
    args: &[String],
    timeout: Option<Duration>,
    printed: Printed<'_>,
) -> Result {
    let task = Task { args, stdin: false, time_limit: timeout.unwrap_or(LONGEST) };
    let pod = cluster.create_pod(release, &task).await?;
    let pod = name(&pod);
    let done = tokio::select! {
        done = follow(cluster, &pod, printed) => done,
        _ = tokio::signal::ctrl_c() => {
            Err(Problem { exit: Exit::Interrupted, text: "interrupted: the pod is deleted".to_owned() })
        }
    };
    cluster.delete_pod(&pod).await;
    done
}

async fn follow(cluster: &Cluster, pod: &str, mut printed: Printed<'_>) -> Result {
    started(cluster, pod).await?;
    let mut shown = 0;
    for _ in 0..CONNECTIONS {
        shown = pass_on(cluster, pod, shown, &mut printed).await?;
        match state(&cluster.pod(pod).await?) {
            State::Ended(_) => break,
            // The log's connection ended before the pod did.
            State::Running | State::Waiting(_) => tokio::time::sleep(RETRY).await,
        }
    }
    let end = ended(cluster, pod).await?;
    // What was written between the last line and the end.
    pass_on(cluster, pod, shown, &mut printed).await?;
    match end.problem {
        Some(text) => Err(Problem { exit: end.exit, text }),
        None => Ok(end.exit),
    }
}

/// Passes on the lines of the log from this number on. Returns the number of the next one.
async fn pass_on(cluster: &Cluster, pod: &str, from: u64, printed: &mut Printed<'_>) -> Result<u64> {
    let parameters =
        LogParams { container: Some(CONTAINER.to_owned()), follow: true, ..LogParams::default() };
    let stream = cluster.pods().log_stream(pod, &parameters).await;
    let mut lines = cluster.check("read the log of the pod", stream)?.lines();
    let mut number = 0;
    // A connection that breaks is made again by the caller.
    while let Some(Ok(text)) = lines.next().await {
        number += 1;
        if number <= from {
            continue;
        }
        match (line(&text), &mut *printed) {
            (Line::Log(words), _) => output::note(&words),
            (Line::Output(text), Printed::Shown) => output::print(&format!("{text}\n")),
            (Line::Output(text), Printed::Kept(kept)) => {
                kept.push_str(&text);
                kept.push('\n');
            }
        }
    }
    Ok(number.max(from))
}

/// Waits until the program runs, or has ended. Says once why it does not start, for each reason.
pub(super) async fn started(cluster: &Cluster, pod: &str) -> Result<Pod> {
    let mut said = String::new();
    let mut watched = cluster.watch_pod(pod);
    loop {
        let seen = watched.next().await?.ok_or_else(|| deleted(pod))?;
        match state(&seen) {
            State::Running | State::Ended(_) => return Ok(seen),
            State::Waiting(Some(cause)) if cause.hopeless => {
                return Err(Problem::failed(format!("the pod {pod} cannot start: {}", cause.text)));
            }
            State::Waiting(Some(cause)) if cause.text != said => {
                output::note(&format!("the pod {pod} does not start yet: {}", cause.text));
                said = cause.text;
            }
            State::Waiting(_) => {}
        }
    }
}

/// Waits until the program has ended.
pub(super) async fn ended(cluster: &Cluster, pod: &str) -> Result<End> {
    let mut watched = cluster.watch_pod(pod);
    loop {
        let seen = watched.next().await?.ok_or_else(|| deleted(pod))?;
        if let State::Ended(end) = state(&seen) {
            return Ok(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::*;
    use crate::mock_server::{Call, failure, serve};
    use crate::pod::build::tests::template;

    const TEMPLATES: &str = "/api/v1/namespaces/billing/podtemplates";
    const PODS: &str = "/api/v1/namespaces/billing/pods";
    const POD: &str = "/api/v1/namespaces/billing/pods/explain-1";
    const LOG: &str = "/api/v1/namespaces/billing/pods/explain-1/log";

    fn pod(state: &Value) -> Value {
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "explain-1"}, "status": {
            "phase": "Running", "containerStatuses": [{"name": "toolbox", "image": "i", "imageID": "",
                "ready": false, "restartCount": 0, "state": state}]}})
    }

    /// The pod as it is, which every watch begins with.
    fn listed(state: &Value) -> Call {
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                          "items": [pod(state)]});
        Call::get(PODS, &list)
    }

    /// The pod after each change, until the connection ends.
    fn changes(states: &[&Value]) -> Call {
        let event = |state: &&Value| {
            let mut pod = pod(state);
            pod["metadata"]["resourceVersion"] = json!("2");
            json!({"type": "MODIFIED", "object": pod}).to_string()
        };
        Call::text(PODS, &states.iter().map(event).collect::<Vec<_>>().join("\n"))
    }

    fn created() -> Vec<Call> {
        let templates = json!({"kind": "PodTemplateList", "apiVersion": "v1", "metadata": {},
                               "items": [template("monthend")]});
        let body = json!({"metadata": {"generateName": "monthend-toolbox-explain-"}});
        vec![Call::get(TEMPLATES, &templates), Call::new(Method::POST, PODS, body, 201, &pod(&json!({})))]
    }

    fn removed() -> Call {
        let removed = json!({"kind": "Status", "status": "Success"});
        Call::new(Method::DELETE, POD, json!({"gracePeriodSeconds": 2}), 200, &removed)
    }

    async fn explained(calls: Vec<Call>) -> (Result, String) {
        let (cluster, server) = serve(calls);
        let mut kept = String::new();
        let args = ["explain".to_owned(), "1042".to_owned(), "2026-10".to_owned()];
        let result = run(&cluster, None, &args, None, Printed::Kept(&mut kept)).await;
        drop(cluster);
        server.await.unwrap();
        (result, kept)
    }

    #[tokio::test]
    async fn a_pod_is_created_read_and_deleted_and_its_exit_status_is_the_commands() {
        let starting = json!({"waiting": {"reason": "ContainerCreating"}});
        let running = json!({"running": {}});
        let ended = json!({"terminated": {"exitCode": 4, "reason": "Error"}});
        let mut calls = created();
        calls.extend([
            listed(&starting),
            changes(&[&starting, &running]),
            Call::text(LOG, "one\n"),
            // The connection broke: the pod still runs, and its log is read again from where it was.
            Call::get(POD, &pod(&running)),
            Call::text(LOG, "one\ntwo\n"),
            Call::get(POD, &pod(&ended)),
            listed(&running),
            changes(&[&ended]),
            Call::text(LOG, "one\ntwo\nthree\n"),
            removed(),
        ]);
        let (result, kept) = explained(calls).await;
        assert_eq!(result, Ok(Exit::Pod(4)));
        assert_eq!(kept, "one\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn a_pod_that_cannot_start_is_deleted_and_says_why() {
        let message = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
        let mut calls = created();
        calls.extend([listed(&message), removed()]);
        let (result, _) = explained(calls).await;
        assert_eq!(
            result,
            Err(Problem::failed("the pod explain-1 cannot start: ImagePullBackOff: no such image"))
        );
    }

    #[tokio::test]
    async fn a_pod_that_somebody_deletes_is_tried_again() {
        let gone =
            json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
        let mut calls = created();
        calls.extend([Call::get(PODS, &gone), removed()]);
        let (result, _) = explained(calls).await;
        assert_eq!(result, Err(Problem::try_again("the pod explain-1 was deleted meanwhile: try again")));
    }

    #[tokio::test]
    async fn a_full_quota_is_said_and_nothing_is_left() {
        let mut calls = created();
        let full = failure(403, "Forbidden", "pods is forbidden: exceeded quota: pods, used: 10");
        calls[1].code = 403;
        calls[1].answer = full.to_string();
        let (result, _) = explained(calls).await;
        assert_eq!(
            result.unwrap_err().text,
            "cannot create a pod for this command: the quota of namespace billing is used up: pods is \
             forbidden: exceeded quota: pods, used: 10"
        );
    }
}
