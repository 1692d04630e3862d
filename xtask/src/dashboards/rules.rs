//! What each dashboard has beyond Grafana's schema, so that a person who is woken finds the panel,
//! understands it, and gets on from there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Dashboards;

/// The dashboards and the variables of each. No metric has the name of a run, so there is no variable
/// for it.
const VARIABLES: [(&str, &[&str]); 4] = [
    (OVERVIEW, &["datasource", "namespace", "month", "kind"]),
    ("monthend-billing", &["datasource", "namespace", "month"]),
    ("monthend-notification", &["datasource", "namespace", "month"]),
    ("monthend-operator", &["datasource", "namespace", "kind"]),
];

/// Each of its panels links to the details.
const OVERVIEW: &str = "monthend-month";

/// What Grafana itself fills in.
const BUILT_IN: [&str; 4] = ["__rate_interval", "__interval", "__range", "__url_time_range"];

/// Ranges that fit the scrape interval and the time that is shown. A fixed one is blank where it is
/// shorter than two scrapes.
const RANGES: [&str; 2] = ["$__rate_interval", "$__range"];

/// A target's least step: `$__rate_interval` is four times as long, also with a data source that does
/// not know the scrape interval.
const STEP: &str = "30s";

/// `FILE: what is wrong`.
pub(super) fn faults(dashboards: &Dashboards) -> Vec<String> {
    let mut faults = Vec::new();
    let variables: BTreeMap<&str, Vec<&str>> =
        dashboards.values().map(|dashboard| (text(&dashboard["uid"]), names(dashboard))).collect();
    for (uid, expected) in VARIABLES {
        match variables.get(uid) {
            None => faults.push(format!("{uid}: there is no such dashboard")),
            Some(found) if found != expected => {
                faults.push(format!("{uid}: has the variables {found:?}, not {expected:?}"))
            }
            Some(_) => {}
        }
    }
    for (file, dashboard) in dashboards {
        let mut found = Vec::new();
        let uid = text(&dashboard["uid"]);
        if *file != format!("{uid}.json") {
            found.push(format!(
                "has the uid {uid:?}, which must be the name of its file, so that no two have the same"
            ));
        }
        let of_this = variables.get(uid).map(Vec::as_slice).unwrap_or_default();
        let mut ids = BTreeSet::new();
        for panel in panels(dashboard) {
            let title = text(&panel["title"]);
            if !ids.insert(panel["id"].as_u64()) {
                found.push(format!("{title:?}: another panel has its id"));
            }
            found.extend(panel_faults(panel).into_iter().map(|fault| format!("{title:?}: {fault}")));
            if uid == OVERVIEW && panel["type"] != "row" && array(&panel["links"]).is_empty() {
                found.push(format!("{title:?}: it does not link to the details"));
            }
            for link in array(&panel["links"]) {
                found.extend(
                    link_fault(text(&link["url"]), &variables).map(|fault| format!("{title:?}: {fault}")),
                );
            }
        }
        for annotation in array(&dashboard["annotations"]["list"]) {
            let name = text(&annotation["name"]);
            found.extend(
                target_faults(&annotation["target"]).into_iter().map(|fault| format!("{name:?}: {fault}")),
            );
        }
        let mut used = Vec::new();
        variables_in(dashboard, &mut used);
        for name in used {
            if !of_this.contains(&name) && !BUILT_IN.contains(&name) {
                found.push(format!("uses ${name}, which is no variable"));
            }
        }
        faults.extend(found.into_iter().map(|fault| format!("{file}: {fault}")));
    }
    faults
}

/// The PromQL of all panels and annotations.
pub(super) fn expressions(dashboard: &Value) -> Vec<String> {
    let targets = panels(dashboard).into_iter().flat_map(|panel| array(&panel["targets"]));
    let annotations = array(&dashboard["annotations"]["list"]).iter().map(|annotation| &annotation["target"]);
    targets.chain(annotations).map(|target| text(&target["expr"]).to_owned()).collect()
}

/// Of all panels and rows.
pub(super) fn titles(dashboard: &Value) -> Vec<&str> {
    panels(dashboard).into_iter().map(|panel| text(&panel["title"])).collect()
}

/// The panels and rows, those within closed rows too.
fn panels(dashboard: &Value) -> Vec<&Value> {
    array(&dashboard["panels"])
        .iter()
        .flat_map(|panel| std::iter::once(panel).chain(array(&panel["panels"])))
        .collect()
}

fn names(dashboard: &Value) -> Vec<&str> {
    array(&dashboard["templating"]["list"]).iter().map(|variable| text(&variable["name"])).collect()
}

fn panel_faults(panel: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if !text(&panel["title"]).ends_with('?') {
        faults.push("its title is not the question that it answers".to_owned());
    }
    let place = |key: &str| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX / 2);
    if place("x") + place("w") > 24 {
        faults.push("it is wider than the page".to_owned());
    }
    if panel["type"] == "row" {
        return faults;
    }
    let defaults = &panel["fieldConfig"]["defaults"];
    if text(&panel["description"]).is_empty() {
        faults.push("it has no description".to_owned());
    }
    if text(&defaults["unit"]).is_empty() {
        faults.push("it has no unit".to_owned());
    }
    if array(&defaults["thresholds"]["steps"]).is_empty() {
        faults.push("it has no thresholds".to_owned());
    }
    if array(&panel["targets"]).is_empty() {
        faults.push("it has no expression".to_owned());
    }
    faults.extend(array(&panel["targets"]).iter().flat_map(target_faults));
    faults
}

fn target_faults(target: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let expression = text(&target["expr"]);
    if text(&target["datasource"]["uid"]) != "${datasource}" {
        faults.push("it does not read from $datasource".to_owned());
    }
    if expression.matches("monthend_").count() != expression.matches(r#"{namespace="$namespace""#).count() {
        faults.push(format!("not each metric is of $namespace: {expression}"));
    }
    for range in expression.split('[').skip(1).map(|rest| rest.split(']').next().unwrap_or(rest)) {
        if !RANGES.contains(&range) {
            faults.push(format!("[{range}] is none of {RANGES:?}: {expression}"));
        }
    }
    if expression.contains("$__rate_interval") && text(&target["interval"]) != STEP {
        faults.push(format!("with $__rate_interval, its interval must be {STEP}: {expression}"));
    }
    faults
}

/// A link leads to a dashboard of these, and carries only variables that it has.
fn link_fault(url: &str, variables: &BTreeMap<&str, Vec<&str>>) -> Option<String> {
    let (uid, query) = url.strip_prefix("/d/").and_then(|rest| rest.split_once('?')).unwrap_or_default();
    let Some(known) = variables.get(uid) else {
        return Some(format!("links to {url}, which is no dashboard"));
    };
    let carried = query.split("${").skip(1).filter_map(|rest| rest.split_once(":queryparam}"));
    let unknown: Vec<&str> = carried.map(|(name, _)| name).filter(|name| !known.contains(name)).collect();
    (!unknown.is_empty())
        .then(|| format!("links to {uid} with the variables {unknown:?}, which it does not have"))
}

/// The names behind `$` in every text.
fn variables_in<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.extend(text.split('$').skip(1).filter_map(|rest| {
            let rest = rest.strip_prefix('{').unwrap_or(rest);
            let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
            // `$__all` is a value, of a variable with every value.
            (!name.is_empty() && name != "__all").then_some(name)
        })),
        Value::Array(values) => values.iter().for_each(|value| variables_in(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| variables_in(value, found)),
        _ => {}
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The smallest dashboards without a fault.
    fn dashboards() -> Dashboards {
        let dashboard = |(uid, names): (&str, &[&str])| {
            let variables: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            let target = json!({
                "expr": r#"rate(monthend_a_total{namespace="$namespace"}[$__rate_interval])"#,
                "datasource": {"uid": "${datasource}"},
                "interval": "30s",
            });
            let dashboard = json!({
                "uid": uid,
                "templating": {"list": variables},
                "annotations": {"list": [{"name": "Run starts", "target": target}]},
                "panels": [
                    {"type": "row", "id": 1, "title": "What is it?", "gridPos": {"x": 0, "w": 24}},
                    {
                        "type": "stat", "id": 2, "title": "How fast?", "description": "Of all.", "gridPos": {"x": 12, "w": 12},
                        "links": [{"url": "/d/monthend-billing?${namespace:queryparam}&${__url_time_range}"}],
                        "targets": [target],
                        "fieldConfig": {"defaults": {"unit": "ops", "thresholds": {"steps": [{"color": "green"}]}}},
                    },
                ],
            });
            (format!("{uid}.json"), dashboard)
        };
        VARIABLES.into_iter().map(dashboard).collect()
    }

    #[test]
    fn dashboards_that_follow_the_rules_have_no_faults() {
        assert_eq!(faults(&dashboards()), Vec::<String>::new());
    }

    #[test]
    fn each_fault_is_named_with_its_file_and_panel() {
        let expression = r#"rate(monthend_a_total{namespace="$namespace"}[15s])"#;
        for (pointer, value, fault) in [
            ("/uid", json!("other"), "has the uid \"other\""),
            ("/panels/0/title", json!("Billing"), "\"Billing\": its title is not the question"),
            ("/panels/1/title", json!("Speed"), "\"Speed\": its title is not the question"),
            ("/panels/1/id", json!(1), "another panel has its id"),
            ("/panels/1/gridPos/x", json!(13), "it is wider than the page"),
            ("/panels/1/description", json!(""), "it has no description"),
            ("/panels/1/fieldConfig/defaults/unit", Value::Null, "it has no unit"),
            ("/panels/1/fieldConfig/defaults/thresholds/steps", json!([]), "it has no thresholds"),
            ("/panels/1/targets", json!([]), "it has no expression"),
            ("/panels/1/targets/0/expr", json!(expression), "[15s] is none of"),
            (
                "/panels/1/targets/0/expr",
                json!("monthend_a{month=\"1\"}"),
                "not each metric is of $namespace",
            ),
            ("/panels/1/targets/0/interval", Value::Null, "its interval must be 30s"),
            ("/panels/1/targets/0/datasource/uid", json!("prometheus"), "it does not read from $datasource"),
            ("/panels/1/links", json!([]), "it does not link to the details"),
            (
                "/panels/1/links/0/url",
                json!("/d/monthend?a"),
                "links to /d/monthend?a, which is no dashboard",
            ),
            (
                "/panels/1/links/0/url",
                json!("/d/monthend-operator?${month:queryparam}"),
                "with the variables [\"month\"]",
            ),
            ("/panels/1/description", json!("Of run $run."), "uses $run, which is no variable"),
            ("/annotations/list/0/target/expr", json!(expression), "\"Run starts\": [15s] is none of"),
            ("/templating/list/3/name", json!("run"), "has the variables"),
        ] {
            let mut changed = dashboards();
            let dashboard = changed.get_mut("monthend-month.json").unwrap();
            *dashboard.pointer_mut(pointer).unwrap() = value;
            let found = faults(&changed);
            assert!(
                found.iter().any(|found| found.starts_with("monthend-month") && found.contains(fault)),
                "{pointer}: {found:?}"
            );
        }
    }

    #[test]
    fn a_dashboard_that_is_missing_is_named() {
        let mut some = dashboards();
        some.remove("monthend-operator.json");
        assert_eq!(faults(&some), ["monthend-operator: there is no such dashboard"]);
    }

    #[test]
    fn expressions_and_titles_are_those_of_closed_rows_too() {
        let dashboard = json!({"panels": [{"type": "row", "title": "A?", "panels": [{"title": "B?", "targets": [{"expr": "x"}]}]}],
                               "annotations": {"list": [{"target": {"expr": "y"}}]}});
        assert_eq!(expressions(&dashboard), ["x", "y"]);
        assert_eq!(titles(&dashboard), ["A?", "B?"]);
    }
}
