//! The last action of each object, so that one that is repeated every few seconds while an object
//! waits is logged once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// By the object's uid, in the words of the log.
#[derive(Debug, Default)]
pub(super) struct LastActions(Mutex<HashMap<String, String>>);

impl LastActions {
    /// Takes the action down. Returns whether the object's action before it was another one.
    pub(super) fn is_another(&self, uid: &str, action: &str) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(uid.to_owned(), action.to_owned()).as_deref() != Some(action)
    }

    /// For an object that is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_action_is_no_other_one() {
        let last = LastActions::default();
        let seen: Vec<bool> = [("a", "Begin"), ("a", "Begin"), ("b", "Begin"), ("a", "Plan"), ("a", "Begin")]
            .into_iter()
            .map(|(uid, action)| last.is_another(uid, action))
            .collect();
        assert_eq!(seen, [true, false, true, true, true]);
        last.forget("a");
        assert!(last.is_another("a", "Begin"));
        assert!(!last.is_another("b", "Begin"));
    }
}
