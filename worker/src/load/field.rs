//! Parses and checks single fields. The reason of an error quotes the field; it is written to the
//! rejects file.

use std::borrow::Cow;

use domain::ids::{MemberId, parse_plain_digits};
use domain::locale::Locale;
use domain::month::BillingMonth;
use jiff::Timestamp;
use jiff::civil::Date;

/// Why a line is rejected.
/// What is wrong with a locale.
const NO_LOCALE: &str = "neither empty nor a language of two or three letters, such as ko or en";

pub(crate) type Reason = Cow<'static, str>;

/// Characters of the longest code of a plan, discount or adjustment. An index entry could hold
/// more.
const MAX_CODE: usize = 128;
/// Bytes of the longest email address.
const MAX_EMAIL: usize = 254;

pub(crate) fn member_id(text: &str) -> Result<MemberId, Reason> {
    text.parse().map_err(|_| id_reason("member_id", text))
}

pub(crate) fn adjustment_id(text: &str) -> Result<i64, Reason> {
    parse_plain_digits(text).filter(|id| *id > 0).ok_or_else(|| id_reason("adjustment_id", text))
}

fn id_reason(what: &str, text: &str) -> Reason {
    format!("{what} `{}` is not 1 to 9223372036854775807 in plain digits", shortened(text)).into()
}

pub(crate) fn quantity(text: &str) -> Result<i64, Reason> {
    parse_plain_digits(text).filter(|_| !text.is_empty()).ok_or_else(|| {
        format!("quantity `{}` is not 0 to 9223372036854775807 in plain digits", shortened(text)).into()
    })
}

/// An amount in minor units, with a sign.
pub(crate) fn amount(text: &str) -> Result<i64, Reason> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        let range = "-9223372036854775808 to 9223372036854775807";
        format!("amount `{}` is not {range} in plain digits with at most a minus", shortened(text)).into()
    })
}

pub(crate) fn kind(text: &str) -> Result<&str, Reason> {
    let mut bytes = text.bytes();
    let begins = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    if begins && text.len() <= 32 && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        return Ok(text);
    }
    Err(format!("kind `{}` is not [a-z][a-z0-9_]{{0,31}}", shortened(text)).into())
}

pub(crate) fn usage_id(text: &str) -> Result<&str, Reason> {
    // 64 bytes are never more than 64 characters.
    if !text.is_empty() && (text.len() <= 64 || text.chars().count() <= 64) {
        return Ok(text);
    }
    Err(format!("usage_id `{}` has {} characters instead of 1 to 64", shortened(text), text.chars().count())
        .into())
}

pub(crate) fn code<'t>(what: &'static str, text: &'t str) -> Result<&'t str, Reason> {
    if text.is_empty() {
        return Err(format!("{what} is empty").into());
    }
    if text.len() > MAX_CODE && text.chars().count() > MAX_CODE {
        return Err(format!("{what} `{}…` has more than {MAX_CODE} characters", shortened(text)).into());
    }
    Ok(text)
}

/// A language in any case; a region or script after it (`ko-KR`, `en_US`) is allowed and ignored.
pub(crate) fn locale(text: &str) -> Result<Option<Locale>, Reason> {
    let mut parts = text.split(['-', '_']);
    let language = parts.next().unwrap_or_default();
    let is_subtag =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    if text.is_empty() {
        return Ok(None);
    }
    if parts.all(is_subtag)
        && let Ok(locale) = Locale::of_language(language)
    {
        return Ok(Some(locale));
    }
    Err(format!("locale `{}` is {NO_LOCALE}", shortened(text)).into())
}

pub(crate) fn month(text: &str) -> Result<BillingMonth, Reason> {
    text.parse()
        .map_err(|_| format!("month `{}` is not YYYY-MM from 2000-01 to 2099-12", shortened(text)).into())
}

/// A span of days: `to` is exclusive, and empty when it is open.
pub(crate) fn span(from: &str, to: &str) -> Result<(Date, Option<Date>), Reason> {
    let from = date("from", from)?;
    let to = if to.is_empty() { None } else { Some(date("to", to)?) };
    match to {
        Some(to) if to < from => Err(format!("to {to} is before from {from}").into()),
        to => Ok((from, to)),
    }
}

fn date(what: &'static str, text: &str) -> Result<Date, Reason> {
    let not_a_date = || format!("{what} `{}` is not a date written YYYY-MM-DD", shortened(text)).into();
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text.as_bytes() else { return Err(not_a_date()) };
    let number = |digits: &[u8]| number(digits).ok_or_else(not_a_date);
    let (year, month, day) = (number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?);
    let date = calendar_date(year, month, day).ok_or_else(not_a_date)?;
    if !(2000..=2099).contains(&year) {
        return Err(format!("{what} {date} is outside 2000 to 2099").into());
    }
    Ok(date)
}

/// An instant of RFC 3339 with an offset and at most microseconds. The caller, which knows the time
/// zone, checks the year.
pub(crate) fn instant(text: &str) -> Result<Timestamp, Reason> {
    let refused = || {
        let form = "an instant of RFC 3339 with offset, such as 2026-10-01T09:00:00+09:00";
        Reason::from(format!("started_at `{}` is not {form}", shortened(text)))
    };
    let (stem, rest) = text.as_bytes().split_first_chunk::<19>().ok_or_else(refused)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't', h1, h2, b':', i1, i2, b':', s1, s2] = *stem
    else {
        return Err(refused());
    };
    let number = |digits: &[u8]| number(digits).ok_or_else(refused);
    let date = calendar_date(number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?)
        .ok_or_else(refused)?;
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[i1, i2])?, number(&[s1, s2])?);
    if hour > 23 || minute > 59 || second > 60 {
        return Err(refused());
    }
    let (micros, offset) = match rest.split_first() {
        Some((b'.', rest)) => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (fraction, offset) = rest.split_at(digits);
            if digits > 6 {
                return Err(
                    format!("started_at `{}` has more than six fraction digits", shortened(text)).into()
                );
            }
            let missing = u32::try_from(6 - digits).map_err(|_| refused())?;
            (number(fraction)? * 10_i64.pow(missing), offset)
        }
        _ => (0, rest),
    };
    let offset = offset_seconds(offset).ok_or_else(refused)?;
    if second == 60 {
        return Err(format!("started_at `{}` has a second of 60", shortened(text)).into());
    }
    let seconds = days_since_1970(date) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Timestamp::from_microsecond(seconds * 1_000_000 + micros).map_err(|_| refused())
}

fn offset_seconds(text: &[u8]) -> Option<i64> {
    match *text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[h1, h2])?, number(&[m1, m2])?);
            let seconds = (hours <= 23 && minutes <= 59).then_some(hours * 3600 + minutes * 60)?;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// A number of one or more digits.
fn number(digits: &[u8]) -> Option<i64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
}

fn calendar_date(year: i64, month: i64, day: i64) -> Option<Date> {
    Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// Uses the calendar's cycle of 400 years: ten times as fast as a general difference of dates, for
/// millions of lines.
fn days_since_1970(date: Date) -> i64 {
    let (year, month, day) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
    // Count years from March, so that the leap day is the last day.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Whether an email could be sent to this address at all.
pub(crate) fn is_usable_address(text: &str) -> bool {
    text.len() <= MAX_EMAIL
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        && email::is_valid_address(text)
}

/// The part of a field that a reason quotes.
fn shortened(text: &str) -> &str {
    text.char_indices().nth(80).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_of_the_standard_are_parsed() {
        let taken = [
            "2026-10-01T00:00:00Z",
            "2026-10-01t00:00:00z",
            "2026-10-31T23:59:59.999999+09:00",
            "2024-02-29T12:30:00.5-03:30",
            "2000-02-29T00:00:00-00:00",
            "2099-12-31T23:59:59.000001+14:00",
            "1970-01-01T00:00:00Z",
            "1969-12-31T00:00:00.25+00:01",
            "2100-03-01T00:00:00Z",
        ];
        for text in taken {
            assert_eq!(instant(text), Ok(text.parse().unwrap()), "{text}");
        }
        let refused = [
            ("", None),
            ("2026-10-01", None),
            ("2026-10-01T00:00:00", None),
            ("2026-10-01 00:00:00Z", None),
            ("2026-10-01T00:00Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-10-01T24:00:00Z", None),
            ("2026-10-01T00:60:00Z", None),
            ("2026-10-01T00:00:61Z", None),
            ("2026-10-01T00:00:00.Z", None),
            ("2026-10-01T00:00:00,5Z", None),
            ("2026-10-01T00:00:00+0900", None),
            ("2026-10-01T00:00:00+24:00", None),
            ("2026-10-01T00:00:00+09:00[Asia/Seoul]", None),
            ("+2026-10-01T00:00:00Z", None),
            ("２026-10-01T00:00:00Z", None),
            ("2026-10-01T00:00:60Z", Some("has a second of 60")),
            ("2026-10-01T00:00:00.0000000Z", Some("has more than six fraction digits")),
        ];
        for (text, reason) in refused {
            let form = "is not an instant of RFC 3339 with offset, such as 2026-10-01T09:00:00+09:00";
            let expected = format!("started_at `{text}` {}", reason.unwrap_or(form));
            assert_eq!(instant(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn days_since_1970_agree_with_the_calendar() {
        let mut date = jiff::civil::date(1999, 12, 30);
        let mut days = i64::from(jiff::civil::date(1970, 1, 1).until(date).unwrap().get_days());
        while date.year() < 2101 {
            assert_eq!(days_since_1970(date), days, "{date}");
            date = date.tomorrow().unwrap();
            days += 1;
        }
    }

    #[test]
    fn locales_may_have_a_region_and_any_case() {
        for (text, language) in [
            ("", None),
            ("ko", Some("ko")),
            ("KO", Some("ko")),
            ("ko-KR", Some("ko")),
            ("ko_KR", Some("ko")),
            ("ko-Kore-KR", Some("ko")),
            ("En-us", Some("en")),
            ("de", Some("de")),
            ("DE_AT", Some("de")),
            ("zh-Hant-TW", Some("zh")),
            ("kor", Some("kor")),
        ] {
            let found = locale(text).unwrap();
            assert_eq!(found.as_ref().map(Locale::as_str), language, "{text}");
        }
        for text in
            ["x!", "x", "d3", "korean", "ko-", "-ko", "ko KR", " ko", "ko-KR.UTF-8", "ko--KR", "한국어", "한"]
        {
            let reason = locale(text).unwrap_err();
            assert_eq!(reason, format!("locale `{text}` is {NO_LOCALE}"));
        }
    }

    #[test]
    fn email_addresses_are_those_that_an_email_can_be_sent_to() {
        for text in ["a@b", "kim@example.com", "\"a@b\"@c", "김@예.한국", "a.b+c@d-e.kr", "a@[192.0.2.1]"]
        {
            assert!(is_usable_address(text), "{text}");
        }
        for text in [
            "",
            "a",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b\u{a0}",
            "a@b\n",
            "a@b\r\nBcc: c@d",
            "a;b@c",
            "a@b;c@d",
            "a@b,c@d",
            "Kim <kim@example.com>",
            "<kim@example.com>",
            "mailto:kim@example.com",
            "a..b@c",
            ".a@b",
            "a@b..c",
            "a@-b",
            "a@b@c",
            "a@b.",
            "a\u{7f}@b",
            &format!("{}@b", "x".repeat(253)),
        ] {
            assert!(!is_usable_address(text), "{text:?}");
        }
    }

    #[test]
    fn reasons_quote_only_the_start_of_a_long_field() {
        let reason = member_id(&"x".repeat(5000)).unwrap_err();
        assert!(reason.len() < 200, "{reason}");
    }
}
