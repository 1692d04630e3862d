//! Ensures that the topics exist: checks them at regular intervals, and as soon as somebody misses
//! one. Stops when its value is dropped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::kafka::{TopicError, Topics};

const CHECK_INTERVAL: Duration = Duration::from_secs(60);
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long to wait for the first check. With the brokers down, consuming can start without it.
const FIRST_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct TopicEnsurer {
    topic_missing: Arc<Notify>,
    checked: watch::Receiver<bool>,
    _task: JoinSet<()>,
}

impl TopicEnsurer {
    /// Checks at once, then at intervals, and whenever `topic_missing` is notified.
    pub(super) fn start(topics: Topics, topic_missing: Arc<Notify>) -> Self {
        let (set_checked, checked) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(run(topics, Arc::clone(&topic_missing), set_checked));
        Self { topic_missing, checked, _task: task }
    }

    /// Waits for the first check, within a time-out.
    pub(super) async fn first_check(&mut self) {
        tokio::time::timeout(FIRST_CHECK_TIMEOUT, self.checked.wait_for(|checked| *checked)).await.ok();
    }

    /// To be notified when the topic is missing.
    pub(super) fn topic_missing(&self) -> &Notify {
        &self.topic_missing
    }
}

async fn run(topics: Topics, topic_missing: Arc<Notify>, checked: watch::Sender<bool>) {
    let mut last_error: Option<String> = None;
    loop {
        match topics.ensure().await {
            Ok(()) => last_error = None,
            Err(error) => {
                let text = logging::chain(&error);
                if last_error.as_ref() != Some(&text) {
                    match &error {
                        TopicError::Unavailable { .. } => tracing::warn!("waiting for Kafka: {text}"),
                        _ => tracing::error!("{text}"),
                    }
                    last_error = Some(text);
                }
            }
        }
        checked.send_replace(true);
        tokio::time::sleep(MIN_CHECK_INTERVAL).await;
        // A time-out is as good a reason for a check as a notification.
        tokio::time::timeout(CHECK_INTERVAL, topic_missing.notified()).await.ok();
    }
}
