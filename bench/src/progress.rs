//! Progress messages on stderr; stdout has only the report.

use std::fmt;

pub(crate) fn print_step(step: fmt::Arguments<'_>) {
    eprintln!("bench: {step}");
}
