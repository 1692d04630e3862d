//! manifest.yaml: what the sender of the files says is in them. It is compared with what was read,
//! and every difference is reported.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::bail;
use domain::yaml::from_yaml;
use jiff::civil::Date;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::file::{File, Sums};

/// What the sender says about the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Where the files come from. Part of the identity of usage: two sources can use the same ids.
    pub(crate) source: String,
    claims: BTreeMap<File, Claim>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { source: "default".to_owned(), claims: BTreeMap::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "what the file holds: a mapping with rows, for usage also quantity and days"
)]
struct Claim {
    /// Data lines, rejects included.
    rows: Option<u64>,
    /// The sum for each kind.
    quantity: Option<BTreeMap<String, Sum>>,
    days: Option<Days>,
}

/// Local dates: `from` is inclusive, `to` is exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "days: a mapping with from and to")]
struct Days {
    from: Date,
    to: Date,
}

/// A sum of quantities, as a number or as text in digits. It can be larger than 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum(i128);

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SumVisitor)
    }
}

struct SumVisitor;

impl Visitor<'_> for SumVisitor {
    type Value = Sum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number that is not negative")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Sum, E> {
        Ok(Sum(number.into()))
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<Sum, E> {
        i128::try_from(number).map(Sum).map_err(|_| E::custom(format_args!("{number} is too large")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sum, E> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(E::invalid_value(Unexpected::Str(text), &self));
        }
        text.parse().map(Sum).map_err(|_| E::custom(format_args!("`{text}` is too large")))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping from the files' names to what they hold")]
struct Files {
    #[serde(rename = "members.csv", alias = "members")]
    members: Option<Claim>,
    #[serde(rename = "subscriptions.csv", alias = "subscriptions")]
    subscriptions: Option<Claim>,
    #[serde(rename = "grants.csv", alias = "grants")]
    grants: Option<Claim>,
    #[serde(rename = "adjustments.csv", alias = "adjustments")]
    adjustments: Option<Claim>,
    #[serde(rename = "usage.csv", alias = "usage")]
    usage: Option<Claim>,
}

/// Claims are under `files`; some senders write them beside `source` instead.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a manifest: a mapping with source and files")]
struct Document {
    source: Option<String>,
    files: Option<Files>,
    #[serde(rename = "members.csv", alias = "members")]
    members: Option<Claim>,
    #[serde(rename = "subscriptions.csv", alias = "subscriptions")]
    subscriptions: Option<Claim>,
    #[serde(rename = "grants.csv", alias = "grants")]
    grants: Option<Claim>,
    #[serde(rename = "adjustments.csv", alias = "adjustments")]
    adjustments: Option<Claim>,
    #[serde(rename = "usage.csv", alias = "usage")]
    usage: Option<Claim>,
}

impl Manifest {
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let Document { source, files, members, subscriptions, grants, adjustments, usage } =
            match from_yaml(text) {
                Ok(text) => text,
                Err(error) => bail!("manifest.yaml: {error}"),
            };
        let source = source.unwrap_or_else(|| Self::default().source);
        if source.is_empty() || source.chars().count() > 64 || source.chars().any(char::is_control) {
            bail!("manifest.yaml: source: must have 1 to 64 characters and no control character");
        }
        let mut claims = BTreeMap::new();
        let beside = [members, subscriptions, grants, adjustments, usage];
        let below = files
            .map_or([const { None }; 5], |f| [f.members, f.subscriptions, f.grants, f.adjustments, f.usage]);
        for (file, (beside, below)) in File::ALL.into_iter().zip(beside.into_iter().zip(below)) {
            let claim = match (beside, below) {
                (Some(_), Some(_)) => bail!("manifest.yaml: {file} occurs twice: keep the one under files"),
                (Some(claim), None) | (None, Some(claim)) => claim,
                (None, None) => continue,
            };
            if file != File::Usage && (claim.quantity.is_some() || claim.days.is_some()) {
                bail!("manifest.yaml: {file}: quantity and days are for usage.csv only");
            }
            if let Some(Days { from, to }) = &claim.days
                && to <= from
            {
                bail!("manifest.yaml: {file}: days: to {to} (exclusive) is not after from {from}");
            }
            claims.insert(file, claim);
        }
        Ok(Self { source, claims })
    }

    /// The local dates that the load covers; the second one is exclusive.
    pub(crate) fn days(&self) -> Option<(Date, Date)> {
        self.claims.get(&File::Usage)?.days.as_ref().map(|days| (days.from, days.to))
    }

    /// Whether checking it needs the sums of quantities and the days.
    pub(crate) fn needs_sums(&self) -> bool {
        self.claims.values().any(|claim| claim.quantity.is_some() || claim.days.is_some())
    }

    /// Every claim that differs from what was read.
    pub(crate) fn differences(&self, read: &BTreeMap<File, Sums>) -> Vec<String> {
        let mut differences = Vec::new();
        for (file, claim) in &self.claims {
            let Some(sums) = read.get(file) else {
                if claim.rows != Some(0) {
                    differences.push(format!("{file} is not in the folder"));
                }
                continue;
            };
            if let Some(rows) = claim.rows.filter(|rows| *rows != sums.rows) {
                differences.push(format!("{file} has {} rows, the manifest says {rows}", sums.rows));
            }
            if let Some(claimed) = &claim.quantity {
                for (kind, Sum(claimed)) in claimed {
                    let sum = sums.quantities.get(kind).copied().unwrap_or(0);
                    if sum != *claimed {
                        differences.push(format!("{file} has {sum} of {kind}, the manifest says {claimed}"));
                    }
                }
                for (kind, sum) in sums.quantities.iter().filter(|(kind, _)| !claimed.contains_key(*kind)) {
                    differences
                        .push(format!("{file} has {sum} of {kind}, the manifest does not name that kind"));
                }
            }
            if let (Some(Days { from, to }), Some((first, last))) = (&claim.days, sums.days)
                && (first < *from || last >= *to)
            {
                differences.push(format!(
                    "{file} has usage from {first} to {last}, the manifest says from {from} and before {to}"
                ));
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rows: u64) -> Sums {
        Sums {
            rows,
            quantities: BTreeMap::from([("voice".to_owned(), 1_i128 << 64), ("sms".to_owned(), 3)]),
            days: Some((jiff::civil::date(2026, 9, 30), jiff::civil::date(2026, 10, 31))),
            ..Sums::default()
        }
    }

    #[test]
    fn correct_claims_are_no_differences() {
        let forms = [
            "source: crm\nfiles:\n  members.csv: {rows: 5}\n  usage.csv:\n    rows: 4\n    \
             quantity: {voice: \"18446744073709551616\", sms: 3}\n    days: {from: 2026-09-30, to: 2026-11-01}\n",
            "members: {rows: 5}\nusage: {rows: 4}\nfiles: {grants: {rows: 0}}\n",
            "usage.csv: {quantity: {voice: 18446744073709551616, sms: \"3\"}}\n",
            "members.csv: {}\n",
            "",
            "source: default",
        ];
        for form in forms {
            let manifest = Manifest::read(form).unwrap();
            let read = BTreeMap::from([(File::Members, sums(5)), (File::Usage, sums(4))]);
            assert_eq!(manifest.differences(&read), Vec::<String>::new(), "{form}");
        }
        assert_eq!(Manifest::read(forms[0]).unwrap().source, "crm");
    }

    #[test]
    fn every_difference_is_reported() {
        let text = "files:\n  members.csv: {rows: 6}\n  grants.csv: {rows: 1}\n  usage.csv:\n    rows: 3\n    \
                    quantity: {voice: 18446744073709551615, data: 1}\n    days: {from: 2026-10-01, to: 2026-10-31}\n";
        let read = BTreeMap::from([(File::Members, sums(5)), (File::Usage, sums(4))]);
        assert_eq!(
            Manifest::read(text).unwrap().differences(&read),
            [
                "members.csv has 5 rows, the manifest says 6",
                "grants.csv is not in the folder",
                "usage.csv has 4 rows, the manifest says 3",
                "usage.csv has 0 of data, the manifest says 1",
                "usage.csv has 18446744073709551616 of voice, the manifest says 18446744073709551615",
                "usage.csv has 3 of sms, the manifest does not name that kind",
                "usage.csv has usage from 2026-09-30 to 2026-10-31, the manifest says from 2026-10-01 and before 2026-10-31",
            ]
        );
    }

    #[test]
    fn the_error_of_a_wrong_manifest_names_the_field() {
        let cases = [
            (
                "- a",
                "manifest.yaml: invalid type: sequence, expected a manifest: a mapping with source and files",
            ),
            ("source: \"\"", "manifest.yaml: source: must have 1 to 64 characters and no control character"),
            ("files: {members.csv: {rows: -1}}", "manifest.yaml: files.members.csv.rows: "),
            ("files: {members.csv: {rows: many}}", "manifest.yaml: files.members.csv.rows: "),
            ("files: {member.csv: {rows: 1}}", "manifest.yaml: files.member.csv: unknown field `member.csv`"),
            (
                "files: {members.csv: {lines: 1}}",
                "manifest.yaml: files.members.csv.lines: unknown field `lines`",
            ),
            (
                "members: {quantity: {voice: 1}}",
                "manifest.yaml: members.csv: quantity and days are for usage.csv only",
            ),
            (
                "usage: {days: {from: 2026-10-01, to: 2026-10-01}}",
                "manifest.yaml: usage.csv: days: to 2026-10-01 (exclusive) is not after from 2026-10-01",
            ),
            (
                "usage: {quantity: {voice: 1.5}}",
                "manifest.yaml: usage.quantity.voice: invalid type: floating point `1.5`, expected a whole number",
            ),
            (
                "usage: {quantity: {voice: -1}}",
                "manifest.yaml: usage.quantity.voice: invalid type: integer `-1`, expected a whole number",
            ),
            (
                "usage: {}\nfiles: {usage.csv: {}}",
                "manifest.yaml: usage.csv occurs twice: keep the one under files",
            ),
        ];
        for (text, message) in cases {
            let error = Manifest::read(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }
}
