//! What a schedule's runs are made of: the spec of a run without the fields that the schedule sets,
//! or has no use for. The schema is derived from the spec's own, so that a template has every other
//! field, with the same description and rules.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::{BillingRunSpec, NotificationRunSpec};

const RULES: &str = "x-kubernetes-validations";
/// The month that the spec inside a template has until a run is made of it.
const NO_MONTH: &str = "2000-01";
/// Sentences of descriptions that do not hold for a template, which can be changed.
const OF_RUNS_ONLY: [&str; 2] =
    [" Required, except with rollback, which needs no price book.", " Immutable."];

/// The spec of a kind of run that schedules create.
pub trait Templated: Serialize + DeserializeOwned + JsonSchema {
    /// The fields that a template has not, as they are written. The month is one of them.
    const LEFT_OUT: &'static [&'static str];
    /// The fields without which no run can start, with the message that says so.
    const REQUIRED: &'static [(&'static str, &'static str)];

    fn set_month(&mut self, month: String);
}

impl Templated for BillingRunSpec {
    const LEFT_OUT: &'static [&'static str] = &["month", "rebill", "rollback", "scope", "approval"];
    const REQUIRED: &'static [(&'static str, &'static str)] =
        &[("priceBookRef", "billing.priceBookRef must name the ConfigMap with the price book")];

    fn set_month(&mut self, month: String) {
        self.month = month;
    }
}

impl Templated for NotificationRunSpec {
    const LEFT_OUT: &'static [&'static str] = &["month", "select"];
    const REQUIRED: &'static [(&'static str, &'static str)] = &[];

    fn set_month(&mut self, month: String) {
        self.month = month;
    }
}

pub type BillingTemplate = RunTemplate<BillingRunSpec>;
pub type NotificationTemplate = RunTemplate<NotificationRunSpec>;

/// The spec of a run of no month yet.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTemplate<S>(S);

impl<S: Templated + Clone> RunTemplate<S> {
    /// The spec of the run of this month, written YYYY-MM.
    pub fn of_month(&self, month: String) -> S {
        let mut spec = self.0.clone();
        spec.set_month(month);
        spec
    }
}

impl<S: Templated> Serialize for RunTemplate<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut spec = serde_json::to_value(&self.0).map_err(T::Error::custom)?;
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|name, _| !S::LEFT_OUT.contains(&name.as_str()));
        }
        spec.serialize(serializer)
    }
}

impl<'de, S: Templated> Deserialize<'de> for RunTemplate<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        fields.retain(|name, _| !S::LEFT_OUT.contains(&name.as_str()));
        fields.insert("month".to_owned(), json!(NO_MONTH));
        serde_json::from_value(Value::Object(fields)).map(Self).map_err(D::Error::custom)
    }
}

impl<S: Templated> JsonSchema for RunTemplate<S> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}Template", S::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = S::json_schema(generator).to_value();
        let left_out = |name: &Value| name.as_str().is_some_and(|name| S::LEFT_OUT.contains(&name));
        if let Some(fields) = schema["properties"].as_object_mut() {
            fields.retain(|name, _| !S::LEFT_OUT.contains(&name.as_str()));
        }
        if let Some(required) = schema["required"].as_array_mut() {
            required.retain(|name| !left_out(name));
        }
        if schema["required"].as_array().is_none_or(Vec::is_empty)
            && let Some(object) = schema.as_object_mut()
        {
            object.remove("required");
        }
        of_template(&mut schema);
        let mut rules = match schema[RULES].take() {
            Value::Array(rules) => rules,
            _ => Vec::new(),
        };
        rules.retain(|rule| !S::LEFT_OUT.iter().any(|field| names(rule, field)));
        rules.extend(S::REQUIRED.iter().map(|(field, message)| {
            json!({
                "rule": format!("has(self.{field})"), "message": message,
                "fieldPath": format!(".{field}"), "reason": "FieldValueRequired",
            })
        }));
        if let Some(object) = schema.as_object_mut() {
            object.remove(RULES);
            if !rules.is_empty() {
                object.insert(RULES.to_owned(), Value::Array(rules));
            }
        }
        Schema::try_from(schema).unwrap_or_default()
    }
}

/// Removes, at every depth, the rules that forbid a change, and the sentences about them.
fn of_template(node: &mut Value) {
    match node {
        Value::Object(fields) => {
            if let Some(Value::Array(rules)) = fields.get_mut(RULES) {
                rules.retain(|rule| !rule["rule"].as_str().unwrap_or_default().contains("oldSelf"));
                if rules.is_empty() {
                    fields.remove(RULES);
                }
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = OF_RUNS_ONLY
                    .iter()
                    .fold(text.replace('\n', " "), |text, sentence| text.replace(sentence, ""));
            }
            fields.values_mut().for_each(of_template);
        }
        Value::Array(items) => items.iter_mut().for_each(of_template),
        _ => {}
    }
}

/// Whether a rule of the spec reads this field of it.
fn names(rule: &Value, field: &str) -> bool {
    let text = rule["rule"].as_str().unwrap_or_default();
    text.split("self.").skip(1).any(|rest| {
        rest.strip_prefix(field).is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
    })
}
