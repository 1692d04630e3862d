//! `monthend bill`: bills the chunks of one shard, one after the other, until none is left. Owns
//! this loop and how it ends. The statements are `store::billing::chunk`'s, the prices
//! `domain::pricing`'s.
//!
//! Everything that it must remember is in the database: a worker that is killed at any moment, or
//! started twice for the same shard, leaves the same bills.

mod causes;
mod chunk_processor;
mod not_charged;
mod pinned;
mod price;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::Args;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use secrecy::SecretString;
use sqlx::PgConnection;
use store::billing::chunk::{self, ShardTotals};
use store::billing::{Counts, RevisionKey};
use store::error::StoreError;
use tokio_util::sync::CancellationToken;
use worker_cli::BillArgs;

pub(crate) use self::chunk_processor::ChunkError;
use self::chunk_processor::{ChunkProcessor, Step};
pub(crate) use self::pinned::Pinned;
pub(crate) use self::price::{ChunkInputs, OwnInputs};
use crate::database;
use crate::database_retry::{DatabaseRetries, DatabaseRetryPolicy, RetryError, RetryingConnection, retry};
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::global_options::GlobalOptions;
use crate::shutdown::stopped_within;

/// How long a worker that is stopped may continue with its chunk. A pod is killed after 30 seconds.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// Time between two looks whether the chunks that other workers have claimed are done, or free
/// again.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Calculate the bills of one shard of a billing run. The operator starts this command, as a pod of
/// the run's Job.
#[derive(Debug, Clone, Args)]
pub(crate) struct Bill {
    #[command(flatten)]
    args: BillArgs,
    /// Shard to bill, from 0
    #[arg(long, env = "JOB_COMPLETION_INDEX", value_name = "NUMBER")]
    shard: i32,
    /// Name that is stored with each chunk that this worker finishes
    #[arg(long, env = "HOSTNAME", default_value = "worker", value_name = "NAME")]
    worker: String,
}

/// How a worker ends that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BillOutcome {
    /// Every chunk of the shard is done, by this worker or another.
    Done(ShardTotals),
    /// The worker was stopped; there may be chunks left.
    Stopped,
}

/// Why a worker ends before its shard is done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BillError {
    /// Another attempt would fail too.
    #[error("the shard cannot be billed")]
    Fatal(#[source] ChunkError),
    /// Another attempt continues where this one ended.
    #[error("the database was unavailable for too long")]
    Unavailable(#[source] ChunkError),
}

impl From<BillError> for CommandError {
    fn from(error: BillError) -> Self {
        let status = match &error {
            BillError::Fatal(error) if error.is_other_schema() => ExitStatus::OtherSchema,
            BillError::Fatal(_) => ExitStatus::Failed,
            BillError::Unavailable(_) => ExitStatus::TryAgain,
        };
        Self::new(status, error)
    }
}

impl Bill {
    pub(crate) async fn run(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        Ok(match bill_shard(self, global.database_url()?, stop).await? {
            BillOutcome::Done(_) => ExitStatus::Success,
            BillOutcome::Stopped => ExitStatus::TryAgain,
        })
    }

    fn key(&self) -> RevisionKey {
        let BillArgs { month, revision, fence, run_uid, .. } = self.args;
        RevisionKey { month, revision, run_uid, fence }
    }
}

/// Bills chunks of the shard until all of them are done or `stop` is cancelled.
///
/// # Errors
/// See [`BillError`].
#[tracing::instrument(name = "bill", skip_all, fields(run = command.args.run, shard = command.shard))]
pub(crate) async fn bill_shard(
    command: &Bill,
    database: &SecretString,
    stop: &CancellationToken,
) -> Result<BillOutcome, BillError> {
    let mut processor = ChunkProcessor::new(command.key(), command.shard, &command.worker);
    let retries = DatabaseRetries::new(DatabaseRetryPolicy::JOB, stop.clone());
    let mut connection = RetryingConnection::new(database.clone(), connect, retries);
    while !stop.is_cancelled() {
        let step = async { retry!(connection, |connection| processor.process_next(connection)) };
        let step = tokio::select! {
            step = step => step,
            // Dropping the step closes its connection, and the server rolls back.
            () = grace_after(stop) => break,
        };
        match step {
            Ok(Step::Chunk { span, counts }) => {
                let Counts { billed, quarantined, items, .. } = counts;
                tracing::debug!(chunk = span.chunk_no, billed, quarantined, items, "chunk done");
            }
            Ok(Step::ClaimedByOthers) => {
                stopped_within(POLL_INTERVAL, stop).await;
            }
            Ok(Step::ShardDone(totals)) => {
                let ShardTotals { chunks, billed, quarantined, .. } = totals;
                let by_this_worker = processor.chunks_done();
                tracing::info!(chunks, billed, quarantined, by_this_worker, "shard done");
                return Ok(BillOutcome::Done(totals));
            }
            Err(RetryError::Fatal(error)) => return Err(BillError::Fatal(error)),
            Err(RetryError::GaveUp(error)) => return Err(BillError::Unavailable(error)),
            Err(RetryError::Stopped) => break,
        }
    }
    tracing::info!(by_this_worker = processor.chunks_done(), "stopped; the next worker continues from here");
    Ok(BillOutcome::Stopped)
}

fn connect(url: &SecretString) -> BoxFuture<'_, Result<PgConnection, StoreError>> {
    async move {
        let mut connection = database::connect(url, "monthend bill").await?;
        chunk::prepare_connection(&mut connection).await?;
        Ok(connection)
    }
    .boxed()
}

async fn grace_after(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}
