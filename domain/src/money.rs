//! Amounts, exact decimals, rounding and currencies.
//!
//! Owns the product's only rounding rule. Must not use floating point.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A stored amount: a signed 64-bit count of the currency's smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MinorUnits(i64);

impl MinorUnits {
    pub const ZERO: Self = Self(0);

    pub const fn new(units: i64) -> Self {
        Self(units)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    /// The amount in the type of intermediate values.
    pub fn exact(self) -> i128 {
        i128::from(self.0)
    }
}

impl fmt::Display for MinorUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `numerator / denominator`, rounded half away from zero. The denominator must be positive.
pub(crate) fn div_round(numerator: i128, denominator: i128) -> i128 {
    debug_assert!(denominator > 0);
    let (quotient, rest) = (numerator / denominator, (numerator % denominator).abs());
    // `2 * rest` could overflow 128 bits.
    if rest >= denominator - rest { quotient + numerator.signum() } else { quotient }
}

/// An exact intermediate value. It keeps its numerator and denominator as they were computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    /// The denominator must be positive.
    pub(crate) fn new(numerator: i128, denominator: i128) -> Self {
        debug_assert!(denominator > 0);
        Self { numerator, denominator }
    }

    pub fn numerator(self) -> i128 {
        self.numerator
    }

    pub fn denominator(self) -> i128 {
        self.denominator
    }

    /// Half away from zero.
    pub(crate) fn rounded(self) -> i128 {
        div_round(self.numerator, self.denominator)
    }

    /// Toward zero.
    pub(crate) fn truncated(self) -> i128 {
        self.numerator / self.denominator
    }
}

/// A non-negative number with at most six fraction digits, stored as an exact count of millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(i128);

impl Decimal {
    /// Millionths in one.
    pub const SCALE: i128 = 1_000_000;

    const MAX_WHOLE: i128 = i64::MAX as i128;

    pub const fn millionths(self) -> i128 {
        self.0
    }

    pub fn from_whole(whole: u32) -> Self {
        Self(i128::from(whole) * Self::SCALE)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("`{0}` is not a decimal in plain digits with at most 6 fraction digits, such as \"1.98\"")]
    Malformed(String),
    #[error("must not be negative")]
    Negative,
    #[error("`{0}` is too large: the whole part must be at most 9223372036854775807")]
    TooLarge(String),
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let malformed = || DecimalError::Malformed(text.to_owned());
        if let Some(rest) = text.strip_prefix('-') {
            // A minus sign before anything but a number is malformed, not negative.
            return Err(rest.parse::<Self>().map_or_else(|_| malformed(), |_| DecimalError::Negative));
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(malformed()),
            None => (text, ""),
        };
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let padded = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || padded || !digits(whole) || !digits(fraction) || fraction.len() > 6 {
            return Err(malformed());
        }
        let too_large = || DecimalError::TooLarge(text.to_owned());
        let whole: i128 = whole.parse().map_err(|_| too_large())?;
        if whole > Self::MAX_WHOLE {
            return Err(too_large());
        }
        let fraction = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
        let fraction = fraction.fold(0, |value, digit| value * 10 + i128::from(digit - b'0'));
        Ok(Self(whole * Self::SCALE + fraction))
    }
}

/// A currency of ISO 4217 that has a smallest unit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Currency {
    code: &'static str,
    exponent: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a currency code of ISO 4217 with a minor unit, such as KRW or USD")]
pub struct UnknownCurrency(String);

impl Currency {
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Decimal digits of the minor unit: 0 for KRW, 2 for USD.
    pub const fn exponent(&self) -> u16 {
        self.exponent
    }

    /// An amount in the currency's main unit, exact and without separators: `-12.05` for -1205 US
    /// cents.
    pub fn decimal(&self, minor: i128) -> String {
        let digits = usize::from(self.exponent);
        let padded = format!("{:0width$}", minor.unsigned_abs(), width = digits + 1);
        let (whole, fraction) = padded.split_at(padded.len() - digits);
        let sign = if minor < 0 { "-" } else { "" };
        let point = if digits == 0 { "" } else { "." };
        format!("{sign}{whole}{point}{fraction}")
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(code: &str) -> Result<Self, UnknownCurrency> {
        let unknown = || UnknownCurrency(code.to_owned());
        let currency = iso_currency::Currency::from_code(code).ok_or_else(unknown)?;
        Ok(Self { code: currency.code(), exponent: currency.exponent().ok_or_else(unknown)? })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_away_from_zero() {
        let cases = [
            (5, 10, 1),
            (4, 10, 0),
            (-5, 10, -1),
            (-4, 10, 0),
            (15, 10, 2),
            (-15, 10, -2),
            (0, 7, 0),
            (1, 3, 0),
        ];
        for (numerator, denominator, rounded) in cases {
            assert_eq!(div_round(numerator, denominator), rounded, "{numerator} / {denominator}");
        }
        assert_eq!(div_round(i128::MAX, i128::MAX), 1);
        assert_eq!(div_round(i128::MAX - 1, i128::MAX), 1);
    }

    #[test]
    fn parses_plain_decimals_exactly() {
        let cases =
            [("0", 0), ("22", 22_000_000), ("1.98", 1_980_000), ("0.000001", 1), ("10.500000", 10_500_000)];
        for (text, millionths) in cases {
            assert_eq!(text.parse(), Ok(Decimal(millionths)), "{text}");
        }
        assert_eq!("9223372036854775807.999999".parse(), Ok(Decimal(9_223_372_036_854_775_807_999_999)));
    }

    #[test]
    fn rejects_other_decimals() {
        let malformed =
            ["", ".5", "5.", "1.2345678", "1,98", "1e3", "+1", "007", "0x10", " 1", "--1", "-", "1.-2", "１"];
        for text in malformed {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::Malformed(text.to_owned())), "{text}");
        }
        assert_eq!("-0.5".parse::<Decimal>(), Err(DecimalError::Negative));
        for text in ["9223372036854775808", "1000000000000000000000000000000000000000000"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::TooLarge(text.to_owned())));
        }
    }

    #[test]
    fn accepts_currencies_with_a_minor_unit() {
        for (code, exponent) in [("KRW", 0), ("USD", 2), ("BHD", 3), ("CLF", 4)] {
            assert_eq!(code.parse::<Currency>().unwrap().exponent(), exponent);
        }
        for code in ["krw", "KR", "XAU", "XXX", ""] {
            assert_eq!(code.parse::<Currency>(), Err(UnknownCurrency(code.to_owned())));
        }
        let usd: Currency = "USD".parse().unwrap();
        let written = [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (-1205, "-12.05"), (123_456, "1234.56")];
        for (minor, text) in written {
            assert_eq!(usd.decimal(minor), text);
        }
        assert_eq!("KRW".parse::<Currency>().unwrap().decimal(-61110), "-61110");
    }
}
