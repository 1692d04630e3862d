//! `monthend notify`: takes notices from Kafka and sees each to its end. Owns the command line, and how consumer, engine and
//! the page of metrics begin and end together.

mod http_server;
mod kafka;
mod metrics;
mod mock_transport;
mod pipeline;
mod smtp;
mod transport;

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
use self::pipeline::engine::{Engine, EngineConfig, EngineError};
use self::pipeline::sender::Retries;
use self::transport::{Credentials, Transport};
use crate::Global;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};

/// Of the 60 seconds that a pod is given: for the engine to end what is handed over and give back the rest…
const TO_DRAIN: Duration = Duration::from_secs(40);
/// …and for the consumer to commit what has ended by then.
const TO_COMMIT: Duration = Duration::from_secs(45);

/// Sends notices: takes claim checks from Kafka, renders and sends a mail for each, for ever
#[derive(Debug, Args)]
pub(crate) struct Notify {
    /// smtp://HOST:PORT?tls=opportunistic|required|none, smtps://HOST:PORT, or mock://?latencyMs=5&failPerMillion=50000
    #[arg(long, env = "NOTIFY_TRANSPORT", value_name = "URL")]
    transport: String,
    /// Who logs in at the mail server
    #[arg(
        long,
        env = "SMTP_USERNAME",
        hide_env_values = true,
        value_name = "NAME",
        requires = "smtp_password"
    )]
    smtp_username: Option<String>,
    /// With what
    #[arg(long, env = "SMTP_PASSWORD", hide_env_values = true, value_name = "PASSWORD",
          requires = "smtp_username", value_parser = crate::secret)]
    smtp_password: Option<SecretString>,
    /// Whom the mails come from: "NAME <ADDRESS>"
    #[arg(long, env = "NOTIFY_FROM", value_name = "MAILBOX")]
    from: Mailbox,
    /// Mails on their way at once
    #[arg(long, env = "NOTIFY_SESSIONS", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    sessions: u32,
    /// How long a claim lasts without a sign of life
    #[arg(long, env = "NOTIFY_LEASE_SECONDS", default_value_t = 120,
          value_parser = clap::value_parser!(u64).range(10..=3600))]
    lease_seconds: u64,
    /// After how long a mail is tried again that the server put off; longer each further time
    #[arg(long, env = "NOTIFY_RETRY_SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=300))]
    retry_seconds: u64,
    /// Messages that are worked on together
    #[arg(long, env = "NOTIFY_BATCH", default_value_t = 1000,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    batch: u16,
    /// Who to write down as sending
    #[arg(long, env = "HOSTNAME", default_value = "worker")]
    name: String,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[command(flatten)]
    kafka: KafkaArgs,
}

impl Notify {
    pub(crate) async fn run(&self, global: &Global, stop: &CancellationToken) -> CommandResult {
        let database = global.database_url()?.clone();
        let keyring = Arc::new(global.keys().or_exit(ExitStatus::Usage)?);
        let batch = usize::from(self.batch);
        let metrics = Metrics::new().or_exit(ExitStatus::Failed)?;
        let config = EngineConfig {
            name: self.name.clone(),
            transport: Transport::parse(&self.transport, self.credentials()).or_exit(ExitStatus::Usage)?,
            from: self.from.clone(),
            sessions: self.sessions,
            batch,
            lease: Duration::from_secs(self.lease_seconds),
            retries: Retries { first_delay: Duration::from_secs(self.retry_seconds), ..Retries::default() },
            first_pause: None,
            metrics: metrics.clone(),
        };
        let mut engine = Engine::start(config, database, keyring);
        let served = CancellationToken::new();
        let _serves_until_the_end = served.clone().drop_guard();
        let serving = tokio::spawn(serve(self.listen, metrics, engine.ready(), served));
        let intake = engine.intake();
        let consumer = ConsumerConfig { kafka: self.kafka.clone(), batch, grace: TO_COMMIT };
        let consuming = consume(&consumer, &intake, stop);
        tokio::pin!(consuming);
        tokio::select! {
            () = stop.cancelled() => {}
            ended = &mut consuming => {
                // By itself only when it can't begin.
                ended.or_exit(ExitStatus::Usage)?;
                return engine.drain(TO_DRAIN).await.map(|()| ExitStatus::Success).map_err(Into::into);
            }
            error = engine.failed() => return Err(error.into()),
            ended = serving => {
                let ended = ended.or_exit(ExitStatus::Failed)?;
                ended.or_exit(ExitStatus::Usage)?;
                return Err(CommandError::new(ExitStatus::Failed, anyhow!("the page of metrics ended by itself")));
            }
        }
        let (consumed, drained) = tokio::join!(consuming, engine.drain(TO_DRAIN));
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
            EngineError::Keys(_) => ExitStatus::Usage,
            EngineError::Store(_) | EngineError::Task(_) => ExitStatus::Failed,
        };
        Self::new(exit, error)
    }
}
