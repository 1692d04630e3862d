//! The last lag of each topic and group, for the status of notification runs.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;

/// A topic and the group that reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicGroup {
    pub(crate) topic: String,
    pub(crate) group: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LagView {
    /// Messages; None while it cannot be read.
    pub(crate) lag: Option<u64>,
    /// Why it cannot be read.
    pub(crate) unreadable: Option<String>,
    /// No message published before `read_at` is left to consume: there is no lag, or no topic.
    pub(crate) drained: bool,
    /// When the reading began.
    pub(crate) read_at: Timestamp,
    /// None if no Deployment is scaled on this lag.
    pub(crate) consumers: Option<Consumers>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Consumers {
    pub(crate) replicas: u32,
    pub(crate) ready: u32,
    pub(crate) desired: u32,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct LagCache(Arc<RwLock<HashMap<TopicGroup, LagView>>>);

impl LagCache {
    pub(crate) fn lag_of(&self, topic: &str, group: &str) -> Option<LagView> {
        let key = TopicGroup { topic: topic.to_owned(), group: group.to_owned() };
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub(super) fn replace(&self, views: HashMap<TopicGroup, LagView>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = views;
    }
}
