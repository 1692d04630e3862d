//! A limit that is a count or a percentage, compared exactly.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// `100`, or `0.1%` of a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Limit {
    Count(i64),
    Percent(String),
}

/// The text is not a percentage. The API server rejects it first; this is for objects that it did
/// not check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitError(String);

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither a count such as 100 nor a percentage such as \"0.1%\"", self.0)
    }
}

impl std::error::Error for LimitError {}

const PERCENT_DIGITS: usize = 6;

impl Limit {
    /// Whether `part` of `whole` is over the limit, compared exactly. Both are at least 0, and at
    /// most 2^100.
    ///
    /// # Errors
    /// The limit is a text that is not a percentage.
    pub fn is_exceeded(&self, part: impl Into<i128>, whole: impl Into<i128>) -> Result<bool, LimitError> {
        Ok(match self {
            Self::Count(most) => part.into() > i128::from(*most),
            // part / whole > percent / 100, in integers: the percentage is in millionths.
            Self::Percent(text) => part.into() * 100 * 1_000_000 > percent_millionths(text)? * whole.into(),
        })
    }
}

fn percent_millionths(text: &str) -> Result<i128, LimitError> {
    let invalid = || LimitError(text.to_owned());
    let number = text.strip_suffix('%').ok_or_else(invalid)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 3) || !digits(fraction, PERCENT_DIGITS) {
        return Err(invalid());
    }
    let millionths = format!("{whole}{fraction:0<PERCENT_DIGITS$}").parse::<i128>().map_err(|_| invalid())?;
    if millionths > 100_000_000 { Err(invalid()) } else { Ok(millionths) }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(text) => f.write_str(text),
        }
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true, "maxLength": 32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(text: &str) -> Limit {
        Limit::Percent(text.to_owned())
    }

    #[test]
    fn counts_and_percentages_are_exact_at_the_edge() {
        for (limit, part, whole, exceeded) in [
            (Limit::Count(0), 0_i64, 10_i64, false),
            (Limit::Count(0), 1, 10, true),
            (Limit::Count(5), 5, 5, false),
            (percent("0.1%"), 1000, 1_000_000, false),
            (percent("0.1%"), 1001, 1_000_000, true),
            (percent("0%"), 0, 0, false),
            (percent("0%"), 1, i64::MAX, true),
            (percent("100%"), i64::MAX, i64::MAX, false),
            (percent("99.999999%"), i64::MAX, i64::MAX, true),
            (percent("33.333333%"), 1, 3, true),
            (percent("33.333334%"), 1, 3, false),
        ] {
            assert_eq!(limit.is_exceeded(part, whole), Ok(exceeded), "{part} of {whole} against {limit}");
        }
    }

    #[test]
    fn amounts_may_exceed_64_bits() {
        let total = 1_i128 << 100;
        assert_eq!(percent("1%").is_exceeded(total / 100, total), Ok(false));
        assert_eq!(percent("1%").is_exceeded(total / 100 + 1, total), Ok(true));
        assert_eq!(Limit::Count(i64::MAX).is_exceeded(total, total), Ok(true));
    }

    #[test]
    fn an_invalid_percentage_is_quoted_in_the_error() {
        for text in ["", "%", "5", "-1%", "1.%", ".5%", "101%", "100.000001%", "1,5%", "0.0000001%", "１%"] {
            let error = percent(text).is_exceeded(1_i64, 1_i64).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{text:?} is neither a count such as 100 nor a percentage such as \"0.1%\"")
            );
        }
    }

    #[test]
    fn a_limit_is_read_as_a_count_or_a_percentage() {
        assert_eq!(serde_json::from_str::<Limit>("7").unwrap(), Limit::Count(7));
        assert_eq!(serde_json::from_str::<Limit>("\"0.5%\"").unwrap(), percent("0.5%"));
    }
}
