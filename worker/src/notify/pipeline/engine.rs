//! The engine of `monthend notify`: takes batches of messages, sees each of them to its end, and says when a batch is done.
//! Owns its tasks, how they start and how they end. Knows nothing of Kafka.
//!
//! Batches go through the preparer (claim, read, compose) into a queue; sessions take mails from it and send; the ledger
//! writes what becomes of them; parked mails wait for another try; the heartbeat keeps the leases. While one batch is
//! sent the next one is prepared, and no third one is taken: memory does not grow with the topic.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::notification_message::NotificationMessage;
use email::Mailbox;
use futures::FutureExt as _;
use secrecy::SecretString;
use store::crypto::{Column, Keyring, OpenError};
use store::notification as deliveries;
use store::notification::{ConsumerId, NotificationError};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::heartbeat::Heartbeat;
use super::in_flight::{Hands, Queue};
use super::prepare::{Handed, Preparer};
use super::rate_limiter::Pace;
use super::recorder::{Entry, Ledger, Pen};
use super::retry_queue::Parked;
use super::sender::{Retries, Session, Shared};
use crate::database_retry::{DatabaseRetries, DatabaseRetryPolicy, RetryError, RetryingConnection, retry};
use crate::notification_run::connect;
use crate::notify::metrics::Metrics;
use crate::notify::smtp::circuit_breaker::Weather;
use crate::notify::smtp::connection::Patience;
use crate::notify::transport::Transport;
use crate::render::ComposerCache;

/// One that is sent, and one that is prepared meanwhile.
const BATCHES_IN_HAND: usize = 2;

/// The name that PostgreSQL shows for the engine's connections.
const APPLICATION: &str = "monthend notify";

/// What an engine works with.
pub(crate) struct EngineConfig {
    /// Who the database is told that sends, and the server that calls.
    pub(crate) name: String,
    pub(crate) transport: Transport,
    pub(crate) from: Mailbox,
    /// Mails on their way at once.
    pub(crate) sessions: u32,
    /// Messages that a batch has at most; two batches are in hand at once.
    pub(crate) batch: usize,
    pub(crate) lease: Duration,
    pub(crate) retries: Retries,
    /// How long the server is left alone after it was first not to be had; none: as long as is sensible.
    pub(crate) first_pause: Option<Duration>,
    pub(crate) metrics: Metrics,
}

/// Sends until it is drained or dropped. Dropping it ends everything on the spot, as a kill does.
pub(crate) struct Engine {
    intake: Intake,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinSet<Result<(), EngineError>>,
}

/// Where batches go in.
#[derive(Clone)]
pub(crate) struct Intake {
    room: Arc<Semaphore>,
    batches: mpsc::UnboundedSender<Handed>,
}

/// A batch of which every message is sent, ended otherwise, skipped, or safely parked under this engine's lease: its
/// offsets may be committed.
#[derive(Debug, Default)]
pub(crate) struct BatchDone {
    /// What no run can ever use, by its place in the batch, with the reason for the dead-letter topic.
    pub(crate) unusable: Vec<(usize, String)>,
}

/// The engine has ended or is being drained: what it did not report as done must not be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine takes no more")]
pub(crate) struct Closed;

/// Why an engine ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("the deliveries cannot be kept")]
    Store(#[from] NotificationError),
    #[error("the keys do not open what is in the database")]
    Keys(#[from] OpenError),
    #[error("a task of the engine ended before its time")]
    Task(#[from] JoinError),
}

impl Engine {
    /// Starts the engine's tasks on the present runtime. It waits for the database as long as it takes.
    pub(crate) fn start(config: EngineConfig, database: SecretString, keyring: Arc<Keyring>) -> Self {
        let room = Arc::new(Semaphore::new(BATCHES_IN_HAND));
        let (batches, handed) = mpsc::unbounded_channel();
        let (registered, ready) = watch::channel(false);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(run(config, database, keyring, handed, registered, stop.clone()));
        Self { intake: Intake { room, batches }, ready, stop, task }
    }

    pub(crate) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Turns true when the consumer is in the database's book and its keys are the right ones.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Resolves when the engine can't go on, and only then.
    pub(crate) async fn failed(&mut self) -> EngineError {
        loop {
            match self.task.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return error.into(),
                Some(Ok(Ok(()))) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Takes nothing more, sees what is handed over to its end, gives the rest back. Batches that are not done by then
    /// resolve as [`Closed`]. Whatever takes longer than `within` is broken off.
    ///
    /// # Errors
    /// What kept it from ending well.
    pub(crate) async fn drain(mut self, within: Duration) -> Result<(), EngineError> {
        self.intake.room.close();
        self.stop.cancel();
        match tokio::time::timeout(within, self.task.join_next()).await {
            Ok(None) => Ok(()),
            Ok(Some(ended)) => ended?,
            Err(_) => {
                tracing::warn!(
                    within_s = within.as_secs(),
                    "there was no time to end everything; leases tell the rest"
                );
                Ok(())
            }
        }
    }
}

impl Intake {
    /// Hands a batch in, as soon as there is room for it.
    ///
    /// # Errors
    /// The engine takes no more.
    pub(crate) async fn submit(&self, messages: Vec<NotificationMessage>) -> Result<Submitted, Closed> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| Closed)?;
        let (done, told) = oneshot::channel();
        if messages.is_empty() {
            // There is nothing to wait for.
            drop(done.send(BatchDone::default()));
        } else {
            self.batches.send(Handed { messages, done, room }).map_err(|_| Closed)?;
        }
        Ok(Submitted(told))
    }

    /// An intake without an engine behind it.
    #[cfg(test)]
    pub(crate) fn to(taken: mpsc::Sender<(Vec<NotificationMessage>, oneshot::Sender<BatchDone>)>) -> Self {
        let (batches, mut handed) = mpsc::unbounded_channel::<Handed>();
        tokio::spawn(async move {
            while let Some(Handed { messages, done, room: _room }) = handed.recv().await {
                if taken.send((messages, done)).await.is_err() {
                    return;
                }
            }
        });
        Self { room: Arc::new(Semaphore::new(BATCHES_IN_HAND)), batches }
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

/// The engine's life: registers, works until it is told to stop, gives back what is left.
async fn run(
    config: EngineConfig,
    database: SecretString,
    keyring: Arc<Keyring>,
    batches: mpsc::UnboundedReceiver<Handed>,
    registered: watch::Sender<bool>,
    stop: CancellationToken,
) -> Result<(), EngineError> {
    let connection = || connection_until(&database, stop.clone());
    let Some(consumer) = begin(&config, connection(), &keyring).await? else { return Ok(()) };
    registered.send_replace(true);
    let (hands, queue, parked) = (Arc::<Hands>::default(), Arc::<Queue>::default(), Arc::<Parked>::default());
    // The ledger outlives the stop: what is handed over is still to be written then, however long it takes.
    let lasting = connection_until(&database, CancellationToken::new());
    let EngineConfig { name, transport, from, sessions, batch, lease, retries, first_pause, metrics } =
        config;
    let at_once = usize::try_from(sessions).unwrap_or(usize::MAX);
    let (ledger, pen) =
        Ledger::new(lasting, at_once, consumer, lease, hands.clone(), parked.clone(), metrics.clone());
    let shared = Arc::new(Shared {
        queue: queue.clone(),
        hands: hands.clone(),
        weather: Arc::new(Weather::new(first_pause)),
        pace: Pace::new(connection()),
        metrics,
        retries,
        hand_over: lease * 3 / 5,
        sessions,
        stop: stop.clone(),
    });
    let patience = Patience { connect: lease / 4, command: lease / 4 };
    let mut senders = JoinSet::new();
    for _ in 0..sessions {
        let line = transport.line(&name, patience);
        senders.spawn(Session::new(shared.clone(), pen.clone(), line).run());
    }
    let preparer = Preparer {
        batches,
        database: connection(),
        consumer,
        lease,
        composers: ComposerCache::new(keyring, from),
        shared: shared.clone(),
        pen: pen.clone(),
        parked: parked.clone(),
        most_parked: batch * BATCHES_IN_HAND,
        stop: stop.clone(),
    };
    senders.spawn(preparer.run());
    let mut keepers = JoinSet::new();
    let lasting = connection_until(&database, CancellationToken::new());
    keepers.spawn(Heartbeat { database: lasting, consumer, lease, shared }.beat());
    let (release, (waiting, held)) = (parked.clone(), (queue.clone(), hands));
    keepers.spawn(async move {
        release.release(waiting, held).await;
        Ok(())
    });
    let mut writer = JoinSet::new();
    writer.spawn(ledger.keep());

    // Until all senders have stopped; a keeper or the writer only ends when something is wrong.
    loop {
        let ended = tokio::select! {
            ended = senders.join_next() => match ended {
                Some(ended) => ended?,
                None => break,
            },
            Some(ended) = keepers.join_next() => ended?,
            Some(ended) = writer.join_next() => ended?,
        };
        match ended {
            Ok(()) | Err(RetryError::Stopped) => {}
            Err(RetryError::Fatal(error) | RetryError::GaveUp(error)) => return Err(error.into()),
        }
    }
    give_back(pen, &queue, &parked);
    while let Some(ended) = writer.join_next().await {
        match ended? {
            Ok(()) | Err(RetryError::Stopped) => {}
            Err(RetryError::Fatal(error) | RetryError::GaveUp(error)) => return Err(error.into()),
        }
    }
    keepers.abort_all();
    match retry!(connection(), |connection| deliveries::deregister_consumer(connection, consumer)) {
        Ok(()) | Err(RetryError::Stopped) => Ok(()),
        Err(RetryError::Fatal(error) | RetryError::GaveUp(error)) => Err(error.into()),
    }
}

/// A connection that is opened again and again until `stop` is cancelled.
fn connection_until(database: &SecretString, stop: CancellationToken) -> RetryingConnection {
    let retries = DatabaseRetries::new(DatabaseRetryPolicy::CONSUMER, stop);
    RetryingConnection::new(database.clone(), |database| connect(database, APPLICATION).boxed(), retries)
}

/// Registers the consumer once its keys are known to be the right ones; none when it is told to stop first.
async fn begin(
    config: &EngineConfig,
    mut database: RetryingConnection,
    keyring: &Keyring,
) -> Result<Option<ConsumerId>, EngineError> {
    let transport = config.transport.name();
    let begun: Result<_, RetryError> = retry!(database, |connection| async {
        let sealed = store::member::any_sealed_name(connection).await.map_err(NotificationError::from)?;
        Ok((sealed, deliveries::register_consumer(connection, &config.name, &transport).await?))
    });
    let (sealed, consumer) = match begun {
        Ok(begun) => begun,
        Err(RetryError::Stopped) => return Ok(None),
        Err(RetryError::Fatal(error) | RetryError::GaveUp(error)) => return Err(error.into()),
    };
    if let Some((member, name)) = sealed {
        keyring.open(Column::Name, member, &name)?;
    }
    Ok(Some(consumer))
}

/// What nobody will send any more here. Their batches stay undone.
fn give_back(pen: Pen, queue: &Queue, parked: &Parked) {
    for mail in queue.drain().into_iter().chain(parked.drain()) {
        pen.write(Entry::GiveBack { hand: mail.hand, ticket: None });
    }
}
