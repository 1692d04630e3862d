//! Exact numbers for people: grouped by thousands, in the currency's main unit, cut off after some digits
//! with an ellipsis and never rounded silently.

use crate::money::{Currency, Decimal, Fraction};

/// Digits that are shown of a value that is not exact, beyond those of the minor unit.
const SHOWN: u32 = 4;
/// Digits of a rate, beyond those of the minor unit.
const OF_RATE: u32 = 6;

/// `1,234,567`.
pub(super) fn grouped(number: i128) -> String {
    let mut text = String::new();
    if number < 0 {
        text.push('−');
    }
    text.push_str(&group(number.unsigned_abs()));
    text
}

/// An amount of minor units in the main unit: `1,234.56`.
pub(super) fn amount(minor: i128, currency: Currency) -> String {
    expanded(minor, 1, currency.exponent().into(), 0, currency.exponent().into())
}

/// An exact amount in the main unit: `22,354.8387…`.
pub(super) fn exact_amount(value: Fraction, currency: Currency) -> String {
    let exponent = u32::from(currency.exponent());
    expanded(value.numerator(), value.denominator(), exponent, SHOWN, exponent)
}

/// A sum of rates in the main unit, in full: `8,163.54`.
pub(super) fn exact_price(value: Fraction, currency: Currency) -> String {
    let exponent = u32::from(currency.exponent());
    expanded(value.numerator(), value.denominator(), exponent, OF_RATE, exponent)
}

/// A rate in minor units as one in the main unit, in full: `22.53`.
pub(super) fn rate(rate: Decimal, currency: Currency) -> String {
    expanded(rate.millionths(), Decimal::SCALE, currency.exponent().into(), OF_RATE, 0)
}

/// A decimal without trailing zeros: `2.5`.
pub(super) fn decimal(value: Decimal) -> String {
    expanded(value.millionths(), Decimal::SCALE, 0, OF_RATE, 0)
}

/// A value without a unit: `1,454,746,987.3548…`.
pub(super) fn exact(value: Fraction) -> String {
    expanded(value.numerator(), value.denominator(), 0, SHOWN, 0)
}

/// `numerator / denominator / 10^exponent` with at most `exponent + more` and at least `least` digits.
fn expanded(numerator: i128, denominator: i128, exponent: u32, more: u32, least: u32) -> String {
    let mut text = String::new();
    if numerator < 0 {
        text.push('−');
    }
    let divisor = denominator.unsigned_abs() * 10_u128.pow(exponent);
    let whole = numerator.unsigned_abs() / divisor;
    let mut rest = numerator.unsigned_abs() % divisor;
    let mut digits = String::new();
    for _ in 0..exponent + more {
        rest *= 10;
        digits.push(char::from(b'0' + u8::try_from(rest / divisor).unwrap_or(9)));
        rest %= divisor;
    }
    if rest == 0 {
        let kept = digits.trim_end_matches('0').len().max(usize::try_from(least).unwrap_or(0));
        digits.truncate(kept);
    }
    text.push_str(&group(whole));
    if !digits.is_empty() {
        text.push('.');
        text.push_str(&digits);
    }
    if rest != 0 {
        text.push('…');
    }
    text
}

fn group(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_or_say_that_they_go_on() {
        let (krw, usd): (Currency, Currency) = ("KRW".parse().unwrap(), "USD".parse().unwrap());
        let of = |numerator, denominator| Fraction::new(numerator, denominator);
        assert_eq!(grouped(-1_234_567), "−1,234,567");
        assert_eq!(amount(61_110, krw), "61,110");
        assert_eq!((amount(-5, usd), amount(123_456, usd)), ("−0.05".to_owned(), "1,234.56".to_owned()));
        assert_eq!(exact_amount(of(33_000 * 21, 31), krw), "22,354.8387…");
        assert_eq!(exact_amount(of(33_000 * 21, 31), usd), "223.548387…");
        assert_eq!(exact_amount(of(3000, 2), usd), "15.00");
        assert_eq!(exact_amount(of(-1, 2), krw), "−0.5");
        assert_eq!(exact_price(of(8_163_540_000, Decimal::SCALE), krw), "8,163.54");
        assert_eq!(rate("22.53".parse().unwrap(), krw), "22.53");
        assert_eq!(rate("22.53".parse().unwrap(), usd), "0.2253");
        assert_eq!(decimal("10.500000".parse().unwrap()), "10.5");
        assert_eq!(exact(of(2_147_483_648 * 21, 31)), "1,454,746,987.3548…");
        assert_eq!(exact(of(i128::MAX, 1)), "170,141,183,460,469,231,731,687,303,715,884,105,727");
    }
}
