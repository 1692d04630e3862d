//! Which check a verification is running, for progress reports.

use std::sync::{Mutex, PoisonError};

/// Shared by the verification, which writes it, and the one who reports it.
#[derive(Debug, Default)]
pub struct Progress(Mutex<(usize, &'static str)>);

impl Progress {
    /// How many checks there are; one more with arrived e-mails to compare with.
    pub const CHECKS: usize = 22;

    /// The number of the current check, counted from 1, and its name. None before the first.
    #[must_use]
    pub fn current(&self) -> Option<(usize, &'static str)> {
        let current = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (current.0 > 0).then_some(current)
    }

    /// Returns the name.
    pub(super) fn begin(&self, name: &'static str) -> &'static str {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (current.0 + 1, name);
        name
    }
}
