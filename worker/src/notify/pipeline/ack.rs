//! When a batch is done: each of its messages gets an [`Ack`], and the last acknowledgement
//! completes the batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::intake::BatchDone;
use super::lock::lock;

/// One message of a batch, to be acknowledged. Dropped without that, it keeps its batch from ever
/// being done.
#[derive(Default)]
pub(super) struct Ack(Option<Arc<BatchProgress>>);

/// A batch in the pipeline. Its room is free again when the last of its acknowledgements is
/// dropped.
pub(super) struct BatchProgress {
    unacknowledged: AtomicUsize,
    done: Mutex<Option<(BatchDone, oneshot::Sender<BatchDone>)>>,
    _capacity: OwnedSemaphorePermit,
}

impl BatchProgress {
    /// A batch of `messages` messages, each of which needs an [`Ack`].
    pub(super) fn new(
        messages: usize,
        done: oneshot::Sender<BatchDone>,
        capacity: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        let done = Mutex::new(Some((BatchDone::default(), done)));
        Arc::new(Self { unacknowledged: AtomicUsize::new(messages), done, _capacity: capacity })
    }

    pub(super) fn ack(self: &Arc<Self>) -> Ack {
        Ack(Some(self.clone()))
    }

    /// Acknowledges a message that no run can use.
    pub(super) fn reject(self: &Arc<Self>, index: usize, reason: String) {
        if let Some((done, _)) = lock(&self.done).as_mut() {
            done.unusable.push((index, reason));
        }
        self.ack().acknowledge();
    }
}

impl Ack {
    /// The message's offset can be committed. Repeating this has no effect.
    pub(super) fn acknowledge(&mut self) {
        let Some(batch) = self.0.take() else { return };
        if batch.unacknowledged.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some((done, sender)) = lock(&batch.done).take()
        {
            // The receiver may have been dropped.
            drop(sender.send(done));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    async fn batch(messages: usize) -> (Arc<BatchProgress>, Arc<Semaphore>, oneshot::Receiver<BatchDone>) {
        let capacity = Arc::new(Semaphore::new(1));
        let (done, result) = oneshot::channel();
        let batch = BatchProgress::new(messages, done, capacity.clone().acquire_owned().await.unwrap());
        (batch, capacity, result)
    }

    #[tokio::test]
    async fn a_batch_is_done_when_every_message_is_acknowledged() {
        let (batch, capacity, mut result) = batch(3).await;
        batch.reject(1, "no such run".to_owned());
        let (mut first, mut last) = (batch.ack(), batch.ack());
        drop(batch);
        first.acknowledge();
        first.acknowledge();
        assert!(result.try_recv().is_err());
        assert_eq!(capacity.available_permits(), 0);
        last.acknowledge();
        assert_eq!(result.await.unwrap().unusable, [(1, "no such run".to_owned())]);
        assert_eq!(capacity.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_batch_with_a_lost_acknowledgement_is_never_done() {
        let (batch, capacity, result) = batch(2).await;
        batch.ack().acknowledge();
        drop(batch);
        assert!(result.await.is_err());
        assert_eq!(capacity.available_permits(), 1);
    }
}
