//! What the API server refuses, with the sentence that names the fix.

use anyhow::{Result, ensure};
use e2e::{cluster, data, installation::Installation, suite::Suite};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("the_api_server_refuses_wrong_runs", wrong_runs);
    suite.scenario("the_api_server_refuses_changes_of_what_is_immutable", wrong_changes);
}

async fn wrong_runs(on: &Installation) -> Result<()> {
    let month_format = "spec.month: Invalid value: \"string\": month must be written YYYY-MM and lie in 2000-01 to 2099-12, such as 2026-10";
    let max_quarantined =
        "limits.maxQuarantined must be a count such as 100 or a percentage from 0% to 100% such as \"0.1%\"";
    let cases: &[(Value, &str)] = &[
        (json!({"month": "2026-13"}), month_format),
        (json!({"month": "2026-1"}), month_format),
        (json!({"month": "1999-12"}), month_format),
        (json!({"month": ""}), month_format),
        (json!({"month": null}), "spec.month: Required value"),
        (json!({"priceBookRef": null}), "spec.priceBookRef: Required value"),
        (
            json!({"priceBookRef": {"name": "Price Book"}}),
            "priceBookRef.name must be the name of a ConfigMap: lower-case letters, digits, '-' and '.', such as pricebook-2026-07",
        ),
        (
            json!({"priceBookRef": {"name": "b", "key": "a/b"}}),
            "priceBookRef.key must be a key of the ConfigMap: letters, digits, '-', '_' and '.', such as pricebook.yaml",
        ),
        (
            json!({"rebill": {"ofRevision": 1, "reason": "r"}}),
            "rebill is not available in this version; leave it out, a month is billed once",
        ),
        (
            json!({"rollback": {"ofRevision": 1, "reason": "r"}}),
            "rollback is not available in this version; leave it out",
        ),
        (
            json!({"scope": {"memberRange": {"from": 1, "to": 2}}}),
            "scope is not available in this version; leave it out to bill everyone",
        ),
        (
            json!({"limits": {"versusPreviousMonth": {"members": "1%"}}}),
            "limits.versusPreviousMonth is not available in this version; leave it out, or use limits.maxQuarantined",
        ),
        (
            json!({"limits": {"maxChangedBills": 3}}),
            "limits.maxChangedBills is not available in this version; leave it out",
        ),
        (
            json!({"limits": {"maxTotalDelta": 3}}),
            "limits.maxTotalDelta is not available in this version; leave it out",
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
            "approval.by must name who approves, in 1 to 253 characters",
        ),
        (
            json!({"dataCutoff": 0}),
            "dataCutoff must be the number of a finished load, 1 or more; leave it out for the last one",
        ),
        (json!({"shards": 0}), "shards must be 1 to 1000; 16 suits most months"),
        (
            json!({"parallelism": 0}),
            "parallelism must be 1 to 1000; to stop the workers, set suspend to true",
        ),
        (json!({"chunkSize": 10001}), "chunkSize must be 1 to 10000; 1000 suits most months"),
        (
            json!({"ttlSecondsAfterFinished": -1}),
            "ttlSecondsAfterFinished must be 0 or more; leave it out to keep the run",
        ),
        (json!({"suspend": "yes"}), ".spec.suspend: expected boolean, got &{yes}"),
    ];
    let mut wrong = Vec::new();
    for (spec, message) in cases {
        let run = on.billing_run("refused", &data::month(0), spec.clone());
        match cluster::apply(&on.runs(), &run).await {
            Ok(_) => {
                wrong.push(format!("{spec} was accepted"));
                on.delete_run("refused").await?;
            }
            Err(error) if error.to_string().contains(message) => {}
            Err(error) => wrong.push(format!("{spec}\n  wanted: {message}\n  got:    {error}")),
        }
    }
    ensure!(wrong.is_empty(), "{} of {} refusals differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    Ok(())
}

async fn wrong_changes(on: &Installation) -> Result<()> {
    // Waits for its price book, so that it stays as it is.
    let spec = json!({"priceBookRef": {"name": "not-there"}, "limits": {"maxQuarantined": 1}});
    on.apply_run("immutable", &data::month(0), spec).await?;
    on.says("immutable", "Started", "False", "PriceBookNotFound").await?;
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
    ];
    let mut wrong = Vec::new();
    for (spec, message) in cases {
        match on.change_run("immutable", spec.clone()).await {
            Ok(()) => wrong.push(format!("{spec} was accepted")),
            Err(error) if format!("{error:#}").contains(message) => {}
            Err(error) => wrong.push(format!("{spec}\n  wanted: {message}\n  got:    {error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{} of {} refusals differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    on.change_run("immutable", json!({"parallelism": 3, "suspend": true, "ttlSecondsAfterFinished": 3600}))
        .await
}
