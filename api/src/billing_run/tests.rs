use kube::CustomResourceExt as _;
use serde_json::json;

use super::*;
use crate::run::RunPhase as _;
use crate::tests::{columns, messages, schema};

#[test]
fn every_rule_is_present() {
    assert_eq!(messages(&schema::<BillingRun>()).len(), 37, "a rule was added or removed: change the number");
}

#[test]
fn the_defaults_are_as_documented() {
    let spec: BillingRunSpec = serde_json::from_value(json!({
        "month": "2026-10", "priceBookRef": {"name": "pricebook-2026-07"}
    }))
    .unwrap();
    assert_eq!(spec.price_book_ref.unwrap().key, "pricebook.yaml");
    assert_eq!((spec.shards, spec.parallelism, spec.chunk_size), (16, 2, 1000));
    assert_eq!(spec.approval_policy, ApprovalPolicy::Automatic);
    assert!(!spec.suspend && spec.data_cutoff.is_none() && spec.ttl_seconds_after_finished.is_none());

    let spec = &schema::<BillingRun>()["properties"]["spec"];
    assert_eq!(spec["required"], json!(["month"]));
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
fn a_rollback_needs_no_price_book() {
    let spec: BillingRunSpec = serde_json::from_value(json!({
        "month": "2026-10", "rollback": {"ofRevision": 1, "reason": "wrong price book"}
    }))
    .unwrap();
    let rollback = spec.rollback.unwrap();
    assert_eq!((rollback.of_revision, rollback.reason.as_str()), (1, "wrong price book"));
    assert_eq!(spec.price_book_ref, None);

    let schema = schema::<BillingRun>();
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["properties"]["rollback"]["required"], json!(["ofRevision", "reason"]));
    let refused: Vec<String> =
        messages(&schema).into_iter().filter(|message| message.contains("not available")).collect();
    assert!(refused.iter().all(|message| !message.starts_with("rollback")), "{refused:?}");
    let rules = spec["x-kubernetes-validations"].as_array().unwrap();
    let rule = |path: &str| -> Vec<&str> {
        let at = rules.iter().filter(|rule| rule["fieldPath"] == path);
        at.map(|rule| rule["rule"].as_str().unwrap()).collect()
    };
    assert_eq!(rule(".priceBookRef"), ["has(self.priceBookRef) || has(self.rollback)"]);
    // What a run bills, and how it is approved, has no meaning for a rollback.
    let [exclusion, immutable] = rule(".rollback")[..] else { panic!("{rules:?}") };
    for field in ["priceBookRef", "rebill", "scope", "approval", "limits", "dataCutoff", "requireSources"] {
        assert!(exclusion.contains(&format!("has(self.{field})")), "{field}: {exclusion}");
    }
    assert!(exclusion.contains("self.approvalPolicy != 'Automatic'"), "{exclusion}");
    assert!(immutable.contains("oldSelf.rollback"), "{immutable}");
}

#[test]
fn names_and_columns_are_as_documented() {
    let crd = BillingRun::crd();
    assert_eq!(crd.metadata.name.as_deref(), Some("billingruns.monthend.dev"));
    assert_eq!(crd.spec.names.short_names.as_deref(), Some(&["brun".to_owned()][..]));
    assert_eq!(
        columns::<BillingRun>(),
        ["Month", "Rev", "Phase", "Progress", "Billed", "Quarantined", "Total", "ETA", "Age"]
    );
}

#[test]
fn phases_are_written_by_their_names() {
    for phase in Phase::ALL {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
    }
}

#[test]
fn a_scope_is_read_as_a_range_a_list_or_a_selection() {
    let scope = |scope: serde_json::Value| serde_json::from_value::<Scope>(scope).unwrap();
    let range = scope(json!({"memberRange": {"from": 1, "to": i64::MAX}}));
    assert_eq!(range.member_range, Some(MemberRange { from: 1, to: i64::MAX }));
    let ids = scope(json!({"memberIds": [7, 9_007_199_254_740_993_i64]}));
    assert_eq!(ids.member_ids.as_deref(), Some(&[7, 9_007_199_254_740_993][..]));
    assert_eq!(scope(json!({"select": "Late"})).select, Some(ScopeSelect::Late));
    assert_eq!(scope(json!({"select": "Quarantined"})).select, Some(ScopeSelect::Quarantined));

    let schema = schema::<BillingRun>();
    let spec = &schema["properties"]["spec"];
    let rules = spec["x-kubernetes-validations"].as_array().unwrap();
    let at_scope: Vec<&str> = rules
        .iter()
        .filter(|rule| rule["fieldPath"] == ".scope")
        .map(|rule| rule["rule"].as_str().unwrap())
        .collect();
    let [only_with_rebill, immutable] = at_scope[..] else { panic!("{rules:?}") };
    assert_eq!(only_with_rebill, "!has(self.scope) || has(self.rebill)");
    assert!(immutable.contains("oldSelf.scope"), "{immutable}");
    let scope = &spec["properties"]["scope"];
    assert_eq!(scope["properties"]["memberIds"]["maxItems"], 1000);
    let one_of = scope["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
    for field in ["memberRange", "memberIds", "select"] {
        assert!(one_of.contains(&format!("has(self.{field})")), "{field}: {one_of}");
    }
}
