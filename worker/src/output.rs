//! Standard output: what a command reports to the person who ran it, and how numbers and durations
//! are formatted. Log lines go to standard error.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use domain::zone::Zone;
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::exit::{CommandResult, ExitStatus, OrExitStatus as _};

/// Where the lines for people go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    ToStdout,
    /// As standard output carries data for a program.
    ToStderr,
}

impl Lines {
    /// Writes one line. A closed output is not an error: the work does not depend on it.
    pub(crate) fn print(self, line: impl fmt::Display) {
        drop(match self {
            Self::ToStdout => writeln!(std::io::stdout().lock(), "{line}"),
            Self::ToStderr => writeln!(std::io::stderr().lock(), "{line}"),
        });
    }
}

/// Writes one line to standard output.
pub(crate) fn print_line(line: impl fmt::Display) {
    Lines::ToStdout.print(line);
}

/// How a command that reads shows what it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people; can change with any version
    Table,
    /// For programs; fields are added, and none is renamed or removed
    Json,
}

/// Writes a value as JSON to standard output.
///
/// # Errors
/// The value has no JSON, which is a defect.
pub(crate) fn print_json(value: &impl Serialize) -> CommandResult<()> {
    let text = serde_json::to_string_pretty(value).or_exit(ExitStatus::Failed)?;
    print_line(text);
    Ok(())
}

/// An amount as a decimal string of minor units, as in the status of runs: it can exceed what readers of JSON
/// keep exactly.
pub(crate) fn as_text<S: Serializer>(number: &i128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// `2026-10-31 09:30:05`, in the installation's time zone.
pub(crate) fn format_time(at: Timestamp, zone: &Zone) -> String {
    zone.local_time(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Rows of text in columns, under a heading. Numbers of columns must agree.
pub(crate) fn print_table(heading: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let of_rows = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        of_rows.chain(heading.get(column).map(|cell| cell.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    print_row(heading.iter().copied(), &widths);
    for row in rows {
        print_row(row.iter().map(String::as_str), &widths);
    }
}

fn print_row<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    let line: String = cells.zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
    print_line(line.trim_end());
}

/// The path as one word of a shell command.
pub(crate) fn shell_word(path: &Path) -> String {
    let path = path.display().to_string();
    // What no word can have is NUL, and no path has it.
    shlex::try_quote(&path).map(Cow::into_owned).unwrap_or(path)
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
    fn a_path_is_one_word_whatever_it_has() {
        for path in ["/data/2026-10", "/data/my files", "it's", "a\"b$c`d", "요금", "*", ""] {
            let word = shell_word(Path::new(path));
            assert_eq!(shlex::split(&word), Some(vec![path.to_owned()]), "{word}");
        }
        assert_eq!(shell_word(Path::new("/data/2026-10/members_1.csv")), "/data/2026-10/members_1.csv");
    }

    #[test]
    fn durations_are_short() {
        for (millis, text) in [(0, "0.0 s"), (449, "0.4 s"), (59_990, "59.9 s"), (125_400, "2 min 5 s")] {
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }
}
