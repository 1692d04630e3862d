//! The Grafana dashboards against the development stack's Prometheus.

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
    suite.scenario("every_expression_of_the_dashboards_has_a_value", dashboards);
}

/// Collects all PromQL expressions, also of nested panels.
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

/// The series that the values of the variables are taken from: `label_values(SERIES, LABEL)`.
fn series_of_variables(dashboard: &Value) -> Vec<String> {
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten();
    variables
        .filter_map(|variable| variable["query"]["query"].as_str()?.strip_prefix("label_values("))
        .filter_map(|query| Some(query.rsplit_once(',')?.0.to_owned()))
        .collect()
}

async fn dashboards(installation: &Installation) -> Result<()> {
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

    let (mut evaluated, mut dashboards) = (0, 0);
    for entry in fs::read_dir(workspace("grafana"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let dashboard: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let mut found = series_of_variables(&dashboard);
        ensure!(found.len() >= 2, "{} has no variables for namespace and month or kind", path.display());
        expressions(&dashboard["panels"], &mut found);
        for expression in &found {
            let query = filled_in(expression, installation, &billing_month, &cohort.month)?;
            has_a_value(installation, &query).await?;
        }
        // Nothing that an annotation marks need have happened.
        let mut marks = Vec::new();
        expressions(&dashboard["annotations"], &mut marks);
        ensure!(!marks.is_empty(), "{} has no annotations", path.display());
        for expression in &marks {
            let query = filled_in(expression, installation, &billing_month, &cohort.month)?;
            evaluate(installation, &query).await.with_context(|| query.clone())?;
        }
        evaluated += found.len() + marks.len();
        dashboards += 1;
    }
    ensure!(dashboards == 4 && evaluated > 100, "{dashboards} dashboards have only {evaluated} expressions");
    ensure!(
        !is_finished(&installation.notification_runs().get("dashboard").await?),
        "the notification run finished before all expressions were evaluated"
    );
    installation.notification_runs().change("dashboard", json!({"maxPerSecond": Value::Null})).await?;
    installation.mail.set_rules(&[]).await?;
    installation.wait_until_finished("dashboard").await.map(drop)
}

/// An expression with values for the variables.
fn filled_in(
    expression: &str,
    installation: &Installation,
    billing_month: &str,
    notification_month: &str,
) -> Result<String> {
    let of_billing = expression.contains("monthend_billing_");
    let mut query = expression.to_owned();
    for (variable, value) in [
        ("month", if of_billing { billing_month } else { notification_month }),
        ("namespace", &installation.namespace),
        ("kind", ".*"),
        ("__rate_interval", "1m"),
        ("__interval", "15s"),
        ("__range", "15m"),
    ] {
        query = query.replace(&format!("${{{variable}}}"), value).replace(&format!("${variable}"), value);
    }
    ensure!(!query.contains('$'), "the test does not replace this dashboard variable: {expression}");
    Ok(query)
}

async fn has_a_value(installation: &Installation, query: &str) -> Result<()> {
    wait::until_true(&format!("a value of {query}"), LIMIT, async || {
        let values = evaluate(installation, query).await?;
        ensure!(!values.is_empty(), "the vector is empty");
        let numbers =
            values.iter().filter_map(|value| value["value"][1].as_str()).any(|value| value != "NaN");
        ensure!(numbers, "there is no number in {values:?}");
        Ok(true)
    })
    .await
}

/// The vector that Prometheus answers.
async fn evaluate(installation: &Installation, query: &str) -> Result<Vec<Value>> {
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
    let response = cluster::request_service(
        &installation.client,
        &installation.environment.namespace,
        &service,
        9090,
        "GET",
        &format!("api/v1/query?query={encoded}"),
        Vec::new(),
    )
    .await?;
    let response: Value = serde_json::from_str(&response)?;
    ensure!(response["status"] == "success", "Prometheus answered {response}");
    response["data"]["result"].as_array().cloned().context("no vector")
}
