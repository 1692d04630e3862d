//! The dashboards of `grafana/`: judged by the schema that Grafana publishes, by promtool, by the
//! rules of this project, and by what the chart and docs/monitoring.md make of them. What only a
//! Prometheus with data can tell is for the tests on the cluster.

mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::checks::{DASHBOARDS, DASHBOARDS_COPY};
use crate::paths::Paths;
use crate::progress::Progress;
use crate::tools::{HELM, Tools};
use crate::{cluster, exec, packages, stack};

/// The Go module of the program that knows Grafana's schema.
const SCHEMA: &str = "xtask/tools/dashboards";
const PAGE: &str = "docs/monitoring.md";
/// The heading of the page's section that names panels, as `*Is it stuck?*`.
const DOUBTS: &str = "## From a doubt to a panel and a command";

/// The dashboards by the names of their files.
type Dashboards = BTreeMap<String, Value>;

pub(crate) fn check(paths: &Paths, progress: &Progress) -> Result<()> {
    packages::ensure(paths, progress, &packages::PROMETHEUS)?;
    let tools = Tools::ensure(paths, progress, &[HELM])?;
    progress.step("dashboards", |step| {
        let dashboards = read(paths)?;
        let mut faults = rules::faults(&dashboards);
        faults.extend(missing_panels(&dashboards, &read_file(paths, PAGE)?));
        if !faults.is_empty() {
            bail!("{} faults of the dashboards:\n{}", faults.len(), faults.join("\n"));
        }
        schema(paths, &dashboards)?;
        let expressions = syntax(paths, &dashboards)?;
        rendered(paths, &tools, &dashboards)?;
        step.note(format!("{} with {expressions} expressions", dashboards.len()));
        Ok(())
    })
}

fn read(paths: &Paths) -> Result<Dashboards> {
    let folder = paths.repo.join(DASHBOARDS);
    let mut dashboards = Dashboards::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") {
            let text = read_file(paths, &format!("{DASHBOARDS}/{name}"))?;
            let dashboard =
                serde_json::from_str(&text).with_context(|| format!("{DASHBOARDS}/{name} is no JSON"))?;
            dashboards.insert(name, dashboard);
        }
    }
    Ok(dashboards)
}

fn read_file(paths: &Paths, file: &str) -> Result<String> {
    let path = paths.repo.join(file);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Grafana's own types read each file strictly.
fn schema(paths: &Paths, dashboards: &Dashboards) -> Result<()> {
    let go = exec::which("go").context("Go is needed to read Grafana's schema and is not installed")?;
    exec::run(
        Command::new(go)
            .current_dir(paths.repo.join(SCHEMA))
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly")
            .args(["run", "."])
            .args(dashboards.keys().map(|name| paths.repo.join(DASHBOARDS).join(name))),
        &paths.log("dashboards"),
    )
}

/// promtool parses each expression, as the expression of a rule.
fn syntax(paths: &Paths, dashboards: &Dashboards) -> Result<usize> {
    let expressions: Vec<String> = dashboards.values().flat_map(rules::expressions).collect();
    let rules: Vec<Value> = (0..)
        .zip(&expressions)
        .map(|(number, expression)| json!({"record": format!("expression_{number}"), "expr": filled_in(expression)}))
        .collect();
    let folder = tempfile::tempdir().context("no room for the expressions")?;
    let file = folder.path().join("expressions.yaml");
    // JSON is YAML.
    let text = json!({"groups": [{"name": "dashboards", "rules": rules}]}).to_string();
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    exec::run(Command::new("promtool").args(["check", "rules"]).arg(&file), &paths.log("dashboards"))?;
    Ok(expressions.len())
}

/// With a value for each variable.
fn filled_in(expression: &str) -> String {
    let mut text = expression.to_owned();
    for variable in ["__rate_interval", "__interval", "__range"] {
        text = text.replace(&format!("${variable}"), "2m");
    }
    text
}

/// With everything of monitoring turned on, the chart makes a `ConfigMap` of each, and changes no
/// character of it.
fn rendered(paths: &Paths, tools: &Tools, dashboards: &Dashboards) -> Result<()> {
    let chart = paths.repo.join("charts/monthend");
    let rendered = exec::output(
        tools
            .command(HELM)
            .args(["template", cluster::NAME, "--namespace", stack::NAMESPACE])
            .args(["--show-only", "templates/dashboards.yaml", "--values"])
            .arg(chart.join("ci/monitoring-values.yaml"))
            .arg(&chart),
    )?;
    let objects: Vec<&str> =
        rendered.split("---\n").filter(|object| object.contains("kind: ConfigMap\n")).collect();
    ensure!(objects.len() == dashboards.len(), "the chart renders {} dashboards", objects.len());
    for name in dashboards.keys() {
        let data = as_data(name, &read_file(paths, &format!("{DASHBOARDS}/{name}"))?);
        let object = objects.iter().find(|object| object.contains(&data)).with_context(|| {
            format!("the chart renders another {name} than {DASHBOARDS}/ has: run `cargo xtask codegen`, or copy it to {DASHBOARDS_COPY}")
        })?;
        for line in
            ["    grafana_dashboard: \"1\"\n", "    team: billing\n", "    grafana_folder: \"Billing\"\n"]
        {
            ensure!(object.contains(line), "the ConfigMap of {name} has no line {line:?}");
        }
    }
    Ok(())
}

/// A file as an entry of a `ConfigMap`.
fn as_data(name: &str, text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
    format!("\n  {name}: |\n{}", lines.join("\n"))
}

/// The panels and rows that the page names and no dashboard has.
fn missing_panels(dashboards: &Dashboards, page: &str) -> Vec<String> {
    let section = page.split_once(DOUBTS).map_or("", |(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
    let titles: Vec<&str> = dashboards.values().flat_map(rules::titles).collect();
    let named: Vec<&str> =
        section.split('*').filter(|text| text.ends_with('?') && !text.contains('|')).collect();
    if named.len() < 4 {
        return vec![format!("{PAGE} names only {} panels below {DOUBTS:?}", named.len())];
    }
    named
        .into_iter()
        .filter(|name| !titles.contains(name))
        .map(|name| format!("{PAGE} names the panel {name:?}, which no dashboard has"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dashboards_of_this_checkout_follow_the_rules() {
        let paths = Paths::find().unwrap();
        let dashboards = read(&paths).unwrap();
        assert_eq!(rules::faults(&dashboards), Vec::<String>::new());
        assert_eq!(missing_panels(&dashboards, &read_file(&paths, PAGE).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn a_panel_that_only_the_page_has_is_named() {
        let dashboard = json!({"panels": [{"title": "One?"}, {"title": "Two?"}, {"title": "Three?"}]});
        let dashboards = Dashboards::from([("a.json".to_owned(), dashboard)]);
        let page = format!(
            "*Before?*\n{DOUBTS}\n\n| a | *One?*, *Two?* | `x` |\n| b | *Three?*, *Four?* | |\n\n## Next\n*After?*"
        );
        let missing = missing_panels(&dashboards, &page);
        assert_eq!(missing, [format!("{PAGE} names the panel \"Four?\", which no dashboard has")]);
        assert_eq!(missing_panels(&dashboards, "# Nothing").len(), 1);
    }

    #[test]
    fn a_file_is_an_entry_of_a_config_map() {
        assert_eq!(as_data("a.json", "{\n  \"b\": 1\n}\n"), "\n  a.json: |\n    {\n      \"b\": 1\n    }");
    }
}
