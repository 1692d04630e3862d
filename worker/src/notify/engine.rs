//! The engine of `worker notify`: takes batches of messages, sees each of them to its end, and says when a batch is done.
//! Knows nothing of Kafka.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::notice_message::NoticeMessage;
use lettre::message::Mailbox;
use secrecy::SecretString;
use store::crypto::Keyring;
use tokio::sync::{mpsc, oneshot};

use super::transport::Transport;

/// What an engine works with.
pub(crate) struct EngineConfig {
    /// Who the database is told that sends.
    pub(crate) name: String,
    pub(crate) transport: Transport,
    pub(crate) from: Mailbox,
    /// Mails on their way at once.
    pub(crate) sessions: usize,
    /// Messages that a batch has at most; two batches are in hand at once.
    pub(crate) batch: usize,
    pub(crate) lease: Duration,
}

/// Sends until it is drained or dropped. Dropping it ends everything on the spot, as a kill does.
pub(crate) struct Engine {
    intake: Intake,
}

/// Where batches go in.
#[derive(Clone)]
pub(crate) struct Intake {
    batches: mpsc::Sender<(Vec<NoticeMessage>, oneshot::Sender<BatchDone>)>,
}

/// A batch of which every message is sent, ended otherwise, skipped, or safely parked under this engine's lease: its
/// offsets may be committed.
#[derive(Debug, Default)]
pub(crate) struct BatchDone {
    /// What no run can ever use, by its place in the batch, with the reason for the dead-letter topic.
    pub(crate) unusable: Vec<(usize, String)>,
}

/// The engine has ended or is being drained: what it did not report as done must not be committed.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the engine takes no more")]
pub(crate) struct Closed;

/// Why an engine ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("a task of the engine panicked")]
    Panicked,
}

impl Engine {
    /// Starts the engine's tasks on the present runtime. It waits for the database as long as it takes.
    pub(crate) fn start(config: EngineConfig, database: SecretString, keyring: Arc<Keyring>) -> Self {
        let (batches, _) = mpsc::channel(1);
        drop((config, database, keyring));
        Self { intake: Intake { batches } }
    }

    pub(crate) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Resolves when the engine can't go on, and only then.
    pub(crate) async fn failed(&mut self) -> EngineError {
        std::future::pending().await
    }

    /// Takes nothing more, sees what is handed over to its end, gives the rest back. Batches that are not done by then
    /// resolve as [`Closed`].
    pub(crate) async fn drain(self, within: Duration) {
        tokio::time::sleep(within).await;
    }
}

impl Intake {
    /// Hands a batch in, as soon as there is room for it.
    pub(crate) async fn submit(&self, messages: Vec<NoticeMessage>) -> Result<Submitted, Closed> {
        let (done, outcome) = oneshot::channel();
        self.batches.send((messages, done)).await.map_err(|_| Closed)?;
        Ok(Submitted(outcome))
    }
}

/// A batch on its way.
#[must_use]
pub(crate) struct Submitted(oneshot::Receiver<BatchDone>);

impl Future for Submitted {
    type Output = Result<BatchDone, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Closed)
    }
}
