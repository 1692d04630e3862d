//! Types for numbers that must not be confused: member ids, adjustment ids, load numbers,
//! revisions.
//!
//! Each is positive by construction.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{given}` is not a whole number from 1 to {max} in plain digits")]
pub struct InvalidId {
    what: &'static str,
    given: String,
    max: i64,
}

/// Parses a whole number from 0 to 2^63 − 1 in plain digits, without sign, blanks or separators.
pub fn parse_plain_digits(text: &str) -> Option<i64> {
    // The standard parser also accepts a sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

macro_rules! positive_number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $name($inner);

        impl $name {
            pub const FIRST: Self = Self(1);
            pub const LAST: Self = Self(<$inner>::MAX);

            pub const fn get(self) -> $inner {
                self.0
            }

            /// The next number, or none at the end of the range.
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl TryFrom<i64> for $name {
            type Error = InvalidId;

            fn try_from(number: i64) -> Result<Self, InvalidId> {
                <$inner>::try_from(number).ok().filter(|n| *n > 0).map(Self).ok_or_else(|| InvalidId {
                    what: $what,
                    given: number.to_string(),
                    max: <$inner>::MAX.into(),
                })
            }
        }

        impl From<$name> for i64 {
            fn from(number: $name) -> i64 {
                number.0.into()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_plain_digits(text).and_then(|n| Self::try_from(n).ok()).ok_or_else(|| InvalidId {
                    what: $what,
                    given: text.to_owned(),
                    max: <$inner>::MAX.into(),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

positive_number! {
    /// The id of a customer. Ids can have gaps of any size.
    MemberId(i64), "member id"
}
positive_number! {
    /// The id of a one-off charge or credit.
    AdjustmentId(i64), "adjustment id"
}
positive_number! {
    /// The number of a load. Its rows count for every run whose cut-off is this number or higher.
    LoadNumber(i64), "load number"
}
positive_number! {
    /// The number of one complete set of a month's bills. Assigned at planning and never reused.
    Revision(i32), "revision"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_plain_digits_in_range() {
        assert_eq!("1".parse(), Ok(MemberId::FIRST));
        assert_eq!("9223372036854775807".parse(), Ok(MemberId::LAST));
        assert_eq!("007".parse::<MemberId>().map(MemberId::get), Ok(7));
        assert_eq!(MemberId::LAST.next(), None);
        for text in ["", "0", "-1", "+1", " 1", "1.0", "1_000", "9223372036854775808", "１"] {
            let error = text.parse::<MemberId>().unwrap_err().to_string();
            let expected = format!(
                "member id `{text}` is not a whole number from 1 to 9223372036854775807 in plain digits"
            );
            assert_eq!(error, expected);
        }
        assert!(Revision::try_from(i64::from(i32::MAX) + 1).is_err());
    }
}
