//! Amounts, dates, months and quantities formatted for a language. Exact: must not use floating
//! point.

use domain::locale::Locale;
use domain::money::Currency;
use domain::month::BillingMonth;
use jiff::civil::Date;

/// U+2212, because a hyphen is easily overlooked in front of a number.
const MINUS: char = '−';
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `12,300원`, `₩12,300`, `$1,234.56`, `CHF 1,234.56`. The sign of a negative amount comes first.
pub(crate) fn money(out: &mut String, minor: i64, currency: Currency, locale: Locale) {
    if minor < 0 {
        out.push(MINUS);
    }
    let (before, after) = match (currency.code(), locale) {
        ("KRW", Locale::Ko) => ("", "원"),
        ("KRW", Locale::En) => ("₩", ""),
        ("USD", _) => ("$", ""),
        ("EUR", _) => ("€", ""),
        ("GBP", _) => ("£", ""),
        ("JPY", _) => ("¥", ""),
        (code, _) => (code, ""),
    };
    out.push_str(before);
    if before.len() == 3 && before.is_ascii() {
        // A non-breaking space keeps the code and the amount on one line.
        out.push('\u{a0}');
    }
    let unit = 10_u64.pow(u32::from(currency.exponent()));
    let minor = minor.unsigned_abs();
    grouped(out, minor / unit);
    if unit > 1 {
        out.push('.');
        padded(out, minor % unit, currency.exponent());
    }
    out.push_str(after);
}

/// `2026년 10월`, `October 2026`.
pub(crate) fn month(out: &mut String, month: BillingMonth, locale: Locale) {
    let first = month.first_day();
    match locale {
        Locale::Ko => {
            year(out, first);
            out.push_str("년 ");
            unpadded(out, first.month());
            out.push('월');
        }
        Locale::En => {
            out.push_str(month_name(first));
            out.push(' ');
            year(out, first);
        }
    }
}

/// `2026년 10월 1일`, `October 1, 2026`.
pub(crate) fn date(out: &mut String, date: Date, locale: Locale) {
    match locale {
        Locale::Ko => {
            year(out, date);
            out.push_str("년 ");
            unpadded(out, date.month());
            out.push_str("월 ");
            unpadded(out, date.day());
            out.push('일');
        }
        Locale::En => {
            out.push_str(month_name(date));
            out.push(' ');
            unpadded(out, date.day());
            out.push_str(", ");
            year(out, date);
        }
    }
}

/// A quantity of usage in the units of its kind: `2시간 30분`, `1.65 GB`, `40 messages`. For an
/// unknown kind the plain number.
pub(crate) fn quantity(out: &mut String, raw: i64, kind: &str, locale: Locale) {
    // Quantities are never negative. A negative one would be shown with its sign and not as a large
    // number.
    if raw < 0 {
        out.push(MINUS);
    }
    let raw = raw.unsigned_abs();
    match kind {
        "voice" => duration(out, raw, locale),
        "data" => bytes(out, raw),
        "sms" => {
            grouped(out, raw);
            out.push_str(match (locale, raw) {
                (Locale::Ko, _) => "건",
                (Locale::En, 1) => " message",
                (Locale::En, _) => " messages",
            });
        }
        _ => grouped(out, raw),
    }
}

/// The name of a usage kind, or the kind itself where there is no translation.
pub(crate) fn usage_kind(kind: &str, locale: Locale) -> &str {
    match (kind, locale) {
        ("voice", Locale::Ko) => "음성",
        ("voice", Locale::En) => "Voice",
        ("data", Locale::Ko) => "데이터",
        ("data", Locale::En) => "Data",
        ("sms", Locale::Ko) => "문자",
        ("sms", Locale::En) => "Messages",
        (other, _) => other,
    }
}

/// `1,234,567`.
pub(crate) fn grouped(out: &mut String, number: u64) {
    // Twenty digits and six separators.
    let mut text = [0_u8; 26];
    let (mut at, mut rest, mut digits) = (text.len(), number, 0);
    loop {
        if digits > 0 && digits % 3 == 0 {
            at -= 1;
            text[at] = b',';
        }
        at -= 1;
        text[at] = digit(rest % 10);
        rest /= 10;
        digits += 1;
        if rest == 0 {
            break;
        }
    }
    text[at..].iter().for_each(|byte| out.push(char::from(*byte)));
}

fn duration(out: &mut String, seconds: u64, locale: Locale) {
    let units = match locale {
        Locale::Ko => ["시간", "분", "초"],
        Locale::En => [" h", " min", " s"],
    };
    let parts = [seconds / 3600, seconds / 60 % 60, seconds % 60];
    let mut first = true;
    for (part, unit) in parts.into_iter().zip(units) {
        if part == 0 && !(seconds == 0 && unit == units[2]) {
            continue;
        }
        if !first {
            out.push(' ');
        }
        first = false;
        grouped(out, part);
        out.push_str(unit);
    }
}

/// In the largest unit with a value of at least 1, with up to two decimals. 1 GB is 1024 MB, as in
/// allowances.
fn bytes(out: &mut String, bytes: u64) {
    const UNITS: [&str; 4] = [" B", " KB", " MB", " GB"];
    let hundredths = |shift: u32| (u128::from(bytes) * 100 + ((1_u128 << shift) >> 1)) >> shift;
    let mut unit = 0;
    let mut shift = 0;
    // A value that rounds to 1024 is written as 1 of the next unit.
    while unit + 1 < UNITS.len() && hundredths(shift) >= 1024 * 100 {
        unit += 1;
        shift += 10;
    }
    let value = hundredths(shift);
    grouped(out, u64::try_from(value / 100).unwrap_or(u64::MAX));
    let fraction = u64::try_from(value % 100).unwrap_or_default();
    if fraction > 0 {
        out.push('.');
        out.push(char::from(digit(fraction / 10)));
        if fraction % 10 > 0 {
            out.push(char::from(digit(fraction % 10)));
        }
    }
    out.push_str(UNITS[unit]);
}

fn month_name(date: Date) -> &'static str {
    MONTHS[usize::from(date.month().unsigned_abs()) - 1]
}

fn year(out: &mut String, date: Date) {
    padded(out, u64::from(date.year().unsigned_abs()), 4);
}

fn unpadded(out: &mut String, number: i8) {
    grouped(out, u64::from(number.unsigned_abs()));
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
    use jiff::civil;
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    fn money_in(code: &str, minor: i64, locale: Locale) -> String {
        text(|out| money(out, minor, code.parse().unwrap(), locale))
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
            assert_eq!(money_in(code, minor, Locale::Ko), ko);
            assert_eq!(money_in(code, minor, Locale::En), en);
        }
    }

    #[test]
    fn formats_months_and_dates() {
        let october: BillingMonth = "2026-10".parse().unwrap();
        assert_eq!(text(|out| month(out, october, Locale::Ko)), "2026년 10월");
        assert_eq!(text(|out| month(out, october, Locale::En)), "October 2026");
        for (day, ko, en) in [
            (civil::date(2026, 10, 1), "2026년 10월 1일", "October 1, 2026"),
            (civil::date(2028, 2, 29), "2028년 2월 29일", "February 29, 2028"),
        ] {
            assert_eq!(text(|out| date(out, day, Locale::Ko)), ko);
            assert_eq!(text(|out| date(out, day, Locale::En)), en);
        }
    }

    #[test]
    fn formats_quantities_in_units_of_their_kind() {
        const GB: i64 = 1 << 30;
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
            assert_eq!(text(|out| quantity(out, raw, kind, Locale::Ko)), ko, "{kind} {raw}");
            assert_eq!(text(|out| quantity(out, raw, kind, Locale::En)), en, "{kind} {raw}");
        }
    }

    #[test]
    fn translates_usage_kinds() {
        assert_eq!(usage_kind("voice", Locale::Ko), "음성");
        assert_eq!(usage_kind("sms", Locale::En), "Messages");
        assert_eq!(usage_kind("roaming", Locale::Ko), "roaming");
    }

    proptest! {
        #[test]
        fn formatted_amounts_keep_sign_and_digits(
            minor in any::<i64>(),
            code in prop::sample::select(vec!["KRW", "USD", "CHF", "BHD", "CLF"]),
            locale in prop::sample::select(Locale::ALL.to_vec()),
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
