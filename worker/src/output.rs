//! Standard output: what a command reports to the person who ran it, and how numbers and durations
//! are formatted. Log lines go to standard error.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// Writes one line to standard output. A closed output is not an error: the work does not depend on
/// it.
pub(crate) fn print_line(line: impl fmt::Display) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// The path as one word of a shell command.
pub(crate) fn shell_word(path: &Path) -> String {
    let path = path.display().to_string();
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"/._-+,:@".contains(&b);
    if path.bytes().all(safe) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// `1,234,567`.
pub(crate) fn group_digits(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 2);
    if number < 0 {
        text.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0.4 s`, `12.3 s`, `2 min 5 s`.
pub(crate) fn format_duration(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        format!("{} min {} s", tenths / 600, tenths % 600 / 10)
    }
}

/// Rows in a second.
pub(crate) fn rows_per_second(rows: u64, time: Duration) -> String {
    let millis = time.as_millis().max(1);
    group_digits(i128::try_from(u128::from(rows) * 1000 / millis).unwrap_or(i128::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(group_digits(number), text);
        }
    }

    #[test]
    fn durations_are_short() {
        for (millis, text) in [(0, "0.0 s"), (449, "0.4 s"), (59_990, "59.9 s"), (125_400, "2 min 5 s")] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }
}
