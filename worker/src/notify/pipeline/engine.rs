//! The engine of the pipeline: receives batches of messages, sends what they ask for, and reports
//! when a batch is done. Owns the pipeline's tasks, how they start and how they end. Knows nothing
//! of Kafka.
//!
//! The preparer turns batches into a queue of emails (claim, read, render); senders take emails
//! from it and send them; the recorder writes the outcomes; deferred emails wait in the retry
//! queue; the heartbeat renews the leases.

use std::sync::Arc;
use std::time::Duration;

use email::Mailbox;
use futures::FutureExt as _;
use secrecy::SecretString;
use store::crypto::{Column, Keyring, OpenError};
use store::notification::{self, ConsumerId, NotificationError};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::heartbeat::Heartbeat;
use super::in_flight::InFlight;
use super::intake::{Intake, MAX_BATCHES, SubmittedBatch};
use super::prepare::Preparer;
use super::rate_limiter::RateLimiter;
use super::recorder::{Recorder, RecorderHandle, WriteRequest};
use super::retry_queue::RetryQueue;
use super::send_queue::SendQueue;
use super::sender::Sender;
use super::shared_state::SharedState;
use crate::database_retry::{
    Connect, DatabaseRetries, DatabaseRetryPolicy, RetryError, RetryingConnection, retry,
};
use crate::notification_run::{connect, connect_to_any_schema};
use crate::notify::metrics::Metrics;
use crate::notify::smtp::circuit_breaker::CircuitBreaker;
use crate::notify::smtp::connection::Timeouts;
use crate::notify::smtp::retry_policy::RetryPolicy;
use crate::notify::transport::Transport;
use crate::render::ComposerCache;

/// The name that PostgreSQL shows for the engine's connections.
const APPLICATION: &str = "monthend notify";

/// Connects if the database has the schema of this program.
const OWN_SCHEMA: Connect = |database| connect(database, APPLICATION).boxed();
const ANY_SCHEMA: Connect = |database| connect_to_any_schema(database, APPLICATION).boxed();

/// The configuration of an engine.
pub(crate) struct EngineConfig {
    /// What the consumer is called in the database and at the mail server.
    pub(crate) name: String,
    pub(crate) transport: Transport,
    pub(crate) from: Mailbox,
    /// Connections to the mail server, each of which sends one email at a time.
    pub(crate) connections: u32,
    /// Messages in one batch, at most.
    pub(crate) max_batch: usize,
    /// How long a claim lasts without renewal.
    pub(crate) lease: Duration,
    pub(crate) retry_policy: RetryPolicy,
    /// From a failure of the mail server to the first probe; none: the circuit breaker's default.
    pub(crate) first_probe_delay: Option<Duration>,
    pub(crate) metrics: Metrics,
}

/// Sends until it is drained or dropped. Dropping it aborts all tasks, as a kill does.
pub(crate) struct Engine {
    intake: Intake,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinSet<Result<(), EngineError>>,
}

/// Why an engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("cannot record deliveries")]
    Store(#[from] NotificationError),
    #[error("the encryption keys do not decrypt what is in the database")]
    Keys(#[from] OpenError),
    #[error("a task of the engine ended unexpectedly")]
    Task(#[from] JoinError),
}

impl Engine {
    /// Starts the engine's tasks on the current runtime. They wait for the database for any length
    /// of time.
    pub(crate) fn start(config: EngineConfig, database: SecretString, keyring: Arc<Keyring>) -> Self {
        let (intake, batches) = Intake::new();
        let (registered, ready) = watch::channel(false);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(run(config, database, keyring, batches, registered, stop.clone()));
        Self { intake, ready, stop, task }
    }

    pub(crate) fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// Becomes true when the consumer is registered in the database and has the right keys.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Resolves when the engine cannot go on, and only then. If the reason is that the database has
    /// another schema, what is handed over is finished, and the rest released, before that.
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

    /// Accepts no more batches, finishes what is handed over, and releases the rest. Batches that
    /// are not done by then resolve as [`EngineClosed`](super::EngineClosed). Aborts what takes
    /// longer than `timeout`.
    ///
    /// # Errors
    /// A task of the engine failed.
    pub(crate) async fn drain(mut self, timeout: Duration) -> Result<(), EngineError> {
        self.intake.close();
        self.stop.cancel();
        match tokio::time::timeout(timeout, self.task.join_next()).await {
            Ok(None) => Ok(()),
            Ok(Some(ended)) => ended?,
            Err(_) => {
                tracing::warn!(
                    timeout_s = timeout.as_secs(),
                    "stopped before everything was finished; the rest is free when its leases expire"
                );
                Ok(())
            }
        }
    }
}

/// Registers the consumer, works until it is stopped, and releases what is left.
async fn run(
    config: EngineConfig,
    database: SecretString,
    keyring: Arc<Keyring>,
    batches: mpsc::UnboundedReceiver<SubmittedBatch>,
    registered: watch::Sender<bool>,
    stop: CancellationToken,
) -> Result<(), EngineError> {
    let connection = || connect_until(&database, stop.clone(), OWN_SCHEMA);
    let connection_without_stop = |schema| connect_until(&database, CancellationToken::new(), schema);
    let Some(consumer) = register(&config, connection(), &keyring).await? else { return Ok(()) };
    registered.send_replace(true);
    let (in_flight, queue, retry_queue) =
        (Arc::<InFlight>::default(), Arc::<SendQueue>::default(), Arc::<RetryQueue>::default());
    let EngineConfig {
        name,
        transport,
        from,
        connections,
        max_batch,
        lease,
        retry_policy,
        first_probe_delay,
        metrics,
    } = config;
    // The recorder goes on after the stop, and after a migration: the outcomes of what is handed over
    // are still to be written, however long it takes.
    let (recorder, handle) = Recorder::new(
        connection_without_stop(ANY_SCHEMA),
        usize::try_from(connections).unwrap_or(usize::MAX),
        consumer,
        lease,
        in_flight.clone(),
        retry_queue.clone(),
        metrics.clone(),
    );
    let shared = Arc::new(SharedState {
        queue: queue.clone(),
        in_flight: in_flight.clone(),
        circuit_breaker: CircuitBreaker::new(first_probe_delay),
        rate_limiter: RateLimiter::new(connection()),
        metrics,
        retry_policy,
        hand_over_timeout: lease * 3 / 5,
        connections,
        stop: stop.clone(),
    });
    let timeouts = Timeouts { connect: lease / 4, command: lease / 4 };
    let mut producers = JoinSet::new();
    for _ in 0..connections {
        let connection = transport.connection(&name, timeouts);
        producers.spawn(Sender::new(shared.clone(), handle.clone(), connection).run());
    }
    let preparer = Preparer {
        batches,
        database: connection(),
        consumer,
        lease,
        composers: ComposerCache::new(keyring, from),
        shared: shared.clone(),
        recorder: handle.clone(),
        retry_queue: retry_queue.clone(),
        max_retries_waiting: max_batch * MAX_BATCHES,
    };
    producers.spawn(preparer.run());
    let mut background = JoinSet::new();
    let heartbeat = Heartbeat { database: connection_without_stop(OWN_SCHEMA), consumer, lease, shared };
    background.spawn(heartbeat.run());
    let moving = retry_queue.clone().move_due_emails(queue.clone(), in_flight);
    background.spawn(async move {
        moving.await;
        Ok(())
    });
    let mut writer = JoinSet::new();
    writer.spawn(recorder.run());

    let mut other_schema = None;
    // Until the preparer and all senders have stopped. Any other task ends only when it fails.
    loop {
        let ended = tokio::select! {
            ended = producers.join_next() => match ended {
                Some(ended) => ended?,
                None => break,
            },
            Some(ended) = background.join_next() => ended?,
            Some(ended) = writer.join_next() => ended?,
        };
        match unless_fatal(ended) {
            Err(EngineError::Store(error)) if error.is_other_schema() => {
                tracing::warn!("{}; finishing what is handed over", logging::chain(&error));
                registered.send_replace(false);
                stop.cancel();
                other_schema = Some(error);
            }
            ended => ended?,
        }
    }
    release_unsent(handle, &queue, &retry_queue);
    while let Some(ended) = writer.join_next().await {
        unless_fatal(ended?)?;
    }
    background.abort_all();
    let mut last = connect_until(&database, stop, ANY_SCHEMA);
    unless_fatal(retry!(last, |connection| notification::deregister_consumer(connection, consumer)))?;
    other_schema.map_or(Ok(()), |error| Err(error.into()))
}

/// Stopping while the database is unavailable is no error.
fn unless_fatal(result: Result<(), RetryError>) -> Result<(), EngineError> {
    match result {
        Ok(()) | Err(RetryError::Stopped) => Ok(()),
        Err(RetryError::Fatal(error) | RetryError::GaveUp(error)) => Err(error.into()),
    }
}

/// A connection that is opened again after each failure, until `stop` is cancelled.
fn connect_until(database: &SecretString, stop: CancellationToken, open: Connect) -> RetryingConnection {
    let retries = DatabaseRetries::new(DatabaseRetryPolicy::CONSUMER, stop);
    RetryingConnection::new(database.clone(), open, retries)
}

/// Registers the consumer once its keys are known to be the right ones. None: it was stopped first.
async fn register(
    config: &EngineConfig,
    mut database: RetryingConnection,
    keyring: &Keyring,
) -> Result<Option<ConsumerId>, EngineError> {
    let transport = config.transport.name();
    let registered: Result<_, RetryError> = retry!(database, |connection| async {
        let sealed = store::member::any_sealed_name(connection).await.map_err(NotificationError::from)?;
        Ok((sealed, notification::register_consumer(connection, &config.name, &transport).await?))
    });
    let (sealed, consumer) = match registered {
        Ok(registered) => registered,
        Err(RetryError::Stopped) => return Ok(None),
        Err(RetryError::Fatal(error) | RetryError::GaveUp(error)) => return Err(error.into()),
    };
    if let Some((member, name)) = sealed {
        keyring.open(Column::Name, member, &name)?;
    }
    Ok(Some(consumer))
}

/// Releases the deliveries that no sender takes any more. Their batches are never done.
fn release_unsent(handle: RecorderHandle, queue: &SendQueue, retry_queue: &RetryQueue) {
    for email in queue.drain().into_iter().chain(retry_queue.drain()) {
        handle.write(WriteRequest::Release { delivery: email.delivery, ack: None });
    }
}
