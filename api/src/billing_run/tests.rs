use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::*;
use crate::run::RunPhase as _;

fn schema() -> Value {
    let crd = serde_json::to_value(BillingRun::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `look` with every schema node below `node` and its path.
fn walk(path: &str, node: &Value, look: &mut dyn FnMut(&str, &Value)) {
    look(path, node);
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), child, look);
    }
    if node["items"].is_object() {
        walk(&format!("{path}[]"), &node["items"], look);
    }
}

#[test]
fn every_field_is_described() {
    let mut nameless = Vec::new();
    walk("", &schema()["properties"]["spec"], &mut |path, node| {
        if node["description"].as_str().is_none_or(str::is_empty) && !path.ends_with("[]") {
            nameless.push(format!("spec{path}"));
        }
    });
    walk("", &schema()["properties"]["status"], &mut |path, node| {
        if node["description"].as_str().is_none_or(str::is_empty) && !path.ends_with("[]") {
            nameless.push(format!("status{path}"));
        }
    });
    assert_eq!(nameless, Vec::<String>::new());
}

#[test]
fn every_rule_has_a_sentence_that_names_the_fix() {
    let mut rules = 0;
    walk("", &schema(), &mut |path, node| {
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(
                message.contains("must")
                    || message.contains("leave it out")
                    || message.contains("create another"),
                "{path}: {rule}"
            );
        }
    });
    assert_eq!(rules, 24, "a rule was added or lost: adapt the number");
}

#[test]
fn texts_and_lists_of_the_spec_have_a_longest_length() {
    // Without one, the API server takes the worst case for the cost of a rule and may refuse the whole definition.
    walk("", &schema()["properties"]["spec"], &mut |path, node| match node["type"].as_str() {
        Some("string") if node["enum"].is_null() => assert!(node["maxLength"].is_u64(), "spec{path} {node}"),
        Some("array") => assert!(node["maxItems"].is_u64(), "spec{path}"),
        _ => {}
    });
}

#[test]
fn the_defaults_are_those_of_the_page() {
    let spec: BillingRunSpec = serde_json::from_value(json!({
        "month": "2026-10", "priceBookRef": {"name": "pricebook-2026-07"}
    }))
    .unwrap();
    assert_eq!(spec.price_book_ref.key, "pricebook.yaml");
    assert_eq!((spec.shards, spec.parallelism, spec.chunk_size), (16, 2, 1000));
    assert_eq!(spec.approval_policy, ApprovalPolicy::Automatic);
    assert!(!spec.suspend && spec.data_cutoff.is_none() && spec.ttl_seconds_after_finished.is_none());

    let spec = &schema()["properties"]["spec"];
    assert_eq!(spec["required"], json!(["month", "priceBookRef"]));
    for (field, default) in [
        ("shards", json!(16)),
        ("parallelism", json!(2)),
        ("chunkSize", json!(1000)),
        ("approvalPolicy", json!("Automatic")),
        ("suspend", json!(false)),
    ] {
        assert_eq!(spec["properties"][field]["default"], default, "{field}");
    }
    assert_eq!(spec["properties"]["priceBookRef"]["properties"]["key"]["default"], "pricebook.yaml");
}

#[test]
fn names_and_columns_are_those_of_the_page() {
    let crd = BillingRun::crd();
    assert_eq!(crd.metadata.name.as_deref(), Some("billingruns.monthend.dev"));
    assert_eq!(crd.spec.names.short_names.as_deref(), Some(&["brun".to_owned()][..]));
    assert_eq!(crd.spec.names.categories.as_deref(), Some(&["monthend".to_owned()][..]));
    let columns: Vec<_> = crd.spec.versions[0]
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(
        columns,
        ["Month", "Rev", "Phase", "Progress", "Billed", "Quarantined", "Total", "ETA", "Age"]
    );
    assert!(crd.spec.versions[0].subresources.as_ref().is_some_and(|sub| sub.status.is_some()));
}

#[test]
fn conditions_are_a_list_by_type() {
    let conditions = &schema()["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
}

#[test]
fn phases_are_written_as_they_are_named() {
    for phase in Phase::ALL.iter().copied() {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
    }
}
