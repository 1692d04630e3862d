//! The chart's alerts, judged by the programs that read them: their syntax, when each fires and is
//! resolved, the message in Slack, and whether the pages that they link to have the place.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use serde_yaml::Value;

use crate::paths::Paths;
use crate::progress::Progress;
use crate::tools::{HELM, Tools};
use crate::{cluster, exec, packages, stack};

const CHART: &str = "charts/monthend";
const RULES: &str = "charts/monthend/files/alerts.yaml";
const ALERTMANAGER: &str = "charts/monthend/files/alertmanager.yaml";
const PAGE: &str = "docs/monitoring.md";

/// What promtool reads beside the rules, in `xtask/alerts`.
const TESTS: [&str; 3] = ["fires.yaml", "undisturbed.yaml", "messages.yaml"];

pub(crate) fn check(paths: &Paths, progress: &Progress) -> Result<()> {
    packages::ensure(paths, progress, &packages::PROMETHEUS)?;
    let tools = Tools::ensure(paths, progress, &[HELM])?;
    progress.step("alerts", |step| {
        let source = read(paths, RULES)?;
        let alerts = alerts(&source)?;
        covered(&alerts, &read(paths, "xtask/alerts/fires.yaml")?, &read(paths, PAGE)?)?;
        linked(paths, &alerts)?;

        let log = paths.log("alerts");
        let folder = tempfile::tempdir().context("no room for the alerts")?;
        let rendered = documents(&render(paths, &tools)?)?;
        let rules = rules(&rendered)?;
        write(&folder.path().join("rules.yaml"), &rules)?;
        for test in TESTS {
            write(&folder.path().join(test), &read(paths, &format!("xtask/alerts/{test}"))?)?;
        }
        // As it is, for a Prometheus without the operator, and as the chart makes it.
        exec::run(
            Command::new("promtool")
                .args(["check", "rules", "rules.yaml"])
                .arg(paths.repo.join(RULES))
                .current_dir(folder.path()),
            &log,
        )?;
        exec::run(
            Command::new("promtool").args(["test", "rules"]).args(TESTS).current_dir(folder.path()),
            &log,
        )?;
        exec::run(Command::new("amtool").arg("check-config").arg(paths.repo.join(ALERTMANAGER)), &log)?;
        message(&rendered, folder.path())?;
        step.note(format!("{} of them", alerts.len()));
        Ok(())
    })
}

/// The objects of the Prometheus operator, with everything of monitoring turned on.
fn render(paths: &Paths, tools: &Tools) -> Result<String> {
    let chart = paths.repo.join(CHART);
    exec::output(
        tools
            .command(HELM)
            .args(["template", cluster::NAME, "--namespace", stack::NAMESPACE])
            .args(["--show-only", "templates/monitoring.yaml", "--values"])
            .arg(chart.join("ci/monitoring-values.yaml"))
            .arg(&chart),
    )
}

/// The objects of a file of several.
fn documents(text: &str) -> Result<Vec<Value>> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).context("the chart renders no YAML"))
        .collect()
}

fn object<'a>(rendered: &'a [Value], kind: &str) -> Result<&'a Value> {
    let found = rendered.iter().find(|object| object["kind"] == kind);
    found.with_context(|| format!("the chart renders no {kind}"))
}

/// The spec of the PrometheusRule, which is a rules file.
fn rules(rendered: &[Value]) -> Result<String> {
    serde_yaml::to_string(&object(rendered, "PrometheusRule")?["spec"]).context("cannot write the rules")
}

/// A rules file, as far as it is checked here.
#[derive(Deserialize)]
struct RulesFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Alert>,
}

#[derive(Deserialize)]
struct Alert {
    #[serde(rename = "alert")]
    name: String,
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Annotations {
    runbook_url: String,
}

fn alerts(source: &str) -> Result<Vec<Alert>> {
    let file: RulesFile = serde_yaml::from_str(source).with_context(|| format!("cannot read {RULES}"))?;
    Ok(file.groups.into_iter().flat_map(|group| group.rules).collect())
}

/// Each alert is seen to fire, and the page says what to do.
fn covered(alerts: &[Alert], tests: &str, page: &str) -> Result<()> {
    ensure!(alerts.len() > 10, "{RULES} has only {} alerts", alerts.len());
    for Alert { name, .. } in alerts {
        let fires = format!(r#"ALERTS{{alertname="{name}", alertstate="firing", namespace"#);
        ensure!(tests.contains(&fires), "no test in xtask/alerts/fires.yaml lets {name} fire");
        ensure!(page.contains(&format!("| `{name}` |")), "{PAGE} does not list {name}");
    }
    Ok(())
}

fn linked(paths: &Paths, alerts: &[Alert]) -> Result<()> {
    for link in alerts.iter().map(|alert| &alert.annotations.runbook_url) {
        let Some((page, anchor)) = link.split_once('#') else { bail!("{link} names no heading") };
        let text = read(paths, page)?;
        let mut headings = text.lines().filter(|line| line.starts_with('#')).map(self::anchor);
        ensure!(headings.any(|found| found == anchor), "{page} has no heading for #{anchor}");
    }
    Ok(())
}

/// As pages of Markdown are linked: small letters, digits and hyphens.
fn anchor(heading: &str) -> String {
    let kept = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    heading.trim_start_matches('#').trim().to_lowercase().replace(|c| !kept(c), "").replace(' ', "-")
}

/// What a person reads in Slack, while an alert fires and when it is resolved.
fn message(rendered: &[Value], folder: &Path) -> Result<()> {
    write(&folder.join("none.tmpl"), "")?;
    for (status, field, expected) in [
        ("firing", "title", "Critical: A BillingRun has failed"),
        (
            "firing",
            "text",
            "2 runs are Failed.\nNext: `kubectl monthend status`\nRead: docs/page.md#place\nSince 2026-11-01 02:10 UTC",
        ),
        ("resolved", "title", "Resolved: A BillingRun has failed"),
        ("resolved", "text", "It is over since 2026-11-01 03:00 UTC."),
    ] {
        let data = folder.join(format!("{status}.json"));
        write(&data, &firing(status).to_string())?;
        let shown = exec::output(
            Command::new("amtool")
                .args(["template", "render", "--template.glob"])
                .arg(folder.join("none.tmpl"))
                .arg("--template.data")
                .arg(&data)
                .arg(format!("--template.text={}", template(rendered, field)?)),
        )?;
        ensure!(shown == expected, "the {field} of a {status} alert in Slack is {shown:?}, not {expected:?}");
    }
    Ok(())
}

/// A field of the message.
fn template<'a>(rendered: &'a [Value], field: &str) -> Result<&'a str> {
    let message = &object(rendered, "AlertmanagerConfig")?["spec"]["receivers"][0]["slackConfigs"][0];
    message[field].as_str().with_context(|| format!("the AlertmanagerConfig has no {field}"))
}

/// What Alertmanager gives to a template.
fn firing(status: &str) -> serde_json::Value {
    let labels = json!({"alertname": "MonthendRunFailed", "severity": "critical"});
    json!({
        "receiver": "slack",
        "status": status,
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": {
                "summary": "A BillingRun has failed",
                "description": "2 runs are Failed.",
                "command": "kubectl monthend status",
                "runbook_url": "docs/page.md#place",
            },
            "startsAt": "2026-11-01T02:10:00Z",
            "endsAt": "2026-11-01T03:00:00Z",
        }],
        "groupLabels": {},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.com",
    })
}

fn read(paths: &Paths, file: &str) -> Result<String> {
    let path = paths.repo.join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_the_spec_of_the_rendered_object() {
        let rendered = "---\n# Source\nkind: PodMonitor\nspec:\n  no: 1\n\n---\n# Source\nkind: PrometheusRule\nspec:\n  groups:\n  \
                        - name: a\n    rules:\n    - expr: |\n        a\n        > 1\n";
        let objects = documents(rendered).unwrap();
        assert_eq!(
            rules(&objects).unwrap(),
            "groups:\n- name: a\n  rules:\n  - expr: |\n      a\n      > 1\n"
        );
        let error = rules(&documents("kind: PodMonitor\nspec:\n").unwrap()).unwrap_err().to_string();
        assert_eq!(error, "the chart renders no PrometheusRule");
    }

    #[test]
    fn a_field_of_the_message_is_found() {
        let config = "kind: AlertmanagerConfig\nspec:\n  receivers:\n  - slackConfigs:\n    - {title: \"a \\\"b\\\"\"}\n";
        let objects = documents(config).unwrap();
        assert_eq!(template(&objects, "title").unwrap(), "a \"b\"");
        assert!(template(&objects, "text").unwrap_err().to_string().contains("has no text"));
    }

    #[test]
    fn a_heading_is_linked_as_pages_do_it() {
        assert_eq!(anchor("### ActionFailed, ActionRefused"), "actionfailed-actionrefused");
        assert_eq!(anchor("## A run that stands still"), "a-run-that-stands-still");
        assert_eq!(anchor("## E-mails that were not sent"), "e-mails-that-were-not-sent");
    }

    #[test]
    fn an_alert_without_a_test_or_a_line_on_the_page_is_named() {
        let alerts: Vec<Alert> = (0..11)
            .map(|number| Alert {
                name: format!("Monthend{number}"),
                annotations: Annotations { runbook_url: String::new() },
            })
            .collect();
        let fire = |alert: &Alert| {
            format!(r#"ALERTS{{alertname="{}", alertstate="firing", namespace="n"}}"#, alert.name)
        };
        let tests: String = alerts.iter().map(fire).collect();
        let page: String = alerts.iter().map(|alert| format!("| `{}` | critical |\n", alert.name)).collect();
        covered(&alerts, &tests, &page).unwrap();
        let error = covered(&alerts, &tests.replace("Monthend7", ""), &page).unwrap_err().to_string();
        assert!(error.contains("lets Monthend7 fire"), "{error}");
        let error = covered(&alerts, &tests, &page.replace("Monthend8", "")).unwrap_err().to_string();
        assert!(error.contains("does not list Monthend8"), "{error}");
    }
}
