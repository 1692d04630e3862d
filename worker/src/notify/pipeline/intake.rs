//! How batches enter the pipeline, and how their submitter learns that one is done.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use domain::notification_message::NotificationMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// One batch is sent while the next one is prepared. No third one is taken, so memory does not grow
/// with the topic.
pub(super) const MAX_BATCHES: usize = 2;

/// Where batches are submitted.
#[derive(Clone)]
pub(crate) struct Intake {
    capacity: Arc<Semaphore>,
    batches: mpsc::UnboundedSender<SubmittedBatch>,
}

/// A batch on its way to the preparer.
pub(super) struct SubmittedBatch {
    pub(super) messages: Vec<NotificationMessage>,
    pub(super) done: oneshot::Sender<BatchDone>,
    pub(super) capacity: OwnedSemaphorePermit,
}

/// Every message of a batch has an outcome, is skipped, or waits for a retry under this consumer's
/// lease: the batch's offsets can be committed.
#[derive(Debug, Default)]
pub(crate) struct BatchDone {
    /// The messages that no run can use, by their index in the batch, with the reason for the
    /// dead-letter topic.
    pub(crate) unusable: Vec<(usize, String)>,
}

/// The engine has ended or is being drained: what it did not report as done must not be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine accepts no more batches")]
pub(crate) struct EngineClosed;

impl Intake {
    /// An intake with room for [`MAX_BATCHES`], and where its batches come out.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<SubmittedBatch>) {
        let (batches, submitted) = mpsc::unbounded_channel();
        (Self { capacity: Arc::new(Semaphore::new(MAX_BATCHES)), batches }, submitted)
    }

    /// Submits a batch as soon as there is room for it.
    ///
    /// # Errors
    /// The engine accepts no more batches.
    pub(crate) async fn submit(
        &self,
        messages: Vec<NotificationMessage>,
    ) -> Result<PendingBatch, EngineClosed> {
        let capacity = self.capacity.clone().acquire_owned().await.map_err(|_| EngineClosed)?;
        let (done, result) = oneshot::channel();
        if messages.is_empty() {
            drop(done.send(BatchDone::default()));
        } else {
            let batch = SubmittedBatch { messages, done, capacity };
            self.batches.send(batch).map_err(|_| EngineClosed)?;
        }
        Ok(PendingBatch(result))
    }

    /// Lets every further submission fail.
    pub(super) fn close(&self) {
        self.capacity.close();
    }

    /// An intake without an engine behind it.
    #[cfg(test)]
    pub(crate) fn to(received: mpsc::Sender<(Vec<NotificationMessage>, oneshot::Sender<BatchDone>)>) -> Self {
        let (intake, mut submitted) = Self::new();
        tokio::spawn(async move {
            while let Some(SubmittedBatch { messages, done, capacity: _capacity }) = submitted.recv().await {
                if received.send((messages, done)).await.is_err() {
                    return;
                }
            }
        });
        intake
    }
}

/// Resolves when a submitted batch is done.
#[must_use]
pub(crate) struct PendingBatch(oneshot::Receiver<BatchDone>);

impl Future for PendingBatch {
    type Output = Result<BatchDone, EngineClosed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| EngineClosed)
    }
}
