//! What keeps a run from starting, as the condition Started reports it.

use std::time::Duration;

use api::conditions::{ConditionUpdate, STARTED};

/// In characters: of a longer list of problems, the first ones matter.
const LONGEST_MESSAGE: usize = 2000;

pub(crate) struct Blocked {
    reason: &'static str,
    message: String,
    pub(crate) retry_after: Duration,
}

impl Blocked {
    /// `reason` is one of `api::reasons`.
    pub(crate) fn new(reason: &'static str, message: String, retry_after: Duration) -> Self {
        Self { reason, message, retry_after }
    }

    pub(crate) fn condition(&self) -> ConditionUpdate {
        let message: String = self.message.chars().take(LONGEST_MESSAGE).collect();
        ConditionUpdate::new(STARTED, false, self.reason, message)
    }
}
