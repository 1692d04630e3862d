//! The Grafana dashboard against the development stack's Prometheus.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, Cohort};
use e2e::environment::workspace;
use e2e::installation::Installation;
use e2e::runs::{LIMIT, is_finished};
use e2e::suite::Suite;
use e2e::{cluster, wait};
use serde_json::{Value, json};

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("every_expression_of_the_dashboard_has_a_value", dashboard);
}

/// Collects all PromQL expressions of a dashboard, also of nested panels.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

async fn dashboard(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(22);
    installation.ensure_billed(&cohort.month).await?;
    // Runs of both kinds are in progress, with several outcomes, so that every metric has a value.
    installation
        .mail
        .set_rules(&[
            json!({"at": "RCPT", "to": "^m[0-9]*2@", "reply": "550 5.1.1 no such user"}),
            json!({"at": "REPLY", "to": "^m[0-9]*[13579]@", "delay": 1}),
        ])
        .await?;
    // The metrics of billing have the last 24 months that were billed, and the months of the
    // notification scenarios come before those.
    let billing_month = data::month(20);
    installation.apply_run("dashboard", &billing_month, json!({"approvalPolicy": "Manual"})).await?;
    installation.notify("dashboard", &cohort, json!({"maxPerSecond": 5})).await?;
    installation.wait_for_phase("dashboard", "AwaitingApproval").await?;

    let mut evaluated = 0;
    for entry in fs::read_dir(workspace("grafana"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let dashboard: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let mut found = Vec::new();
        expressions(&dashboard["panels"], &mut found);
        for expression in found {
            let mut query = expression.clone();
            let of_billing = expression.contains("monthend_billing_");
            for (variable, value) in [
                ("month", if of_billing { billing_month.as_str() } else { cohort.month.as_str() }),
                ("namespace", &installation.namespace),
                ("__rate_interval", "1m"),
                ("__interval", "15s"),
                ("__range", "15m"),
            ] {
                query =
                    query.replace(&format!("${{{variable}}}"), value).replace(&format!("${variable}"), value);
            }
            ensure!(!query.contains('$'), "the test does not replace this dashboard variable: {expression}");
            has_a_value(installation, &query).await?;
            evaluated += 1;
        }
    }
    ensure!(evaluated > 15, "the dashboards have only {evaluated} expressions");
    ensure!(
        !is_finished(&installation.notification_runs().get("dashboard").await?),
        "the notification run finished before all expressions were evaluated"
    );
    installation.notification_runs().change("dashboard", json!({"maxPerSecond": Value::Null})).await?;
    installation.mail.set_rules(&[]).await?;
    installation.wait_until_finished("dashboard").await.map(drop)
}

async fn has_a_value(installation: &Installation, query: &str) -> Result<()> {
    let service = format!("{}-prometheus", installation.environment.release);
    let encoded: String =
        query
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
    let page = format!("api/v1/query?query={encoded}");
    wait::until_true(&format!("a value of {query}"), LIMIT, async || {
        let response = cluster::request_service(
            &installation.client,
            &installation.environment.namespace,
            &service,
            9090,
            "GET",
            &page,
            Vec::new(),
        )
        .await?;
        let response: Value = serde_json::from_str(&response)?;
        ensure!(response["status"] == "success", "Prometheus answered {response}");
        let values = response["data"]["result"].as_array().context("no vector")?;
        ensure!(!values.is_empty(), "the vector is empty");
        let numbers =
            values.iter().filter_map(|value| value["value"][1].as_str()).any(|value| value != "NaN");
        ensure!(numbers, "there is no number in {response}");
        Ok(true)
    })
    .await
}
