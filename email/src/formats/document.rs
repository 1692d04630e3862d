//! The formats as they are written in YAML. Checks the structure and the types, not the values.

use std::fmt;
use std::marker::PhantomData;

use domain::yaml::unique_entries;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "the formats of a language: a mapping")]
pub(super) struct Document {
    pub(super) decimal_separator: String,
    pub(super) group_separator: String,
    /// By currency, and `default`.
    pub(super) money: Entries<String>,
    pub(super) month: String,
    pub(super) date: String,
    pub(super) month_names: Option<Vec<String>>,
    pub(super) month_names_in_dates: Option<Vec<String>>,
    pub(super) duration: Duration,
    pub(super) data: Data,
    #[serde(default)]
    pub(super) usage_kinds: Entries<UsageKind>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "the formats of a duration: a mapping")]
pub(super) struct Duration {
    pub(super) hours: RawForms,
    pub(super) minutes: RawForms,
    pub(super) seconds: RawForms,
    pub(super) separator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "the formats of data volumes: a mapping")]
pub(super) struct Data {
    pub(super) bytes: String,
    pub(super) kilobytes: String,
    pub(super) megabytes: String,
    pub(super) gigabytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a kind of usage: a mapping")]
pub(super) struct UsageKind {
    pub(super) name: String,
    pub(super) quantity: Option<RawForms>,
}

/// A mapping in the order it is written.
pub(super) struct Entries<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entries<T>, A::Error> {
                unique_entries(map).map(Entries)
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// One text for every number, or one for each number or ending.
pub(super) enum RawForms {
    OfEveryNumber(String),
    Each(Vec<(String, String)>),
}

impl<'de> Deserialize<'de> for RawForms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FormsVisitor;

        impl<'de> Visitor<'de> for FormsVisitor {
            type Value = RawForms;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text with {number}, or a mapping from numbers to texts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawForms, E> {
                Ok(RawForms::OfEveryNumber(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawForms, A::Error> {
                unique_entries(map).map(RawForms::Each)
            }
        }

        deserializer.deserialize_any(FormsVisitor)
    }
}
