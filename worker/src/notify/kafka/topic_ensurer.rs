//! Keeps the topics: makes what is missing when somebody misses it, and looks now and then. Ends with its value.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::kafka::{TopicError, Topics};

/// Between two looks without a reason.
const LOOK: Duration = Duration::from_secs(60);
/// Between two looks, whatever the reason.
const SHORTEST: Duration = Duration::from_secs(2);
/// How long the first look is waited for: with brokers away, everything else can as well begin.
const FIRST: Duration = Duration::from_secs(5);

pub(super) struct Keeper {
    topic_away: Arc<Notify>,
    looked: watch::Receiver<bool>,
    _task: JoinSet<()>,
}

impl Keeper {
    pub(super) fn start(topics: Topics, topic_away: Arc<Notify>) -> Self {
        let (has_looked, looked) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(keep(topics, Arc::clone(&topic_away), has_looked));
        Self { topic_away, looked, _task: task }
    }

    /// Waits for the first look, for a while.
    pub(super) async fn first_look(&mut self) {
        // Either way the work begins.
        tokio::time::timeout(FIRST, self.looked.wait_for(|looked| *looked)).await.ok();
    }

    /// To be told when the topic is missing.
    pub(super) fn topic_away(&self) -> &Notify {
        &self.topic_away
    }
}

async fn keep(topics: Topics, topic_away: Arc<Notify>, has_looked: watch::Sender<bool>) {
    let mut trouble: Option<String> = None;
    loop {
        match topics.ensure().await {
            Ok(()) => trouble = None,
            Err(error) => {
                let text = logging::chain(&error);
                if trouble.as_ref() != Some(&text) {
                    match &error {
                        TopicError::Away { .. } => tracing::warn!("waiting: {text}"),
                        _ => tracing::error!("{text}"),
                    }
                    trouble = Some(text);
                }
            }
        }
        has_looked.send_replace(true);
        tokio::time::sleep(SHORTEST).await;
        // The error is the time-out, which is as good a reason to look.
        tokio::time::timeout(LOOK, topic_away.notified()).await.ok();
    }
}
