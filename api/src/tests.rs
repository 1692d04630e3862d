//! Rules that hold for every definition.

use serde_json::{Value, json};

use super::*;

/// A definition's schema.
pub(crate) fn schema<K: kube::CustomResourceExt>() -> Value {
    schema_of(&K::crd())
}

fn schema_of(crd: &CustomResourceDefinition) -> Value {
    serde_json::to_value(crd).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Each definition's kind and schema.
fn schemas() -> Vec<(String, Value)> {
    crds().iter().map(|crd| (crd.spec.names.kind.clone(), schema_of(crd))).collect()
}

/// Calls `visit` with every schema node below `node` and its path.
fn walk(path: &str, node: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, node);
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), child, visit);
    }
    if node["items"].is_object() {
        walk(&format!("{path}[]"), &node["items"], visit);
    }
}

/// The messages of all rules.
pub(crate) fn messages(schema: &Value) -> Vec<String> {
    let mut messages = Vec::new();
    walk("", schema, &mut |_, node| {
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            messages.push(rule["message"].as_str().unwrap_or_default().to_owned());
        }
    });
    messages
}

#[test]
fn every_field_is_described() {
    let mut undescribed = Vec::new();
    for (kind, schema) in schemas() {
        for part in ["spec", "status"] {
            walk(&format!("{kind}.{part}"), &schema["properties"][part], &mut |path, node| {
                if node["description"].as_str().is_none_or(str::is_empty) && !path.ends_with("[]") {
                    undescribed.push(path.to_owned());
                }
            });
        }
    }
    assert_eq!(undescribed, Vec::<String>::new());
}

#[test]
fn every_rule_has_a_message_that_names_the_fix() {
    for (kind, schema) in schemas() {
        for message in messages(&schema) {
            assert!(
                ["must", "leave it out", "create another"].iter().any(|fix| message.contains(fix)),
                "{kind}: {message}"
            );
        }
    }
}

#[test]
fn texts_and_lists_of_the_spec_have_a_maximum_length() {
    // Without one, the API server estimates the cost of a rule by the worst case, and may reject the
    // whole definition.
    for (kind, schema) in schemas() {
        walk(&kind, &schema["properties"]["spec"], &mut |path, node| match node["type"].as_str() {
            Some("string") if node["enum"].is_null() => assert!(node["maxLength"].is_u64(), "{path} {node}"),
            Some("array") => assert!(node["maxItems"].is_u64(), "{path}"),
            _ => {}
        });
    }
}

#[test]
fn conditions_are_a_list_by_type() {
    for (kind, schema) in schemas() {
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{kind}");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]), "{kind}");
    }
}

#[test]
fn every_kind_has_a_status_subresource_and_the_category() {
    for crd in crds() {
        let version = &crd.spec.versions[0];
        assert!(
            version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()),
            "{:?}",
            crd.metadata.name
        );
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["monthend".to_owned()][..]));
    }
}

/// The columns of `kubectl get`.
pub(crate) fn columns<K: kube::CustomResourceExt>() -> Vec<String> {
    let crd = K::crd();
    crd.spec.versions[0]
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| column.name.clone())
        .collect()
}
