//! From the chart's PodTemplate to the pod of one command.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use kube::ResourceExt as _;
use kube::core::ObjectMeta;

use crate::exit::{Problem, Result};

/// The only container of the template.
pub(super) const CONTAINER: &str = "toolbox";

/// What a pod is to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    /// The sub-command of `monthend` and its options.
    pub(crate) args: &'a [String],
    /// Whether it reads standard input.
    pub(crate) stdin: bool,
    /// After this time Kubernetes ends the pod, also if nobody is there to delete it.
    pub(crate) time_limit: Duration,
}

/// The template of the release, or of the only one.
pub(super) fn choose<'a>(
    templates: &'a [PodTemplate],
    release: Option<&str>,
    namespace: &str,
) -> Result<&'a PodTemplate> {
    let of =
        |template: &PodTemplate| template.labels().get(api::labels::INSTANCE).cloned().unwrap_or_default();
    let mut releases: Vec<String> = templates.iter().map(of).collect();
    releases.sort();
    let releases = releases.join(", ");
    if templates.is_empty() {
        return Err(Problem::usage(format!(
            "no release of monthend is in namespace {namespace}: choose its namespace with -n, or upgrade the \
             release to a chart with a PodTemplate for this command"
        )));
    }
    match release {
        Some(release) => templates.iter().find(|template| of(template) == release).ok_or_else(|| {
            Problem::usage(format!("namespace {namespace} has no release {release}: there is {releases}"))
        }),
        None => match templates {
            [only] => Ok(only),
            _ => Err(Problem::usage(format!(
                "namespace {namespace} has several releases, choose one with --release: {releases}"
            ))),
        },
    }
}

/// The pod that runs the task.
pub(super) fn pod(template: &PodTemplate, task: &Task<'_>) -> Result<Pod> {
    let invalid = || {
        let name = template.name_any();
        Problem::failed(format!("the PodTemplate {name} has no container `{CONTAINER}`: upgrade the release"))
    };
    let of_pod = template.template.clone().unwrap_or_default();
    let labels = of_pod.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    let annotations = of_pod.metadata.and_then(|metadata| metadata.annotations);
    let mut spec = of_pod.spec.ok_or_else(invalid)?;
    spec.restart_policy = Some("Never".to_owned());
    spec.active_deadline_seconds = Some(i64::try_from(task.time_limit.as_secs()).unwrap_or(i64::MAX));
    let container = spec.containers.iter_mut().find(|container| container.name == CONTAINER);
    let container = container.ok_or_else(invalid)?;
    container.args = Some(task.args.to_vec());
    if task.stdin {
        container.stdin = Some(true);
        // The end of the connection is the end of the input.
        container.stdin_once = Some(true);
    }
    let command = task.args.first().map_or("check", String::as_str);
    let metadata = ObjectMeta {
        generate_name: Some(format!("{}-{command}-", template.name_any())),
        namespace: template.metadata.namespace.clone(),
        labels,
        annotations,
        ..ObjectMeta::default()
    };
    Ok(Pod { metadata, spec: Some(spec), status: None })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(in crate::pod) fn template(release: &str) -> PodTemplate {
        let labels = json!({"app.kubernetes.io/component": "toolbox", "app.kubernetes.io/instance": release});
        serde_json::from_value(json!({
            "metadata": {"name": format!("{release}-toolbox"), "namespace": "billing", "labels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never", "serviceAccountName": "monthend-worker",
                    "containers": [{"name": "toolbox", "image": "monthend:1", "command": ["/usr/local/bin/monthend"],
                                    "args": ["check"], "env": [{"name": "TMPDIR", "value": "/work"}]}],
                },
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_pod_is_the_template_with_another_command() {
        let args = ["explain".to_owned(), "1042".to_owned(), "2026-10".to_owned()];
        let task = Task { args: &args, stdin: false, time_limit: Duration::from_secs(60) };
        let pod = serde_json::to_value(pod(&template("monthend"), &task).unwrap()).unwrap();
        assert_eq!(
            pod,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "generateName": "monthend-toolbox-explain-", "namespace": "billing",
                    "labels": {"app.kubernetes.io/component": "toolbox", "app.kubernetes.io/instance": "monthend"},
                },
                "spec": {
                    "activeDeadlineSeconds": 60, "restartPolicy": "Never", "serviceAccountName": "monthend-worker",
                    "containers": [{"name": "toolbox", "image": "monthend:1", "command": ["/usr/local/bin/monthend"],
                                    "args": ["explain", "1042", "2026-10"],
                                    "env": [{"name": "TMPDIR", "value": "/work"}]}],
                },
            })
        );
    }

    #[test]
    fn a_load_reads_its_input_once() {
        let args = ["load".to_owned(), "-".to_owned()];
        let task = Task { args: &args, stdin: true, time_limit: Duration::from_secs(60) };
        let pod = serde_json::to_value(pod(&template("monthend"), &task).unwrap()).unwrap();
        let container = &pod["spec"]["containers"][0];
        assert_eq!((&container["stdin"], &container["stdinOnce"]), (&Value::Bool(true), &Value::Bool(true)));
    }

    #[test]
    fn a_template_of_another_kind_is_refused() {
        let mut other = template("monthend");
        other.template.as_mut().unwrap().spec.as_mut().unwrap().containers[0].name = "other".to_owned();
        let task = Task { args: &[], stdin: false, time_limit: Duration::from_secs(60) };
        assert_eq!(
            pod(&other, &task).unwrap_err().text,
            "the PodTemplate monthend-toolbox has no container `toolbox`: upgrade the release"
        );
    }

    #[test]
    fn the_release_has_to_be_clear() {
        let (one, two) = (template("one"), template("two"));
        let text =
            |templates: &[PodTemplate], release| choose(templates, release, "billing").unwrap_err().text;
        assert_eq!(
            text(&[], None),
            "no release of monthend is in namespace billing: choose its namespace with -n, or upgrade the release \
             to a chart with a PodTemplate for this command"
        );
        let both = [two, one.clone()];
        assert_eq!(
            text(&both, None),
            "namespace billing has several releases, choose one with --release: one, two"
        );
        assert_eq!(text(&both, Some("three")), "namespace billing has no release three: there is one, two");
        assert_eq!(choose(&both, Some("one"), "billing").unwrap().name_any(), "one-toolbox");
        assert_eq!(choose(&[one], None, "billing").unwrap().name_any(), "one-toolbox");
    }
}
