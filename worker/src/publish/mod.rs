//! `monthend publish`: chooses a run's targets, once, and puts a claim check for each that is still open on the topic. Owns
//! the loop, what it waits for and its end; the statements are `store::notification`'s, the clients of the brokers `kafka`'s.
//!
//! It can be killed at any moment, started twice and repeated at will: what counts is what consumers find in the
//! database. Kafka and its topics may be away for as long as they like; that is said, and waited for.

mod producer;
mod pump;
#[cfg(test)]
pub(crate) mod tests;

use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use domain::backoff::Backoff;
use secrecy::SecretString;
use sqlx::{PgConnection, PgPool};
use store::error::{DatabaseError, During as _};
use store::notification::{self, NotificationError, NotificationState, RunFacts, Selected, Uuid};
use tokio_util::sync::CancellationToken;
use worker_cli::PublishArgs;

use self::pump::Pumped;
use crate::Global;
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::kafka::Topics;
use crate::patience::{Patience, pause};
use crate::terminal::{elapsed, grouped, rate};

/// Members in a chunk of the selection, and in a page of what is published.
const CHUNK: i64 = 10_000;
/// Between two looks at what somebody else will change.
const LOOK: Duration = Duration::from_secs(1);
/// Between two lines about the same wait.
const TELL: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// Puts the open bills of a notification run on the topic; started by the operator, as the run's Job
#[derive(Debug, Clone, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    args: PublishArgs,
}

/// How a publisher ends that nothing went wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every target that was open is on the topic, by this publisher or another; or the run is over.
    Done,
    /// It was told to stop.
    Stopped,
}

/// Why a publisher has to begin again, or can't.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Notice(#[from] NotificationError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The text is for the run's status.
    #[error("{0}")]
    Kafka(String),
    #[error("the client library refuses the Kafka options")]
    Client(#[from] rdkafka::error::KafkaError),
    #[error("the thread that produces ended: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Trouble {
    fn is_transient(&self) -> bool {
        match self {
            // Somebody was quicker: another look tells what is left to do.
            Self::Notice(NotificationError::Overtaken { .. }) => true,
            Self::Notice(error) => error.is_transient(),
            Self::Database(error) => error.is_transient(),
            Self::Kafka(_) => true,
            Self::Client(_) | Self::Panicked(_) => false,
        }
    }

    fn exit(&self) -> ExitStatus {
        match self {
            trouble if trouble.is_transient() => ExitStatus::TryAgain,
            Self::Client(_) => ExitStatus::Usage,
            _ => ExitStatus::Failed,
        }
    }
}

impl Publish {
    pub(crate) async fn run(&self, global: &Global, stop: &CancellationToken) -> CommandResult {
        Ok(match publish(&self.args, global.database_url()?, stop).await? {
            Ended::Done => ExitStatus::Success,
            Ended::Stopped => ExitStatus::TryAgain,
        })
    }
}

/// Publishes the round, until it is done or `stop` is cancelled.
#[tracing::instrument(name = "publish", skip_all, fields(run = order.run, round = order.round))]
pub(crate) async fn publish(
    order: &PublishArgs,
    database: &SecretString,
    stop: &CancellationToken,
) -> CommandResult<Ended> {
    let mut publisher = Publisher { order, database, stop, waits: Waits::default() };
    let mut patience = Patience::default();
    loop {
        match publisher.session(&mut patience).await {
            Ok(ended) => return Ok(ended),
            Err(trouble) if !trouble.is_transient() => {
                return Err(CommandError::new(
                    trouble.exit(),
                    anyhow!(trouble).context("the round cannot be published"),
                ));
            }
            Err(trouble) => {
                let text = logging::chain(&trouble);
                let Some(delay) = patience.after_failure() else {
                    return Err(CommandError::new(
                        trouble.exit(),
                        anyhow!("the database stayed away for too long: {text}"),
                    ));
                };
                tracing::warn!(again_in_ms = delay.as_millis(), "{text}");
                if pause(delay, stop).await {
                    return Ok(Ended::Stopped);
                }
            }
        }
    }
}

struct Publisher<'a> {
    order: &'a PublishArgs,
    database: &'a SecretString,
    stop: &'a CancellationToken,
    waits: Waits,
}

/// What the publisher waits for, and who knows.
#[derive(Debug, Default)]
struct Waits {
    failures: u32,
    logged: Option<(String, Instant)>,
}

impl Publisher<'_> {
    /// Works until the database goes away.
    async fn session(&mut self, patience: &mut Patience) -> Result<Ended, Trouble> {
        let PublishArgs { run_uid, round, kafka, .. } = self.order;
        let pool = notification::connect(self.database, "monthend publish", 2).await?;
        let mut connection = own_connection(&pool).await?;
        let Some(run) = take_up(&mut connection, *run_uid, self.stop).await? else {
            return Ok(Ended::Stopped);
        };
        *patience = Patience::default();
        if run.state.is_over() || !self.select(&mut connection, &run).await? {
            return Ok(if self.stop.is_cancelled() { Ended::Stopped } else { Ended::Done });
        }
        let topics = Topics::new(kafka)?;
        let began = Instant::now();
        loop {
            if self.stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            let publication = notification::publication(&mut connection, run.id, *round).await?;
            if publication.done_at.is_some() {
                return Ok(Ended::Done);
            }
            let ensured = tokio::select! {
                ensured = topics.ensure() => ensured,
                () = self.stop.cancelled() => return Ok(Ended::Stopped),
            };
            let pumped = match ensured {
                Ok(()) => self.pump(&pool, &mut connection, &run, &publication).await,
                Err(error) => Err(Trouble::Kafka(logging::chain(&error))),
            };
            match pumped {
                Ok(Pumped::All) => {
                    notification::close_round(&mut connection, run.id, *round).await?;
                    let done = notification::publication(&mut connection, run.id, *round).await?;
                    let (time, messages) = (began.elapsed(), u64::try_from(done.messages).unwrap_or(0));
                    tracing::info!(
                        messages = grouped(done.messages),
                        elapsed = elapsed(time),
                        per_second = rate(messages, time),
                        "the round is published"
                    );
                    return Ok(Ended::Done);
                }
                Ok(Pumped::Stopped) => {
                    tracing::info!("told to stop; the next publisher goes on from here");
                    return Ok(Ended::Stopped);
                }
                Ok(Pumped::Over) => return Ok(Ended::Done),
                Ok(Pumped::Suspended) => {
                    if self.until_resumed(&mut connection, *run_uid).await?.is_over() {
                        return Ok(Ended::Done);
                    }
                }
                Err(Trouble::Kafka(text)) => {
                    self.wait(&mut connection, &run, &text).await?;
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Writes the run's targets, unless they are. False when there is nothing to go on with.
    async fn select(&self, connection: &mut PgConnection, run: &RunFacts) -> Result<bool, Trouble> {
        if run.selected {
            return Ok(true);
        }
        let began = Instant::now();
        match notification::select_targets(connection, run, CHUNK, |_| !self.stop.is_cancelled()).await? {
            Selected::Complete { targets } => {
                let targets = grouped(targets);
                tracing::info!(targets, elapsed = elapsed(began.elapsed()), "chose the targets");
                Ok(true)
            }
            Selected::Stopped | Selected::Over => Ok(false),
        }
    }

    /// Says what is waited for, to the run and now and then to the log, and waits a little.
    async fn wait(
        &mut self,
        connection: &mut PgConnection,
        run: &RunFacts,
        text: &str,
    ) -> Result<NotificationState, Trouble> {
        self.waits.failures += 1;
        self.waits.log(text);
        let state = notification::waits(connection, run.id, self.order.round, Some(text)).await?;
        pause(BACKOFF.after(self.waits.failures), self.stop).await;
        Ok(state)
    }

    async fn until_resumed(
        &self,
        connection: &mut PgConnection,
        run_uid: Uuid,
    ) -> Result<NotificationState, Trouble> {
        tracing::info!("the run is suspended; waiting");
        loop {
            let state = notification::run_of(connection, run_uid).await?.state;
            if state != NotificationState::Suspended || pause(LOOK, self.stop).await {
                return Ok(state);
            }
        }
    }
}

impl Waits {
    fn over(&mut self) {
        *self = Self::default();
    }

    fn log(&mut self, text: &str) {
        if self.logged.as_ref().is_none_or(|(said, at)| said != text || at.elapsed() > TELL) {
            tracing::warn!("waiting: {text}");
            self.logged = Some((text.to_owned(), Instant::now()));
        }
    }
}

/// A connection that ends when it is dropped, with whatever its session holds.
pub(crate) async fn own_connection(pool: &PgPool) -> Result<PgConnection, DatabaseError> {
    Ok(pool.acquire().await.during("cannot connect to the database")?.detach())
}

/// Waits until nobody else works for the run and it is not suspended, and reads it. None when told to stop.
pub(crate) async fn take_up(
    connection: &mut PgConnection,
    run_uid: Uuid,
    stop: &CancellationToken,
) -> Result<Option<RunFacts>, NotificationError> {
    let mut told = false;
    loop {
        let run = notification::run_of(connection, run_uid).await?;
        let why = if !notification::try_hold(connection, run.id).await? {
            "another process works for the run"
        } else if run.state == NotificationState::Suspended {
            "the run is suspended"
        } else {
            // As it is now that nobody else changes it.
            return notification::run_of(connection, run_uid).await.map(Some);
        };
        if !told {
            tracing::info!("waiting: {why}");
            told = true;
        }
        if pause(LOOK, stop).await {
            return Ok(None);
        }
    }
}
