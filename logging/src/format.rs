//! The formats of log lines.

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object on each line, with the fields of the spans and of the event.
    Json,
    /// Time, level, message, `field=value`.
    Human,
}
