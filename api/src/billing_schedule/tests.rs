use std::collections::BTreeSet;

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::*;
use crate::tests::{columns, messages, schema};
use crate::{BillingRun, BillingRunSpec, NotificationRun, NotificationRunSpec};

fn spec() -> BillingScheduleSpec {
    serde_json::from_value(json!({"billing": {"priceBookRef": {"name": "pricebook-2026"}}})).unwrap()
}

fn properties(schema: &Value) -> BTreeSet<String> {
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

/// A run's schema as it should be in a template: a schedule can be changed at any time.
fn without_changes(node: &Value) -> Value {
    match node {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !["description", "x-kubernetes-validations"].contains(&name.as_str()))
            .map(|(name, child)| (name.clone(), without_changes(child)))
            .collect(),
        other => other.clone(),
    }
}

#[test]
fn names_and_columns_are_as_documented() {
    let crd = BillingSchedule::crd();
    assert_eq!(crd.metadata.name.as_deref(), Some("billingschedules.monthend.dev"));
    assert_eq!(crd.spec.names.short_names.as_deref(), Some(&["bsched".to_owned()][..]));
    assert_eq!(columns::<BillingSchedule>(), ["Schedule", "Last month", "Next", "Suspend", "Age"]);
}

#[test]
fn the_defaults_are_as_documented() {
    let found = spec();
    assert_eq!(
        (found.schedule.as_str(), found.catch_up_months, found.suspend, found.history_limits),
        ("0 2 1 * *", 1, false, HistoryLimits { succeeded: 12, failed: 12 })
    );
    assert_eq!(found.notification, None);
    let spec = &schema::<BillingSchedule>()["properties"]["spec"];
    assert_eq!(spec["required"], json!(["billing"]));
    for (field, default) in [
        ("schedule", json!("0 2 1 * *")),
        ("catchUpMonths", json!(1)),
        ("suspend", json!(false)),
        ("historyLimits", json!({"succeeded": 12, "failed": 12})),
    ] {
        assert_eq!(spec["properties"][field]["default"], default, "{field}");
    }
}

#[test]
fn a_template_has_every_field_of_a_run_but_those_of_the_schedule() {
    let schedule = schema::<BillingSchedule>();
    let spec = &schedule["properties"]["spec"]["properties"];
    for (template, run, left_out) in [
        (&spec["billing"], schema::<BillingRun>(), &["month", "rebill", "rollback", "scope", "approval"][..]),
        (&spec["notification"], schema::<NotificationRun>(), &["month", "select"]),
    ] {
        let run = &run["properties"]["spec"];
        let mut expected = properties(run);
        for field in left_out {
            assert!(expected.remove(*field), "a run has no field {field}");
        }
        assert_eq!(properties(template), expected);
        for field in expected {
            let (found, wanted) = (&template["properties"][&field], &run["properties"][&field]);
            assert_eq!(without_changes(found), without_changes(wanted), "{field}");
        }
    }
}

#[test]
fn a_template_becomes_the_spec_of_a_months_run() {
    let full = json!({
        "priceBookRef": {"name": "book", "key": "b.yaml"}, "approvalPolicy": "Manual",
        "limits": {"maxQuarantined": "0.1%"}, "dataCutoff": 7, "requireSources": ["cdr"], "shards": 4,
        "parallelism": 3, "chunkSize": 500, "suspend": true, "ttlSecondsAfterFinished": 60,
    });
    let billing: BillingTemplate = serde_json::from_value(full.clone()).unwrap();
    let written = serde_json::to_value(&billing).unwrap();
    assert_eq!(written, full);
    assert_eq!(serde_json::from_value::<BillingTemplate>(written).unwrap(), billing);
    let mut expected = full;
    expected["month"] = json!("2026-10");
    let expected: BillingRunSpec = serde_json::from_value(expected).unwrap();
    assert_eq!(billing.of_month("2026-10".to_owned()), expected);

    let full = json!({
        "scope": {"memberIds": [1, 2]}, "templateRef": {"name": "texts"}, "rehearsal": true, "skipZero": true,
        "maxPerSecond": 5, "suspend": false, "ttlSecondsAfterFinished": 60,
    });
    let notification: NotificationTemplate = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(serde_json::to_value(&notification).unwrap(), full);
    let mut expected = full;
    expected["month"] = json!("2026-10");
    let expected: NotificationRunSpec = serde_json::from_value(expected).unwrap();
    assert_eq!(notification.of_month("2026-10".to_owned()), expected);
}

#[test]
fn a_field_of_the_schedule_has_no_effect_in_a_template() {
    let billing: BillingTemplate = serde_json::from_value(json!({
        "month": "2020-01", "priceBookRef": {"name": "book"}, "rebill": {"ofRevision": 1, "reason": "r"},
    }))
    .unwrap();
    let spec = billing.of_month("2026-10".to_owned());
    assert_eq!((spec.month.as_str(), spec.rebill), ("2026-10", None));
}

#[test]
fn every_rule_is_present_and_none_forbids_a_change() {
    let schema = schema::<BillingSchedule>();
    let text = schema.to_string();
    assert!(
        !text.contains("oldSelf") && !text.contains("Immutable") && !text.contains("Required, except"),
        "{text}"
    );
    let found = messages(&schema);
    for message in [
        "metadata.name must have at most 52 characters, as the runs are named NAME-YYYY-MM",
        "schedule must name a day that exists: no month that it names has this day",
        "billing.priceBookRef must name the ConfigMap with the price book",
        "catchUpMonths must be 0 to 24; 1 is a good value for most schedules",
        "shards must be 1 to 1000; 16 is a good value for most months",
        "scope must have either memberRange or memberIds; leave it out for all members",
    ] {
        assert!(found.iter().any(|found| found == message), "{message} is not in {found:#?}");
    }
}

#[test]
fn the_table_of_wrong_uses_has_the_messages_of_the_schema() {
    let table = include_str!("../../../docs/wrong-uses.md");
    let found = messages(&schema::<BillingSchedule>());
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_suffix(" | the API server |")).collect();
    assert!(rows.len() >= 5, "{rows:#?}");
    for row in rows {
        let says = row.rsplit(" | ").next().unwrap_or_default().trim_matches('`');
        assert!(found.iter().any(|found| found == says), "{says} is not in {found:#?}");
    }
}
