//! The summary of a load: a count of lines for each file, as a table and for `job_log`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::file::File;
use crate::output::{Lines, group_digits};

/// How many lines of one file were loaded, and how many were not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Data lines, rejects included.
    pub(crate) rows: u64,
    pub(crate) new: u64,
    pub(crate) rejects: u64,
    /// Members that are stored without the email address of their line.
    pub(crate) addresses_dropped: u64,
    pub(crate) warnings: u64,
}

impl Tally {
    /// Lines without anything new: repeated, or replaced by a later line.
    pub(crate) fn unchanged(self) -> u64 {
        self.rows - self.new - self.rejects
    }
}

/// The summary for `job_log`.
pub(crate) fn detail(tallies: &BTreeMap<File, Tally>) -> Value {
    let files: serde_json::Map<_, _> = tallies
        .iter()
        .map(|(file, tally)| {
            let mut counts = json!({
                "rows": tally.rows, "new": tally.new, "unchanged": tally.unchanged(), "rejects": tally.rejects,
            });
            if tally.warnings > 0 {
                counts["warnings"] = tally.warnings.into();
            }
            if tally.addresses_dropped > 0 {
                counts["addressesDropped"] = tally.addresses_dropped.into();
            }
            (file.name().to_owned(), counts)
        })
        .collect();
    json!({ "files": files })
}

/// Prints the summary as a table.
pub(crate) fn print_table(lines: Lines, tallies: &BTreeMap<File, Tally>) {
    lines.print(format_args!(
        "{:<18} {:>14} {:>14} {:>14} {:>10} {:>10}",
        "file", "rows", "new", "unchanged", "rejects", "warnings"
    ));
    for (file, tally) in tallies {
        lines.print(format_args!(
            "{:<18} {:>14} {:>14} {:>14} {:>10} {:>10}",
            file.name(),
            group_digits(tally.rows),
            group_digits(tally.new),
            group_digits(tally.unchanged()),
            group_digits(tally.rejects),
            group_digits(tally.warnings)
        ));
    }
}
