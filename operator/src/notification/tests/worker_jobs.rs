//! The worker Jobs. What is the same for every kind of run is tested with the billing run's Job.

use serde_json::{Value, json};

use super::*;
use crate::notification::build::{self, Task};

fn built(task: Task) -> Value {
    serde_json::to_value(build::build(&run(), &publishing(), task, &observed(None).settings)).unwrap()
}

fn container(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]["containers"][0]
}

#[test]
fn each_round_has_its_own_job_name() {
    let names = [1, 2, 10].map(|round| Task::Publish { round }.job_name(&run()));
    assert_eq!(names, ["october-publish-1", "october-publish-2", "october-publish-10"]);
    assert_eq!(Task::Rehearse.job_name(&run()), "october-rehearse");
    let mut long = run();
    long.metadata.name = Some("x".repeat(253));
    assert!(Task::Publish { round: 1000 }.job_name(&long).len() <= 58);
}

#[test]
fn the_publisher_gets_its_run_its_round_and_the_brokers() {
    let job = built(Task::Publish { round: 2 });
    assert_eq!(
        container(&job)["args"],
        json!([
            "publish",
            "--run=billing/october",
            format!("--run-uid={UID}"),
            "--round=2",
            "--brokers=kafka:9092",
            "--topic=monthend.notices",
            "--dlq-topic=monthend.notices.dlq",
            "--group=monthend-notify",
            "--partitions=12",
            "--replication=3",
            "--retention-hours=168",
        ])
    );
    let env: Vec<String> = container(&job)["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let value = entry["value"].as_str().map_or_else(|| entry["valueFrom"].to_string(), str::to_owned);
            format!("{}={value}", entry["name"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        env,
        [r#"DATABASE_URL={"secretKeyRef":{"key":"worker-url","name":"monthend-database"}}"#, "RUST_LOG=info",]
    );
    // The publisher reads no personal data.
    assert_eq!(job["spec"]["template"]["spec"]["volumes"], Value::Null);
}

#[test]
fn the_rehearsal_gets_the_keys_and_no_brokers() {
    let job = built(Task::Rehearse);
    assert_eq!(
        container(&job)["args"],
        json!([
            "rehearse",
            "--run=billing/october",
            format!("--run-uid={UID}"),
            "--from=Monthend <billing@example.com>",
        ])
    );
    let names: Vec<&str> = container(&job)["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["DATABASE_URL", "RUST_LOG", "MONTHEND_KEYS_DIR"]);
    assert_eq!(
        job["spec"]["template"]["spec"]["volumes"],
        json!([{"name": "keys", "secret": {"secretName": "monthend-encryption"}}])
    );
    assert_eq!(
        container(&job)["volumeMounts"],
        json!([{"name": "keys", "mountPath": "/etc/monthend/keys", "readOnly": true}])
    );
}

#[test]
fn the_job_has_one_worker_and_retries() {
    let spec = built(Task::Publish { round: 1 })["spec"].clone();
    assert_eq!((&spec["completions"], &spec["parallelism"]), (&json!(1), &json!(1)));
    assert_eq!(spec["completionMode"], Value::Null);
    assert_eq!(spec["backoffLimit"], 6);
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert!(spec["backoffLimitPerIndex"].is_null() && spec["maxFailedIndexes"].is_null());
    assert!(spec["ttlSecondsAfterFinished"].is_null() && spec["activeDeadlineSeconds"].is_null());
}

#[test]
fn the_job_belongs_to_its_run() {
    let job = built(Task::Publish { round: 1 });
    let owner = &job["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("NotificationRun"), &json!(UID)));
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["monthend.dev/run-uid"], UID);
    assert_eq!(labels["monthend.dev/month"], "2026-10");
    assert_eq!(labels["app.kubernetes.io/component"], "publish");
}
