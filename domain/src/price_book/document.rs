//! The price book as it is written in YAML. Checks the structure and the types, not the values.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::problem::{PriceBookError, Problem};
use crate::yaml::{YamlError, from_yaml, unique_entries};

/// Parses the text. Every key must be known and appear once, no required key may be missing, and
/// every value must have its type.
pub(super) fn read(text: &str) -> Result<Book, PriceBookError> {
    from_yaml(text).map_err(|YamlError { path, reason }| PriceBookError(vec![Problem { path, reason }]))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a price book: a mapping")]
pub(super) struct Book {
    pub(super) version: String,
    pub(super) currency: String,
    pub(super) time_zone: String,
    pub(super) valid_from: String,
    pub(super) valid_to: Option<String>,
    pub(super) usage_kinds: Vec<UsageKind>,
    pub(super) plans: Vec<Plan>,
    #[serde(default)]
    pub(super) discounts: Vec<Discount>,
    pub(super) tax: Option<Tax>,
    pub(super) bill_rounding: Option<BillRounding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a plan: a mapping")]
pub(super) struct Plan {
    pub(super) code: String,
    pub(super) name: Option<Name>,
    #[serde(rename = "type", default)]
    pub(super) kind: PlanType,
    pub(super) base_fee: Whole,
    pub(super) usage: Option<UsageRates>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum PlanType {
    #[default]
    Base,
    Addon,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a rate: a mapping")]
pub(super) struct UsageRate {
    pub(super) allowance: Whole,
    pub(super) per: Whole,
    pub(super) tiers: Vec<Tier>,
    pub(super) cap: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a tier: a mapping")]
pub(super) struct Tier {
    pub(super) up_to: Option<Whole>,
    pub(super) rate: Quoted,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a discount: a mapping")]
pub(super) struct Discount {
    pub(super) code: String,
    pub(super) name: Option<Name>,
    pub(super) kind: DiscountKind,
    pub(super) value: Quoted,
    pub(super) applies_to: AppliesTo,
    pub(super) priority: Whole,
    #[serde(default)]
    pub(super) prorate: Prorate,
    pub(super) cap: Option<Whole>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum DiscountKind {
    Percent,
    Amount,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum AppliesTo {
    Base,
    Usage,
    Total,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum Prorate {
    #[default]
    Days,
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a tax: a mapping")]
pub(super) struct Tax {
    pub(super) rate: Quoted,
    pub(super) mode: TaxMode,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum TaxMode {
    Inclusive,
    Exclusive,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "a rounding: a mapping")]
pub(super) struct BillRounding {
    pub(super) unit: Whole,
    pub(super) mode: RoundingMode,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RoundingMode {
    Down,
    HalfUp,
}

/// A kind of usage: its code alone, or with a name.
pub(super) struct UsageKind {
    pub(super) kind: String,
    pub(super) name: Option<Name>,
}

impl<'de> Deserialize<'de> for UsageKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct WithName {
            kind: String,
            name: Option<Name>,
        }

        struct KindVisitor;

        impl<'de> Visitor<'de> for KindVisitor {
            type Value = UsageKind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a usage kind, or a mapping with its kind and name")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<UsageKind, E> {
                Ok(UsageKind { kind: text.to_owned(), name: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UsageKind, A::Error> {
                let WithName { kind, name } = WithName::deserialize(MapAccessDeserializer::new(map))?;
                Ok(UsageKind { kind, name })
            }
        }

        deserializer.deserialize_any(KindVisitor)
    }
}

/// One name for every language, or one for each, in the order they are written.
pub(super) enum Name {
    OfEveryLanguage(String),
    OfEach(Vec<(String, String)>),
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, or a mapping from languages to names")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Name, E> {
                Ok(Name::OfEveryLanguage(text.to_owned()))
            }

            // A whole number is the same as text. Of other values, the parser has lost how they were written.
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Name, E> {
                Ok(Name::OfEveryLanguage(number.to_string()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Name, E> {
                Ok(Name::OfEveryLanguage(number.to_string()))
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Name, E> {
                Err(E::custom("write this name in quotes"))
            }

            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Name, E> {
                Err(E::custom("write this name in quotes"))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Name, A::Error> {
                unique_entries(map).map(Name::OfEach)
            }
        }

        deserializer.deserialize_any(NameVisitor)
    }
}

/// A whole number, without quotes.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;

        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number up to 9223372036854775807, without quotes")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Whole, E> {
                let too_large = |_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                number.try_into().map(Whole).map_err(too_large)
            }
        }

        deserializer.deserialize_i64(WholeVisitor)
    }
}

/// A decimal that must be written in quotes, so that no YAML parser converts it to a binary float.
pub(super) enum Quoted {
    Text(String),
    Unquoted,
}

impl<'de> Deserialize<'de> for Quoted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QuotedVisitor;

        impl Visitor<'_> for QuotedVisitor {
            type Value = Quoted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal in quotes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quoted, E> {
                Ok(Quoted::Text(text.to_owned()))
            }

            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Quoted, E> {
                Ok(Quoted::Unquoted)
            }

            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Quoted, E> {
                Ok(Quoted::Unquoted)
            }

            fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Quoted, E> {
                Ok(Quoted::Unquoted)
            }

            fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Quoted, E> {
                Ok(Quoted::Unquoted)
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Quoted, E> {
                Ok(Quoted::Unquoted)
            }
        }

        // `deserialize_str` would also accept an unquoted number.
        deserializer.deserialize_any(QuotedVisitor)
    }
}

/// The rates of a plan by kind, in the order they are written.
pub(super) struct UsageRates(pub(super) Vec<(String, UsageRate)>);

impl<'de> Deserialize<'de> for UsageRates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RatesVisitor;

        impl<'de> Visitor<'de> for RatesVisitor {
            type Value = UsageRates;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping from usage kinds to rates")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UsageRates, A::Error> {
                unique_entries(map).map(UsageRates)
            }
        }

        deserializer.deserialize_map(RatesVisitor)
    }
}
