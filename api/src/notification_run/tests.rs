use kube::CustomResourceExt as _;
use serde_json::json;

use super::*;
use crate::run::RunPhase as _;
use crate::tests::{columns, messages, schema};

#[test]
fn every_rule_is_present() {
    let schema = schema::<NotificationRun>();
    assert_eq!(messages(&schema).len(), 13, "a rule was added or removed: change the number");
    let rules = serde_json::to_string(&schema).unwrap();
    for immutable in ["month", "select", "rehearsal", "skipZero"] {
        let field = &schema["properties"]["spec"]["properties"][immutable]["x-kubernetes-validations"];
        assert!(
            field.as_array().unwrap().iter().any(|rule| rule["rule"] == "self == oldSelf"),
            "{immutable}: {field}"
        );
    }
    for immutable in ["scope", "templateRef"] {
        assert!(rules.contains(&format!("has(self.{immutable}) == has(oldSelf.{immutable})")), "{immutable}");
    }
    for mutable in ["maxPerSecond", "suspend", "ttlSecondsAfterFinished"] {
        assert!(
            !schema["properties"]["spec"]["properties"][mutable].to_string().contains("oldSelf"),
            "{mutable}"
        );
    }
}

#[test]
fn the_defaults_are_as_documented() {
    let spec: NotificationRunSpec = serde_json::from_value(json!({ "month": "2026-10" })).unwrap();
    assert_eq!(spec.select, Select::Ready);
    assert!(!spec.rehearsal && !spec.skip_zero && !spec.suspend);
    assert_eq!((spec.scope, spec.template_ref), (None, None));
    assert_eq!((spec.max_per_second, spec.ttl_seconds_after_finished), (None, None));

    let spec = &schema::<NotificationRun>()["properties"]["spec"];
    assert_eq!(spec["required"], json!(["month"]));
    assert_eq!(spec["properties"]["select"]["default"], "Ready");
    assert_eq!(
        spec["properties"]["select"]["enum"],
        json!(["Ready", "Failed", "Unknown", "Corrected", "Skipped"])
    );
    assert_eq!(spec["properties"]["rehearsal"]["default"], false);
    assert_eq!(spec["properties"]["skipZero"]["default"], false);
    assert_eq!(spec["properties"]["suspend"]["default"], false);
}

#[test]
fn names_and_columns_are_as_documented() {
    let crd = NotificationRun::crd();
    assert_eq!(crd.metadata.name.as_deref(), Some("notificationruns.monthend.dev"));
    assert_eq!(crd.spec.names.short_names.as_deref(), Some(&["nrun".to_owned()][..]));
    assert_eq!(
        columns::<NotificationRun>(),
        ["Month", "Select", "Phase", "Targets", "Sent", "Failed", "Lag", "Consumers", "Age"]
    );
}

#[test]
fn phases_are_written_by_their_names() {
    for phase in Phase::ALL {
        assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
    }
}

#[test]
fn a_scope_is_read_as_a_range_or_a_list() {
    let range: NotificationScope =
        serde_json::from_value(json!({"memberRange": {"from": 1, "to": 1000}})).unwrap();
    assert_eq!(range.member_range, Some(MemberRange { from: 1, to: 1000 }));
    let ids: NotificationScope =
        serde_json::from_value(json!({"memberIds": [7, 9_007_199_254_740_993_i64]})).unwrap();
    assert_eq!(ids.member_ids.as_deref(), Some(&[7, 9_007_199_254_740_993][..]));
}
