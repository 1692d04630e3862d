//! Why a text is not a valid price book.

use std::fmt;

/// The price book is invalid; there is at least one problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the price book is invalid: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PriceBookError(pub(super) Vec<Problem>);

impl PriceBookError {
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

/// One invalid field. The path is empty where the text as a whole is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub path: String,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Problem { path: path.into(), reason: reason.into() });
    }

    /// The problems as an error. Only for use after at least one was added.
    pub(super) fn into_error(self) -> PriceBookError {
        PriceBookError(self.0)
    }

    pub(super) fn none_or_err(self) -> Result<(), PriceBookError> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into_error()) }
    }
}
