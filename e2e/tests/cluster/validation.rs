//! The API server rejects invalid runs and forbidden changes, with a message that names the fix.

use anyhow::{Context as _, Result, ensure};
use e2e::cluster;
use e2e::data::{self, Cohort};
use e2e::installation::Installation;
use e2e::runs::Runs;
use e2e::suite::Suite;
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("the_api_server_rejects_invalid_billing_runs", invalid_billing_runs);
    suite.scenario("the_api_server_rejects_changes_of_immutable_fields", immutable_fields);
    suite.scenario("the_api_server_rejects_invalid_notification_runs", invalid_notification_runs);
    suite.scenario("the_api_server_rejects_invalid_billing_schedules", invalid_billing_schedules);
}

async fn invalid_billing_runs(installation: &Installation) -> Result<()> {
    let month_format = "spec.month: Invalid value: \"string\": month must be YYYY-MM from 2000-01 to 2099-12, such as 2026-10";
    let max_quarantined =
        "limits.maxQuarantined must be a count such as 100 or a percentage from 0% to 100% such as \"0.1%\"";
    let alone = "a run with rollback bills nothing: it must be without priceBookRef, rebill, scope, approval, limits, dataCutoff and requireSources, and its approvalPolicy must be Automatic";
    let one_of =
        "scope must have exactly one of memberRange, memberIds and select; leave it out to bill all members";
    let rebill = json!({"ofRevision": 1, "reason": "r"});
    let ids: Vec<u64> = (1..=1001).collect();
    let cases: &[(Value, &str)] = &[
        (json!({"month": "2026-13"}), month_format),
        (json!({"month": "2026-1"}), month_format),
        (json!({"month": "1999-12"}), month_format),
        (json!({"month": ""}), month_format),
        (json!({"month": null}), "spec.month: Required value"),
        (
            json!({"priceBookRef": null}),
            "spec.priceBookRef: Required value: priceBookRef must name the ConfigMap with the price book; only a run with rollback has none",
        ),
        (
            json!({"priceBookRef": {"name": "Price Book"}}),
            "priceBookRef.name must be the name of a ConfigMap: lower-case letters, digits, '-' and '.', such as pricebook-2026-07",
        ),
        (
            json!({"priceBookRef": {"name": "b", "key": "a/b"}}),
            "priceBookRef.key must be a key of the ConfigMap: letters, digits, '-', '_' and '.', such as pricebook.yaml",
        ),
        (
            json!({"rebill": {"ofRevision": 0, "reason": "r"}}),
            "rebill.ofRevision must be the number of the month's live revision, 1 or more",
        ),
        (
            json!({"rebill": {"ofRevision": 1, "reason": " "}}),
            "rebill.reason must say why the month is billed again, in 1 to 1024 characters",
        ),
        (
            json!({"rebill": {"ofRevision": 1, "reason": "r", "afterSent": "Ignore"}}),
            "spec.rebill.afterSent: Unsupported value: \"Ignore\": supported values: \"Revise\", \"Adjust\"",
        ),
        (json!({"rebill": rebill, "scope": {}}), one_of),
        (json!({"rebill": rebill, "scope": {"memberIds": [1], "select": "Late"}}), one_of),
        (
            json!({"rebill": rebill, "scope": {"memberRange": {"from": 3, "to": 2}}}),
            "scope.memberRange.from must be 1 or more, and not greater than scope.memberRange.to",
        ),
        (
            json!({"rebill": rebill, "scope": {"memberRange": {"from": 0, "to": 2}}}),
            "scope.memberRange.from must be 1 or more, and not greater than scope.memberRange.to",
        ),
        (
            json!({"rebill": rebill, "scope": {"memberIds": []}}),
            "scope.memberIds must be 1 to 1000 ids of 1 or more",
        ),
        (
            json!({"rebill": rebill, "scope": {"memberIds": [1, 0]}}),
            "scope.memberIds must be 1 to 1000 ids of 1 or more",
        ),
        (json!({"rebill": rebill, "scope": {"memberIds": ids}}), "must have at most 1000 items"),
        (
            json!({"rebill": rebill, "scope": {"select": "Ready"}}),
            "supported values: \"Quarantined\", \"Late\"",
        ),
        (json!({"rollback": {"ofRevision": 1, "reason": "r"}}), alone),
        (json!({"priceBookRef": null, "rollback": {"ofRevision": 1, "reason": "r"}, "limits": {}}), alone),
        (json!({"priceBookRef": null, "rollback": {"ofRevision": 1, "reason": "r"}, "dataCutoff": 1}), alone),
        (
            json!({"priceBookRef": null, "rollback": {"ofRevision": 1, "reason": "r"}, "approvalPolicy": "Manual"}),
            alone,
        ),
        (
            json!({"priceBookRef": null, "rollback": {"ofRevision": 0, "reason": "r"}}),
            "ofRevision must be the number of the live revision, 1 or more, such as status.revision of the run that billed the month",
        ),
        (
            json!({"priceBookRef": null, "rollback": {"ofRevision": 1, "reason": " "}}),
            "reason must say why, in 1 to 1024 characters",
        ),
        (
            json!({"priceBookRef": null, "rollback": {"ofRevision": 1}}),
            "spec.rollback.reason: Required value",
        ),
        (
            json!({"scope": {"memberRange": {"from": 1, "to": 2}}}),
            "scope is only for a run with rebill; leave it out to bill all members",
        ),
        (
            json!({"limits": {"versusPreviousMonth": {"members": 5}}}),
            "limits.versusPreviousMonth.members must be a percentage from 0% to 100% such as \"5%\"",
        ),
        (
            json!({"limits": {"versusPreviousMonth": {"total": "ten"}}}),
            "limits.versusPreviousMonth.total must be a percentage from 0% to 100% such as \"10%\"",
        ),
        (
            json!({"limits": {"maxChangedBills": "1"}}),
            "limits.maxChangedBills must be a count such as 100 or a percentage from 0% to 100% such as \"1%\"",
        ),
        (
            json!({"limits": {"maxTotalDelta": -1}}),
            "limits.maxTotalDelta must be an amount in minor units such as 100000 or a percentage from 0% to 100% such as \"1%\"",
        ),
        (json!({"limits": {"maxQuarantined": -1}}), max_quarantined),
        (json!({"limits": {"maxQuarantined": "101%"}}), max_quarantined),
        (json!({"limits": {"maxQuarantined": "5"}}), max_quarantined),
        (
            json!({"approvalPolicy": "Sometimes"}),
            "spec.approvalPolicy: Unsupported value: \"Sometimes\": supported values: \"Automatic\", \"Manual\"",
        ),
        (
            json!({"approval": {"digest": "abc", "by": "kim"}}),
            "approval.digest must be the 64 hexadecimal digits of status.digest",
        ),
        (
            json!({"approval": {"digest": "0".repeat(64), "by": " "}}),
            "approval.by must be the name of the person who approves, in 1 to 253 characters",
        ),
        (
            json!({"dataCutoff": 0}),
            "dataCutoff must be the number of a finished load, 1 or more; leave it out for the last finished load",
        ),
        (
            json!({"requireSources": ["cdr-a", "two\nlines"]}),
            "requireSources must be names as in manifest.yaml: 1 to 64 characters without control characters, such as cdr-a",
        ),
        (json!({"shards": 0}), "shards must be 1 to 1000; 16 is a good value for most months"),
        (
            json!({"parallelism": 0}),
            "parallelism must be 1 to 1000; to stop the workers, set suspend to true",
        ),
        (json!({"chunkSize": 10001}), "chunkSize must be 1 to 10000; 1000 is a good value for most months"),
        (
            json!({"ttlSecondsAfterFinished": -1}),
            "ttlSecondsAfterFinished must be 0 or more; leave it out to keep the run",
        ),
        (json!({"suspend": "yes"}), ".spec.suspend: expected boolean, got &{yes}"),
    ];
    let mut unexpected = Vec::new();
    for (spec, message) in cases {
        let run = installation.billing_run("rejected", &data::month(0), spec.clone());
        match cluster::apply(&installation.billing_runs().api, &run).await {
            Ok(_) => {
                unexpected.push(format!("{spec} was accepted"));
                installation.delete_run("rejected").await?;
            }
            Err(error) if error.to_string().contains(message) => {}
            Err(error) => unexpected.push(format!("{spec}\n  wanted: {message}\n  got:    {error}")),
        }
    }
    ensure!(
        unexpected.is_empty(),
        "{} of {} rejections differ:\n{}",
        unexpected.len(),
        cases.len(),
        unexpected.join("\n")
    );
    Ok(())
}

async fn immutable_fields(installation: &Installation) -> Result<()> {
    // The run waits for its price book, so it does not change by itself.
    let spec = json!({"priceBookRef": {"name": "not-there"}, "limits": {"maxQuarantined": 1}});
    installation.apply_run("immutable", &data::month(0), spec).await?;
    installation.wait_for_condition("immutable", "Started", "False", "PriceBookNotFound").await?;
    let cases: &[(Value, &str)] = &[
        (json!({"month": "2024-08"}), "month cannot be changed; create another run for the other month"),
        (
            json!({"priceBookRef": {"name": "other"}}),
            "priceBookRef cannot be changed; delete this run and create another with the other price book",
        ),
        (
            json!({"approvalPolicy": "Manual"}),
            "approvalPolicy cannot be changed; delete this run and create another with the other policy",
        ),
        (
            json!({"rebill": {"ofRevision": 1, "reason": "r"}}),
            "rebill cannot be changed; delete this run and create another",
        ),
        (
            json!({"requireSources": ["cdr-a"]}),
            "requireSources cannot be changed; delete this run and create another with the other sources",
        ),
        (
            json!({"dataCutoff": 1}),
            "dataCutoff cannot be changed; delete this run and create another with the other cut-off",
        ),
        (
            json!({"limits": {"maxQuarantined": 2}}),
            "limits cannot be changed; delete this run and create another with the other limits, or approve its draft",
        ),
        (
            json!({"limits": null}),
            "limits cannot be changed; delete this run and create another with the other limits, or approve its draft",
        ),
        (
            json!({"shards": 5}),
            "shards cannot be changed; change parallelism, or delete this run and create another",
        ),
        (
            json!({"chunkSize": 5}),
            "chunkSize cannot be changed; delete this run and create another with the other size",
        ),
        (
            json!({"rollback": {"ofRevision": 1, "reason": "r"}}),
            "rollback cannot be changed; delete this run and create another",
        ),
        (
            json!({"scope": {"memberIds": [1]}}),
            "scope cannot be changed; delete this run and create another with the other scope",
        ),
    ];
    let mut unexpected = Vec::new();
    for (spec, message) in cases {
        match installation.change_run("immutable", spec.clone()).await {
            Ok(()) => unexpected.push(format!("{spec} was accepted")),
            Err(error) if format!("{error:#}").contains(message) => {}
            Err(error) => unexpected.push(format!("{spec}\n  wanted: {message}\n  got:    {error:#}")),
        }
    }
    ensure!(
        unexpected.is_empty(),
        "{} of {} rejections differ:\n{}",
        unexpected.len(),
        cases.len(),
        unexpected.join("\n")
    );
    installation
        .change_run("immutable", json!({"parallelism": 3, "suspend": true, "ttlSecondsAfterFinished": 3600}))
        .await
}

async fn invalid_notification_runs(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(1);
    let ids: Vec<u64> = (1..=1001).collect();
    for (spec, wanted) in [
        (json!({"month": "2026-13"}), "month must be YYYY-MM from 2000-01 to 2099-12"),
        (json!({"month": null}), "spec.month: Required value"),
        (json!({"select": "Some"}), "supported values: \"Ready\", \"Failed\", \"Unknown\""),
        (json!({"scope": {}}), "scope must have either memberRange or memberIds"),
        (
            json!({"scope": {"memberRange": {"from": 1, "to": 2}, "memberIds": [1]}}),
            "scope must have either memberRange or memberIds",
        ),
        (
            json!({"scope": {"memberRange": {"from": 3, "to": 2}}}),
            "scope.memberRange.from must be 1 or more, and not greater than scope.memberRange.to",
        ),
        (json!({"scope": {"memberIds": ids}}), "must have at most 1000 items"),
        (json!({"scope": {"memberIds": []}}), "scope.memberIds must be 1 to 1000 ids"),
        (
            json!({"templateRef": {"name": "My Templates"}}),
            "templateRef.name must be the name of a ConfigMap",
        ),
        (json!({"maxPerSecond": 0}), "maxPerSecond must be 1 to 100000"),
        (json!({"maxPerSecond": 100_001}), "maxPerSecond must be 1 to 100000"),
        (json!({"ttlSecondsAfterFinished": -1}), "ttlSecondsAfterFinished must be 0 or more"),
    ] {
        let run = installation.notification_run("invalid", &cohort, spec.clone());
        let outcome = cluster::apply(&installation.notification_runs().api, &run).await;
        let rejection = outcome.err().with_context(|| format!("{spec} was accepted"))?.to_string();
        ensure!(rejection.contains(wanted), "{spec}: {rejection}");
    }

    // The run waits for bills of its month, so it can be changed.
    let unbilled = json!({"month": "2098-01", "suspend": true, "maxPerSecond": 5});
    cluster::apply(
        &installation.notification_runs().api,
        &installation.notification_run("fixed", &cohort, unbilled),
    )
    .await?;
    for (spec, wanted) in [
        (json!({"month": "2098-02"}), "month cannot be changed"),
        (json!({"select": "Failed"}), "select cannot be changed"),
        (json!({"scope": {"memberIds": [1]}}), "scope cannot be changed"),
        (json!({"rehearsal": true}), "rehearsal cannot be changed"),
        (json!({"templateRef": {"name": "other"}}), "templateRef cannot be changed"),
    ] {
        let outcome = installation.notification_runs().change("fixed", spec.clone()).await;
        let rejection = format!("{:#}", outcome.err().with_context(|| format!("{spec} was accepted"))?);
        ensure!(rejection.contains(wanted), "{spec}: {rejection}");
    }
    let mutable = json!({"suspend": false, "maxPerSecond": 7, "ttlSecondsAfterFinished": 60});
    installation.notification_runs().change("fixed", mutable).await.context("change the mutable fields")
}

async fn invalid_billing_schedules(installation: &Installation) -> Result<()> {
    let schedules = Runs::new(&installation.client, &installation.namespace, "BillingSchedule");
    let fields = "schedule must have five fields with numbers: minute (0-59), hour (0-23), day of the month (1-31), month (1-12), day of the week (0-7), such as '0 2 1 * *'";
    let never = "schedule must name a day that exists: no month that it names has this day";
    let schedule = |name: &str, change: &Value| {
        let mut spec = json!({"billing": {"priceBookRef": {"name": "pricebook"}}, "suspend": true});
        for (field, value) in change.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        json!({
            "apiVersion": "monthend.dev/v1alpha1", "kind": "BillingSchedule",
            "metadata": {"name": name}, "spec": spec,
        })
    };
    let long = "n".repeat(53);
    for (name, change, wanted) in [
        ("invalid", json!({"schedule": ""}), fields),
        ("invalid", json!({"schedule": "0 2 1 *"}), fields),
        ("invalid", json!({"schedule": "0 0 2 1 * *"}), fields),
        ("invalid", json!({"schedule": "60 2 1 * *"}), fields),
        ("invalid", json!({"schedule": "0 24 1 * *"}), fields),
        ("invalid", json!({"schedule": "0 2 32 * *"}), fields),
        ("invalid", json!({"schedule": "0 2 1 13 *"}), fields),
        ("invalid", json!({"schedule": "0 2 1 * 8"}), fields),
        ("invalid", json!({"schedule": "0 2 L * *"}), fields),
        ("invalid", json!({"schedule": "@monthly"}), fields),
        ("invalid", json!({"schedule": "0 2 30 2 *"}), never),
        ("invalid", json!({"schedule": "0 2 30-31 02 *"}), never),
        ("invalid", json!({"schedule": "0 2 31 4,11 *"}), never),
        ("invalid", json!({"billing": null}), "spec.billing in body must be of type object"),
        (
            "invalid",
            json!({"billing": {}}),
            "billing.priceBookRef must name the ConfigMap with the price book",
        ),
        (
            "invalid",
            json!({"billing": {"priceBookRef": {"name": "b"}, "shards": 0}}),
            "shards must be 1 to 1000",
        ),
        (
            "invalid",
            json!({"billing": {"priceBookRef": {"name": "b"}, "limits": {"maxQuarantined": "101%"}}}),
            "limits.maxQuarantined must be a count such as 100 or a percentage",
        ),
        ("invalid", json!({"notification": {"maxPerSecond": 0}}), "maxPerSecond must be 1 to 100000"),
        (
            "invalid",
            json!({"notification": {"scope": {}}}),
            "scope must have either memberRange or memberIds",
        ),
        ("invalid", json!({"catchUpMonths": 25}), "catchUpMonths must be 0 to 24"),
        ("invalid", json!({"catchUpMonths": -1}), "catchUpMonths must be 0 to 24"),
        ("invalid", json!({"historyLimits": {"succeeded": -1}}), "historyLimits.succeeded must be 0 to 1000"),
        ("invalid", json!({"historyLimits": {"failed": 1001}}), "historyLimits.failed must be 0 to 1000"),
        (&long, json!({}), "metadata.name must have at most 52 characters"),
    ] {
        let outcome = cluster::apply(&schedules.api, &schedule(name, &change)).await;
        let rejection = outcome.err().with_context(|| format!("{change} was accepted"))?.to_string();
        ensure!(rejection.contains(wanted), "{change}: {rejection}");
    }
    // Everything in a schedule can be changed.
    for change in [
        json!({}),
        json!({"schedule": "*/15 0-6/2 1,15 * 1-5", "catchUpMonths": 24, "notification": {}}),
        json!({
            "schedule": "0 2 29 2 *", "notification": {"maxPerSecond": 5},
            "billing": {"priceBookRef": {"name": "other"}, "shards": 4, "approvalPolicy": "Manual", "limits": {"maxQuarantined": 1}},
        }),
    ] {
        cluster::apply(&schedules.api, &schedule("valid", &change))
            .await
            .with_context(|| format!("{change} was rejected"))?;
    }
    schedules.delete("valid").await
}
