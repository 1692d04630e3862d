//! `monthend notify`: reads claim checks from Kafka and sends an email for each. Owns the command
//! line, and how the Kafka consumer, the sending pipeline and the HTTP server start and stop
//! together.
//!
//! A message goes from [`kafka`], which reads batches and commits offsets, through [`pipeline`],
//! which claims, renders, sends and records, to a [`transport`]: the mail server, reached by
//! [`smtp`], or the mock. Each knows only the next.

mod http_server;
mod kafka;
mod metrics;
mod mock_transport;
mod pipeline;
mod smtp;
mod transport;
mod transport_error;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use email::Mailbox;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use worker_cli::KafkaArgs;

use self::http_server::serve;
use self::kafka::{ConsumerConfig, consume};
use self::metrics::Metrics;
use self::pipeline::{Engine, EngineConfig, EngineError};
use self::smtp::retry_policy::RetryPolicy;
use self::smtp::server_address::Credentials;
use self::transport::Transport;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;

/// How long the engine may finish what is handed over and release the rest. A pod has 60 seconds to
/// stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(40);
/// How long the consumer may wait for finished batches and commit their offsets.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(45);

/// Sends notices: reads claim checks from Kafka, renders and sends an email for each, until it is
/// stopped
#[derive(Debug, Args)]
pub(crate) struct Notify {
    /// smtp://HOST:PORT?tls=opportunistic|required|none, smtps://HOST:PORT, or
    /// mock://?latencyMs=5&failPerMillion=50000
    #[arg(long, env = "NOTIFY_TRANSPORT", value_name = "URL")]
    transport: String,
    /// SMTP user name
    #[arg(
        long,
        env = "SMTP_USERNAME",
        hide_env_values = true,
        value_name = "NAME",
        requires = "smtp_password"
    )]
    smtp_username: Option<String>,
    /// SMTP password
    #[arg(long, env = "SMTP_PASSWORD", hide_env_values = true, value_name = "PASSWORD",
          requires = "smtp_username", value_parser = crate::global_options::secret)]
    smtp_password: Option<SecretString>,
    /// Sender of the emails: "NAME <ADDRESS>"
    #[arg(long, env = "NOTIFY_FROM", value_name = "MAILBOX")]
    from: Mailbox,
    /// Connections to the mail server, each of which sends one email at a time
    #[arg(long, env = "NOTIFY_SESSIONS", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    sessions: u32,
    /// How long a claimed bill is reserved for this consumer without renewal
    #[arg(long, env = "NOTIFY_LEASE_SECONDS", default_value_t = 120,
          value_parser = clap::value_parser!(u64).range(10..=3600))]
    lease_seconds: u64,
    /// Delay before a deferred email is tried again; each further delay is longer
    #[arg(long, env = "NOTIFY_RETRY_SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=300))]
    retry_seconds: u64,
    /// Messages in one batch, at most
    #[arg(long, env = "NOTIFY_BATCH", default_value_t = 1000,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// Name of this consumer in the database
    #[arg(long, env = "HOSTNAME", default_value = "worker")]
    name: String,
    /// Address that serves /metrics, /healthz and /readyz
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    kafka: KafkaArgs,
}

impl Notify {
    pub(crate) async fn run(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        let database = global.database_url()?.clone();
        let keyring = Arc::new(global.keys().or_exit(ExitStatus::Usage)?);
        let max_batch = usize::from(self.batch);
        let metrics = Metrics::new().or_exit(ExitStatus::Failed)?;
        let config = EngineConfig {
            name: self.name.clone(),
            transport: Transport::parse(&self.transport, self.credentials()).or_exit(ExitStatus::Usage)?,
            from: self.from.clone(),
            connections: self.sessions,
            max_batch,
            lease: Duration::from_secs(self.lease_seconds),
            retry_policy: RetryPolicy {
                first_delay: Duration::from_secs(self.retry_seconds),
                ..RetryPolicy::default()
            },
            first_probe_delay: None,
            metrics: metrics.clone(),
        };
        let mut engine = Engine::start(config, database, keyring);
        let stop_server = CancellationToken::new();
        let _stops_at_the_end = stop_server.clone().drop_guard();
        let serving = tokio::spawn(serve(self.listen, metrics, engine.ready(), stop_server));
        let intake = engine.intake();
        let consumer = ConsumerConfig { kafka: self.kafka.clone(), max_batch, drain_timeout: COMMIT_TIMEOUT };
        let consuming = consume(&consumer, &intake, stop);
        tokio::pin!(consuming);
        tokio::select! {
            () = stop.cancelled() => {}
            ended = &mut consuming => {
                // It ends by itself only when it cannot start.
                ended.or_exit(ExitStatus::Usage)?;
                return engine.drain(DRAIN_TIMEOUT).await.map(|()| ExitStatus::Success).map_err(Into::into);
            }
            error = engine.failed() => return Err(error.into()),
            ended = serving => {
                let ended = ended.or_exit(ExitStatus::Failed)?;
                ended.or_exit(ExitStatus::Usage)?;
                return Err(CommandError::new(ExitStatus::Failed, anyhow!("the HTTP server stopped unexpectedly")));
            }
        }
        let (consumed, drained) = tokio::join!(consuming, engine.drain(DRAIN_TIMEOUT));
        consumed.or_exit(ExitStatus::Usage)?;
        drained?;
        tracing::info!("stopped");
        Ok(ExitStatus::Success)
    }

    fn credentials(&self) -> Option<Credentials> {
        let (username, password) = (self.smtp_username.clone()?, self.smtp_password.clone()?);
        Some(Credentials { username, password })
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        let exit = match &error {
            EngineError::Store(error) if error.is_transient() => ExitStatus::TryAgain,
            EngineError::Store(error) if error.is_other_schema() => ExitStatus::OtherSchema,
            EngineError::Keys(_) => ExitStatus::Usage,
            EngineError::Store(_) | EngineError::Task(_) => ExitStatus::Failed,
        };
        Self::new(exit, error)
    }
}
