//! `monthend publish`: selects a notification run's targets, once, and publishes a message for each
//! open one. Owns the command line, and how the command ends.
//!
//! It can be killed at any moment, started twice and repeated: consumers act on the database, and a
//! message only tells them where to look. It waits for Kafka as long as necessary, and says so in
//! the run.
//!
//! - `publisher` does the work over one database connection, until it is done or the connection
//!   fails.
//! - `pipeline` reads, produces and checkpoints pages of messages; `page_reader` and `producer` are
//!   its ends.
//! - `wait_reporter` says what is waited for.

mod page_reader;
mod pipeline;
mod producer;
mod publish_error;
mod publisher;
#[cfg(test)]
pub(crate) mod tests;
mod wait_reporter;

use anyhow::anyhow;
use clap::Args;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use worker_cli::PublishArgs;

use self::publish_error::PublishError;
use self::publisher::Publisher;
use crate::database_retry::{DatabaseRetries, DatabaseRetryPolicy, RetryError, retry};
use crate::exit::{CommandError, CommandResult, Completion, ExitStatus};
use crate::global_options::GlobalOptions;

/// Publish a message to Kafka for each bill that a notification run has still to e-mail. The
/// operator starts this command, as the run's Job.
#[derive(Debug, Clone, Args)]
pub(crate) struct Publish {
    #[command(flatten)]
    args: PublishArgs,
}

impl Publish {
    pub(crate) async fn run(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        publish(&self.args, global.database_url()?, DatabaseRetryPolicy::JOB, stop)
            .await
            .map(Completion::into)
    }
}

/// Publishes the round until it is done or `stop` is cancelled.
///
/// # Errors
/// The database was unavailable for too long, or something failed for good.
#[tracing::instrument(name = "publish", skip_all, fields(run = args.run, round = args.round))]
pub(crate) async fn publish(
    args: &PublishArgs,
    database: &SecretString,
    policy: DatabaseRetryPolicy,
    stop: &CancellationToken,
) -> CommandResult<Completion> {
    let publisher = Publisher::new(args, database, stop);
    let mut retries = DatabaseRetries::new(policy, stop.clone());
    match retry!(retries, publisher.connect_and_run(&mut retries)) {
        Ok(completion) => Ok(completion),
        Err(RetryError::Stopped) => Ok(Completion::Stopped),
        Err(error @ RetryError::GaveUp(_)) => Err(CommandError::new(ExitStatus::TryAgain, error)),
        Err(RetryError::Fatal(error)) => {
            let status = match &error {
                PublishError::KafkaOptions(_) => ExitStatus::Usage,
                error if error.is_other_schema() => ExitStatus::OtherSchema,
                _ => ExitStatus::Failed,
            };
            Err(CommandError::new(status, anyhow!(error).context("the round cannot be published")))
        }
    }
}
