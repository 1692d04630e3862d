//! Objects as YAML, JSON or names, as kubectl prints them.

use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::Value;

use crate::args::Output;
use crate::exit::{Problem, Result};

/// The object in this format; as a table, one line that says what became of it, as kubectl does.
pub(crate) fn object<K>(object: &K, output: Output, done: &str) -> Result<String>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let name = format!("{}.{}/{}", K::kind(&()).to_lowercase(), K::group(&()), object.name_any());
    match output {
        Output::Table => Ok(format!("{name} {done}\n")),
        Output::Name => Ok(format!("{name}\n")),
        Output::Json => json(object),
        Output::Yaml => yaml(object),
    }
}

/// Several objects: a list, or a name on each line.
pub(crate) fn list(objects: &[Value], output: Output) -> Result<String> {
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
    match output {
        Output::Json => json(&list),
        Output::Yaml => yaml(&list),
        Output::Name | Output::Table => Ok(objects
            .iter()
            .map(|object| {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let kind = text(&object["kind"]).to_lowercase();
                format!("{kind}.monthend.dev/{}\n", text(&object["metadata"]["name"]))
            })
            .collect()),
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Problem::failed(format!("cannot print as JSON: {error}")))
}

pub(crate) fn yaml(value: &impl Serialize) -> Result<String> {
    // Through JSON, so that the order of keys is that of the API server's answers.
    let value = serde_json::to_value(value).map_err(|error| Problem::failed(error.to_string()))?;
    serde_yaml::to_string(&value).map_err(|error| Problem::failed(format!("cannot print as YAML: {error}")))
}

#[cfg(test)]
mod tests {
    use api::billing_run::Phase;

    use super::*;
    use crate::plan::testing::billing_run;

    #[test]
    fn a_run_is_printed_in_each_format() {
        let mut run = billing_run("billing-2026-10", "2026-10", Phase::Pending, None);
        run.status = None;
        let printed = |output| object(&run, output, "created").unwrap();
        assert_eq!(printed(Output::Table), "billingrun.monthend.dev/billing-2026-10 created\n");
        assert_eq!(printed(Output::Name), "billingrun.monthend.dev/billing-2026-10\n");
        assert!(printed(Output::Json).contains("\"month\": \"2026-10\""));
        // A month is a text, also for those who read YAML 1.1.
        let yaml = printed(Output::Yaml);
        assert!(yaml.starts_with("apiVersion: monthend.dev/v1alpha1\nkind: BillingRun\n"), "{yaml}");
        assert!(yaml.contains("\n  month: 2026-10\n") || yaml.contains("\n  month: '2026-10'\n"), "{yaml}");
    }
}
