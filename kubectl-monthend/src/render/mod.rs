//! What people see: pure functions from runs to text. Colours are ANSI sequences in the text; the
//! output drops them where they do not belong.

pub(crate) mod object;
pub(crate) mod progress;
pub(crate) mod review;
pub(crate) mod status;
pub(crate) mod table;

use anstyle::{AnsiColor, Style};
use api::conditions::{APPROVED, FAILED, PROGRESSING, STARTED, SUSPENDED, TRANSPORT_AVAILABLE, find};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const WAITING: Style = AnsiColor::Yellow.on_default();

pub(crate) fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A phase in its colour.
pub(crate) fn phase(phase: &str) -> String {
    let style = match phase {
        "Succeeded" => GOOD,
        "Failed" | "Rejected" => BAD,
        "AwaitingApproval" | "CompletedWithFailures" => WAITING,
        _ => Style::new(),
    };
    painted(style, phase)
}

/// `1,234,567`, of a whole number in decimal digits; other texts stay.
pub(crate) fn grouped(number: impl std::fmt::Display) -> String {
    let text = number.to_string();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.as_str()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return text;
    }
    let mut grouped = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The same with its sign, of a difference.
pub(crate) fn signed(number: impl std::fmt::Display) -> String {
    let text = grouped(number);
    if text.starts_with('-') || text == "0" { text } else { format!("+{text}") }
}

/// `45s`, `12m`, `5h`, `3d`, as kubectl shows ages.
pub(crate) fn span(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

pub(crate) fn age(created: Option<&Time>, now: Timestamp) -> String {
    created.map_or_else(|| "-".to_owned(), |at| span(now.as_second() - at.0.as_second()))
}

/// Why a run stands still or has failed: the reason and message of the condition that says so.
pub(crate) fn reason(conditions: &[Condition]) -> Option<String> {
    let speaks = |type_: &str, status: &str| {
        find(conditions, type_)
            .filter(|condition| condition.status == status)
            .map(|condition| format!("{}: {}", condition.reason, condition.message))
    };
    speaks(FAILED, "True")
        .or_else(|| speaks(SUSPENDED, "True"))
        .or_else(|| speaks(STARTED, "False"))
        .or_else(|| speaks(APPROVED, "False"))
        .or_else(|| speaks(TRANSPORT_AVAILABLE, "False"))
        .or_else(|| speaks(PROGRESSING, "False"))
}

/// The text without its colours, for tests.
#[cfg(test)]
pub(crate) fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_amounts_are_grouped() {
        for (number, text) in [
            ("0", "0"),
            ("999", "999"),
            ("965714550", "965,714,550"),
            ("-1234", "-1,234"),
            ("", ""),
            ("1.5", "1.5"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(
            (signed(1234), signed("-1234"), signed(0)),
            ("+1,234".into(), "-1,234".into(), "0".into())
        );
    }

    #[test]
    fn ages_have_one_unit() {
        for (seconds, text) in
            [(-5, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (200_000, "2d")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
