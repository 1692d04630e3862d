use kube::CustomResourceExt as _;
use serde_json::json;

use super::*;
use crate::run::RunPhase as _;
use crate::tests::{columns, messages, schema};

#[test]
fn every_rule_is_present() {
    assert_eq!(messages(&schema::<BillingRun>()).len(), 24, "a rule was added or removed: change the number");
}

#[test]
fn the_defaults_are_as_documented() {
    let spec: BillingRunSpec = serde_json::from_value(json!({
        "month": "2026-10", "priceBookRef": {"name": "pricebook-2026-07"}
    }))
    .unwrap();
    assert_eq!(spec.price_book_ref.key, "pricebook.yaml");
    assert_eq!((spec.shards, spec.parallelism, spec.chunk_size), (16, 2, 1000));
    assert_eq!(spec.approval_policy, ApprovalPolicy::Automatic);
    assert!(!spec.suspend && spec.data_cutoff.is_none() && spec.ttl_seconds_after_finished.is_none());

    let spec = &schema::<BillingRun>()["properties"]["spec"];
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
