//! The worker Job.

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::*;
use crate::billing::build;

fn built() -> Job {
    build::build(&run(), &draft(), &observed(None).job_settings)
}

fn value() -> Value {
    serde_json::to_value(built()).unwrap()
}

#[test]
fn job_names_are_short_and_distinct() {
    assert_eq!(build::name("october"), "october-bill");
    let long = "a".repeat(53);
    assert_eq!(build::name(&long), format!("{long}-bill"));
    let names: Vec<String> = [
        "a".repeat(54),
        "a".repeat(55),
        "billing.2026-10".to_owned(),
        "billing-2026-10".to_owned(),
        format!("{}.-x", "a".repeat(42)),
        "x".repeat(253),
    ]
    .iter()
    .map(|name| build::name(name))
    .collect();
    for name in &names {
        // With an index of three digits, a pod's host name still has at most 63 characters.
        assert!(name.len() + 4 <= 63 && !name.contains('.') && !name.contains("--"), "{name}");
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
    }
    assert_eq!(build::name(&"a".repeat(54)), build::name(&"a".repeat(54)));
}

#[test]
fn the_job_is_indexed_and_replaces_a_pod_only_after_its_end() {
    let spec = &value()["spec"];
    assert_eq!(spec["completionMode"], "Indexed");
    assert_eq!((&spec["completions"], &spec["parallelism"]), (&json!(4), &json!(2)));
    assert_eq!(spec["suspend"], false);
    assert_eq!(spec["backoffLimitPerIndex"], 6);
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never");
    assert_eq!(spec["template"]["spec"]["terminationGracePeriodSeconds"], 30);
    assert!(spec["ttlSecondsAfterFinished"].is_null() && spec["activeDeadlineSeconds"].is_null());
}

#[test]
fn exit_codes_decide_whether_a_failure_counts() {
    let rules = &value()["spec"]["podFailurePolicy"]["rules"];
    assert_eq!(
        *rules,
        json!([
            {"action": "FailJob", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [2, 4]}},
            {"action": "Ignore", "onExitCodes": {"containerName": "worker", "operator": "In", "values": [5, 75]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ])
    );
}

#[test]
fn the_worker_gets_its_revision_and_fencing_number() {
    let container = value()["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(container["command"], json!(["/usr/local/bin/monthend"]));
    assert_eq!(
        container["args"],
        json!([
            "bill",
            "--month=2026-10",
            "--revision=1",
            "--fence=7",
            "--run=billing/october",
            format!("--run-uid={UID}"),
        ])
    );
    let secret = &container["env"][0];
    assert_eq!(secret["name"], "DATABASE_URL");
    assert_eq!(
        secret["valueFrom"]["secretKeyRef"],
        json!({"name": "monthend-database", "key": "worker-url"})
    );
}

#[test]
fn pods_meet_the_restricted_profile_and_have_no_token() {
    let pod = value()["spec"]["template"]["spec"].clone();
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["serviceAccountName"], "monthend-worker");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
}

#[test]
fn the_job_belongs_to_its_run() {
    let metadata = value()["metadata"].clone();
    assert_eq!(metadata["namespace"], "billing");
    let owner = &metadata["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("BillingRun"), &json!(UID)));
    assert_eq!((&owner["controller"], &owner["blockOwnerDeletion"]), (&json!(true), &json!(true)));
    let labels = &value()["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["monthend.dev/run-uid"], UID);
    assert_eq!(labels["monthend.dev/month"], "2026-10");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "monthend-operator");
    assert_eq!(*labels, metadata["labels"]);
}

#[test]
fn the_image_that_was_wanted_is_known_when_a_policy_replaces_it() {
    let mut job = built();
    let worker = &mut job.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers[0];
    assert_eq!(worker.image.replace("mirror.example/monthend:1".to_owned()).unwrap(), "monthend:1");
    assert_eq!(JobState::from(&job).image, "monthend:1");
    // Without the annotation, the pods tell.
    job.metadata.annotations = None;
    assert_eq!(JobState::from(&job).image, "mirror.example/monthend:1");
}

#[test]
fn a_long_run_name_is_cut_to_a_valid_label() {
    let mut long = run();
    long.metadata.name = Some(format!("{}.{}", "a".repeat(62), "b".repeat(60)));
    let job = build::build(&long, &draft(), &observed(None).job_settings);
    let label = &job.metadata.labels.unwrap()["monthend.dev/run"];
    assert_eq!(*label, "a".repeat(62));
}
