//! Runs for tests.

use api::billing_run::{BillingRunStatus, Phase};
use api::conditions::{self, ConditionUpdate};
use api::notification_run::{self, NotificationRunStatus};
use api::{BillingRun, NotificationRun};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

pub(crate) const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

pub(crate) fn billing_run(name: &str, month: &str, phase: Phase, revision: Option<i32>) -> BillingRun {
    let spec = json!({"month": month, "priceBookRef": {"name": "pricebook"}});
    let mut run = BillingRun::new(name, serde_json::from_value(spec).unwrap());
    run.metadata.namespace = Some("billing".to_owned());
    run.metadata.uid = Some(format!("uid-of-{name}"));
    run.metadata.resource_version = Some("7".to_owned());
    run.metadata.creation_timestamp = Some(time("2026-11-02T00:00:00Z"));
    let digest = (phase == Phase::AwaitingApproval).then(|| DIGEST.to_owned());
    run.status =
        Some(BillingRunStatus { phase: Some(phase), revision, digest, ..BillingRunStatus::default() });
    run
}

pub(crate) fn rollback_run(name: &str, month: &str, phase: Phase, of_revision: i32) -> BillingRun {
    let mut run = billing_run(name, month, phase, Some(of_revision));
    run.spec.price_book_ref = None;
    let rollback = json!({"ofRevision": of_revision, "reason": "wrong price book"});
    run.spec.rollback = Some(serde_json::from_value(rollback).unwrap());
    run
}

pub(crate) fn notification_run(name: &str, month: &str, phase: notification_run::Phase) -> NotificationRun {
    let mut run = NotificationRun::new(name, serde_json::from_value(json!({"month": month})).unwrap());
    run.metadata.namespace = Some("billing".to_owned());
    run.metadata.uid = Some(format!("uid-of-{name}"));
    run.metadata.creation_timestamp = Some(time("2026-11-03T00:00:00Z"));
    run.status = Some(NotificationRunStatus { phase: Some(phase), ..NotificationRunStatus::default() });
    run
}

/// Gives a billing run a condition.
pub(crate) fn with_condition(
    mut run: BillingRun,
    type_: &'static str,
    status: bool,
    reason: &str,
    message: &str,
) -> BillingRun {
    let update = ConditionUpdate::new(type_, status, reason, message);
    let status = run.status.get_or_insert_default();
    status.conditions.extend(conditions::replace(&[], &[update], None, &time("2026-11-02T00:00:00Z")));
    run
}
