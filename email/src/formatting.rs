//! Writes amounts, dates, months and quantities with the formats of a language. Exact: must not use
//! floating point.

use domain::money::Currency;
use domain::month::BillingMonth;
use jiff::civil::Date;

use crate::formats::{DatePart, Formats, Forms, MoneyPart};

/// U+2212, because a hyphen is easily overlooked in front of a number.
const MINUS: char = '−';

/// `12,300원`, `₩12,300`, `$1,234.56`, `1.234,56 €`. The sign of a negative amount comes first.
pub(crate) fn money(out: &mut String, minor: i64, currency: Currency, formats: &Formats) {
    if minor < 0 {
        out.push(MINUS);
    }
    let unit = 10_u64.pow(u32::from(currency.exponent()));
    let minor = minor.unsigned_abs();
    formats.money(currency).write(out, |out, part| match part {
        MoneyPart::Code => out.push_str(currency.code()),
        MoneyPart::Amount => {
            grouped(out, minor / unit, &formats.group);
            if unit > 1 {
                out.push_str(&formats.decimal);
                padded(out, minor % unit, currency.exponent());
            }
        }
    });
}

/// `2026년 10월`, `October 2026`.
pub(crate) fn month(out: &mut String, month: BillingMonth, formats: &Formats) {
    let first = month.first_day();
    formats.month.write(out, |out, part| date_part(out, part, first, Formats::month_name, formats));
}

/// `2026년 10월 1일`, `October 1, 2026`.
pub(crate) fn date(out: &mut String, date: Date, formats: &Formats) {
    formats.date.write(out, |out, part| date_part(out, part, date, Formats::month_name_in_date, formats));
}

fn date_part(
    out: &mut String,
    part: DatePart,
    date: Date,
    name: impl Fn(&Formats, usize) -> &str,
    formats: &Formats,
) {
    let (month, day) = (u64::from(date.month().unsigned_abs()), u64::from(date.day().unsigned_abs()));
    match part {
        DatePart::Year => padded(out, u64::from(date.year().unsigned_abs()), 4),
        DatePart::Month => grouped(out, month, ""),
        DatePart::PaddedMonth => padded(out, month, 2),
        DatePart::MonthName => out.push_str(name(formats, usize::from(date.month().unsigned_abs()))),
        DatePart::Day => grouped(out, day, ""),
        DatePart::PaddedDay => padded(out, day, 2),
    }
}

/// A quantity of usage in the units of its kind: `2시간 30분`, `1.65 GB`, `40 messages`. For an
/// unknown kind the plain number.
pub(crate) fn quantity(out: &mut String, raw: i64, kind: &str, formats: &Formats) {
    // Quantities are never negative. A negative one would be shown with its sign and not as a large
    // number.
    if raw < 0 {
        out.push(MINUS);
    }
    let raw = raw.unsigned_abs();
    match kind {
        "voice" => duration(out, raw, formats),
        "data" => bytes(out, raw, formats),
        _ => match formats.quantity(kind) {
            Some(forms) => counted(out, raw, forms, formats),
            None => grouped(out, raw, &formats.group),
        },
    }
}

fn counted(out: &mut String, number: u64, forms: &Forms, formats: &Formats) {
    forms.of(number).write(out, |out, _| grouped(out, number, &formats.group));
}

/// `1,234,567`.
fn grouped(out: &mut String, number: u64, separator: &str) {
    let mut text = [0_u8; 20];
    let (mut at, mut rest) = (text.len(), number);
    loop {
        at -= 1;
        text[at] = digit(rest % 10);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = &text[at..];
    for (index, byte) in digits.iter().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push_str(separator);
        }
        out.push(char::from(*byte));
    }
}

fn duration(out: &mut String, seconds: u64, formats: &Formats) {
    let parts = [seconds / 3600, seconds / 60 % 60, seconds % 60];
    let mut first = true;
    for (index, (part, forms)) in parts.into_iter().zip(&formats.duration).enumerate() {
        if part == 0 && !(seconds == 0 && index == 2) {
            continue;
        }
        if !first {
            out.push_str(&formats.duration_separator);
        }
        first = false;
        counted(out, part, forms, formats);
    }
}

/// In the largest unit with a value of at least 1, with up to two decimals. 1 GB is 1024 MB, as in
/// allowances.
fn bytes(out: &mut String, bytes: u64, formats: &Formats) {
    let hundredths = |shift: u32| (u128::from(bytes) * 100 + ((1_u128 << shift) >> 1)) >> shift;
    let mut unit = 0;
    let mut shift = 0;
    // A value that rounds to 1024 is written as 1 of the next unit.
    while unit + 1 < formats.data.len() && hundredths(shift) >= 1024 * 100 {
        unit += 1;
        shift += 10;
    }
    let value = hundredths(shift);
    formats.data[unit].write(out, |out, _| {
        grouped(out, u64::try_from(value / 100).unwrap_or(u64::MAX), &formats.group);
        let fraction = u64::try_from(value % 100).unwrap_or_default();
        if fraction > 0 {
            out.push_str(&formats.decimal);
            out.push(char::from(digit(fraction / 10)));
            if fraction % 10 > 0 {
                out.push(char::from(digit(fraction % 10)));
            }
        }
    });
}

fn padded(out: &mut String, number: u64, digits: u16) {
    for place in (0..u32::from(digits)).rev() {
        out.push(char::from(digit(number / 10_u64.pow(place) % 10)));
    }
}

fn digit(below_ten: u64) -> u8 {
    b'0' + u8::try_from(below_ten).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use domain::locale::Locale;
    use jiff::civil;
    use proptest::prelude::*;

    use super::*;
    use crate::formats::built_in;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    fn formats(locale: Locale) -> Formats {
        Formats::parse(built_in(locale).unwrap()).unwrap()
    }

    fn money_in(code: &str, minor: i64, locale: Locale) -> String {
        text(|out| money(out, minor, code.parse().unwrap(), &formats(locale)))
    }

    #[test]
    fn formats_amounts() {
        let cases = [
            ("KRW", 0, "0원", "₩0"),
            ("KRW", 999, "999원", "₩999"),
            ("KRW", 12_300, "12,300원", "₩12,300"),
            ("KRW", -5_589, "−5,589원", "−₩5,589"),
            ("USD", 123_456, "$1,234.56", "$1,234.56"),
            ("USD", 5, "$0.05", "$0.05"),
            ("USD", -120_500_000, "−$1,205,000.00", "−$1,205,000.00"),
            ("JPY", 1_000, "¥1,000", "¥1,000"),
            ("EUR", 100, "€1.00", "€1.00"),
            ("GBP", 199, "£1.99", "£1.99"),
            ("CHF", 123_450, "CHF\u{a0}1,234.50", "CHF\u{a0}1,234.50"),
            ("BHD", -1_001, "−BHD\u{a0}1.001", "−BHD\u{a0}1.001"),
            ("CLF", 123_456_789, "CLF\u{a0}12,345.6789", "CLF\u{a0}12,345.6789"),
            ("KRW", i64::MAX, "9,223,372,036,854,775,807원", "₩9,223,372,036,854,775,807"),
            ("KRW", i64::MIN, "−9,223,372,036,854,775,808원", "−₩9,223,372,036,854,775,808"),
        ];
        for (code, minor, ko, en) in cases {
            assert_eq!(money_in(code, minor, Locale::KO), ko);
            assert_eq!(money_in(code, minor, Locale::EN), en);
        }
    }

    #[test]
    fn formats_months_and_dates() {
        let (korean, english) = (formats(Locale::KO), formats(Locale::EN));
        let october: BillingMonth = "2026-10".parse().unwrap();
        assert_eq!(text(|out| month(out, october, &korean)), "2026년 10월");
        assert_eq!(text(|out| month(out, october, &english)), "October 2026");
        for (day, ko, en) in [
            (civil::date(2026, 10, 1), "2026년 10월 1일", "October 1, 2026"),
            (civil::date(2028, 2, 29), "2028년 2월 29일", "February 29, 2028"),
        ] {
            assert_eq!(text(|out| date(out, day, &korean)), ko);
            assert_eq!(text(|out| date(out, day, &english)), en);
        }
    }

    #[test]
    fn formats_quantities_in_units_of_their_kind() {
        const GB: i64 = 1 << 30;
        let (korean, english) = (formats(Locale::KO), formats(Locale::EN));
        let cases = [
            ("voice", 0, "0초", "0 s"),
            ("voice", 59, "59초", "59 s"),
            ("voice", 60, "1분", "1 min"),
            ("voice", 9_000, "2시간 30분", "2 h 30 min"),
            ("voice", 3_605, "1시간 5초", "1 h 5 s"),
            ("voice", 4_877, "1시간 21분 17초", "1 h 21 min 17 s"),
            ("voice", 3_600_000, "1,000시간", "1,000 h"),
            ("data", 0, "0 B", "0 B"),
            ("data", 1_023, "1,023 B", "1,023 B"),
            ("data", 1_536, "1.5 KB", "1.5 KB"),
            ("data", 1 << 20, "1 MB", "1 MB"),
            ("data", GB - 1, "1 GB", "1 GB"),
            ("data", 2 * GB, "2 GB", "2 GB"),
            ("data", 1_766_478_485, "1.65 GB", "1.65 GB"),
            ("data", 1_500 * GB, "1,500 GB", "1,500 GB"),
            ("data", i64::MAX, "8,589,934,592 GB", "8,589,934,592 GB"),
            ("sms", 0, "0건", "0 messages"),
            ("sms", 1, "1건", "1 message"),
            ("sms", 1_040, "1,040건", "1,040 messages"),
            ("roaming_days", 1_234, "1,234", "1,234"),
            ("other", -1, "−1", "−1"),
        ];
        for (kind, raw, ko, en) in cases {
            assert_eq!(text(|out| quantity(out, raw, kind, &korean)), ko, "{kind} {raw}");
            assert_eq!(text(|out| quantity(out, raw, kind, &english)), en, "{kind} {raw}");
        }
    }

    #[test]
    fn names_usage_kinds() {
        assert_eq!(formats(Locale::KO).usage_kind("voice"), Some("음성"));
        assert_eq!(formats(Locale::EN).usage_kind("sms"), Some("Messages"));
        assert_eq!(formats(Locale::KO).usage_kind("roaming"), None);
    }

    proptest! {
        #[test]
        fn formatted_amounts_keep_sign_and_digits(
            minor in any::<i64>(),
            code in prop::sample::select(vec!["KRW", "USD", "CHF", "BHD", "CLF"]),
            locale in prop::sample::select(vec![Locale::KO, Locale::EN]),
        ) {
            let written = money_in(code, minor, locale);
            let digits: String = written.chars().filter(char::is_ascii_digit).collect();
            let read: i128 = digits.parse().unwrap();
            let sign = if written.starts_with(MINUS) { -1 } else { 1 };
            prop_assert_eq!(sign * read, i128::from(minor), "{}", written);
            let fraction = written.split_once('.').map_or(0, |(_, after)| after.chars().filter(char::is_ascii_digit).count());
            prop_assert_eq!(fraction, usize::from(code.parse::<Currency>().unwrap().exponent()));
        }
    }
}
