//! The chart's alerts, judged by the programs that read them: their syntax, when each fires and is
//! resolved, the message in Slack, and whether the pages that they link to have the place.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

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
        let names = values(&source, "- alert: ");
        covered(&names, &read(paths, "xtask/alerts/fires.yaml")?, &read(paths, PAGE)?)?;
        linked(paths, &values(&source, "runbook_url: "))?;

        let log = paths.log("alerts");
        let folder = tempfile::tempdir().context("no room for the alerts")?;
        let rendered = render(paths, &tools)?;
        let rules = rules(&rendered).context("the chart renders no PrometheusRule")?;
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
        step.note(format!("{} of them", names.len()));
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

/// The spec of the PrometheusRule, which is a rules file.
fn rules(rendered: &str) -> Option<String> {
    let object = rendered.split("\n---\n").find(|document| document.contains("\nkind: PrometheusRule\n"))?;
    let (_, spec) = object.split_once("\nspec:\n")?;
    Some(spec.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect())
}

/// What follows `key` on each of its lines.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(key)).collect()
}

/// Each alert is seen to fire, and the page says what to do.
fn covered(names: &[&str], tests: &str, page: &str) -> Result<()> {
    ensure!(names.len() > 10, "{RULES} has only {} alerts", names.len());
    for name in names {
        let fires = format!(r#"ALERTS{{alertname="{name}", alertstate="firing", namespace"#);
        ensure!(tests.contains(&fires), "no test in xtask/alerts/fires.yaml lets {name} fire");
        ensure!(page.contains(&format!("| `{name}` |")), "{PAGE} does not list {name}");
    }
    Ok(())
}

fn linked(paths: &Paths, links: &[&str]) -> Result<()> {
    for link in links {
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
fn message(rendered: &str, folder: &Path) -> Result<()> {
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
        write(&data, &alert(status).to_string())?;
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

/// A field of the message, which the chart renders as a quoted string.
fn template(rendered: &str, field: &str) -> Result<String> {
    let quoted = values(rendered, &format!("{field}: "))
        .into_iter()
        .find(|value| value.starts_with('"'))
        .with_context(|| format!("the AlertmanagerConfig has no {field}"))?;
    serde_json::from_str(quoted).with_context(|| format!("the {field} is no string: {quoted}"))
}

/// What Alertmanager gives to a template.
fn alert(status: &str) -> serde_json::Value {
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
        let rendered = "---\nkind: PodMonitor\nspec:\n  no: 1\n\n---\nkind: PrometheusRule\nspec:\n  groups:\n  - name: a\n";
        assert_eq!(
            rules(&rendered.replace("---\nkind", "---\n# Source\nkind")).unwrap(),
            "groups:\n- name: a\n"
        );
        assert_eq!(rules("kind: PodMonitor\nspec:\n"), None);
    }

    #[test]
    fn a_heading_is_linked_as_pages_do_it() {
        assert_eq!(anchor("### ActionFailed, ActionRefused"), "actionfailed-actionrefused");
        assert_eq!(anchor("## A run that stands still"), "a-run-that-stands-still");
        assert_eq!(anchor("## E-mails that were not sent"), "e-mails-that-were-not-sent");
    }

    #[test]
    fn an_alert_without_a_test_or_a_line_on_the_page_is_named() {
        let names: Vec<String> = (0..11).map(|number| format!("Monthend{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let fire =
            |name: &&str| format!(r#"ALERTS{{alertname="{name}", alertstate="firing", namespace="n"}}"#);
        let tests: String = names.iter().map(fire).collect();
        let page: String = names.iter().map(|name| format!("| `{name}` | critical |\n")).collect();
        covered(&names, &tests, &page).unwrap();
        let error = covered(&names, &tests.replace("Monthend7", ""), &page).unwrap_err().to_string();
        assert!(error.contains("lets Monthend7 fire"), "{error}");
        let error = covered(&names, &tests, &page.replace("Monthend8", "")).unwrap_err().to_string();
        assert!(error.contains("does not list Monthend8"), "{error}");
    }
}
