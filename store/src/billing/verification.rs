//! The result of verifying a revision, and how the revision stores it.

use jiff::Timestamp;

use super::late_rows::LateRows;
use crate::error::StoreError;

/// The result of verifying a revision, stored with the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    pub checks: Vec<Check>,
    /// Identifies the draft: SHA-256 over the chunks' digests in order, in hexadecimal.
    pub digest: String,
    /// What was loaded after the cut-off; no revision with this cut-off bills it.
    pub late: LateRows,
    pub at: Timestamp,
}

impl Verification {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// One comparison of the tables with the chunks or the plan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    /// The name of the check: `members`, `bills`, `items`, `usage`, `loads`, `chunks`, `changes` or
    /// `diff`.
    pub check: String,
    pub passed: bool,
    pub detail: String,
}

/// The checks as `revision.verification` stores them.
pub(super) fn read_checks(stored: serde_json::Value) -> Result<Vec<Check>, StoreError> {
    let text = stored.to_string();
    serde_json::from_value(stored).map_err(|_| StoreError::unreadable("revision.verification", text))
}

/// What was late, as `revision.late` stores it.
pub(super) fn read_late_rows(stored: serde_json::Value) -> Result<LateRows, StoreError> {
    let text = stored.to_string();
    serde_json::from_value(stored).map_err(|_| StoreError::unreadable("revision.late", text))
}
