//! `monthend bill`: works off the chunks of one shard. Owns the loop and its end; the statements are
//! `store::billing::chunk`'s, the prices `domain::pricing`'s.
//!
//! It remembers nothing between chunks that the database doesn't know: killed at any moment, or started twice for one
//! shard, it leaves the same bills.

mod price;
mod session;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::Args;
use secrecy::SecretString;
use store::billing::chunk::ShardTotals;
use store::billing::{Counts, RevisionKey};
use tokio_util::sync::CancellationToken;
use worker_cli::BillArgs;

use self::session::{Session, Step, Trouble};
use crate::Global;
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::patience::{Patience, pause};

/// What a stop leaves the chunk in hand to finish, well within the 30 seconds that a pod is given.
const TO_FINISH: Duration = Duration::from_secs(15);
/// A chunk takes a fraction of a second; one that takes this long is waiting for a server that went away silently.
const TO_GIVE_UP_A_CHUNK: Duration = Duration::from_secs(600);
/// How often to look whether chunks that others had in hand are done or free again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Prices one shard of a revision; started by the operator, as a pod of the run's Job
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

/// How a worker ends that nothing went wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Every chunk of the shard is done, by this worker or another.
    Done(ShardTotals),
    /// It was told to stop, and chunks are left.
    Stopped,
}

/// Why a worker ends before its shard does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nothing that a later attempt could change.
    #[error("the shard cannot be billed")]
    Fatal(#[source] Trouble),
    /// The database stayed away for longer than a worker waits; another attempt goes on from here.
    #[error("the database stayed away for too long")]
    Unavailable(#[source] Trouble),
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        let exit = match failure {
            Failure::Fatal(_) => ExitStatus::Failed,
            Failure::Unavailable(_) => ExitStatus::TryAgain,
        };
        Self::new(exit, failure)
    }
}

impl Bill {
    pub(crate) async fn run(&self, global: &Global, stop: &CancellationToken) -> CommandResult {
        Ok(match work_off(self, global.database_url()?, stop).await? {
            Ended::Done(_) => ExitStatus::Success,
            Ended::Stopped => ExitStatus::TryAgain,
        })
    }

    fn key(&self) -> RevisionKey {
        let BillArgs { month, revision, fence, run_uid, .. } = self.args;
        RevisionKey { month, revision, run_uid, fence }
    }
}

/// Works off the shard until nothing is left of it or `stop` is cancelled.
///
/// # Errors
/// See [`Failure`].
#[tracing::instrument(name = "bill", skip_all, fields(run = order.args.run, shard = order.shard))]
pub(crate) async fn work_off(
    order: &Bill,
    database: &SecretString,
    stop: &CancellationToken,
) -> Result<Ended, Failure> {
    let mut session = Session::new(order, database);
    let mut patience = Patience::default();
    while !stop.is_cancelled() {
        let step = tokio::select! {
            step = tokio::time::timeout(TO_GIVE_UP_A_CHUNK, session.step()) => step.unwrap_or(Err(Trouble::TimedOut)),
            // Dropping the step drops its connection with it, and the server rolls back.
            () = stopped_for(stop, TO_FINISH) => break,
        };
        match step {
            Ok(Step::Chunk { span, counts }) => {
                patience = Patience::default();
                let Counts { billed, quarantined, items, .. } = counts;
                tracing::debug!(chunk = span.chunk_no, billed, quarantined, items, "chunk done");
            }
            Ok(Step::InOtherHands) => {
                patience = Patience::default();
                pause(BETWEEN_LOOKS, stop).await;
            }
            Ok(Step::NothingLeft(totals)) => {
                let ShardTotals { chunks, billed, quarantined, .. } = totals;
                tracing::info!(chunks, billed, quarantined, by_this_worker = session.chunks(), "shard done");
                return Ok(Ended::Done(totals));
            }
            Err(trouble) if !trouble.is_transient() => return Err(Failure::Fatal(trouble)),
            Err(trouble) => {
                session.drop_connection();
                let Some(delay) = patience.after_failure() else { return Err(Failure::Unavailable(trouble)) };
                tracing::warn!(again_in_ms = delay.as_millis(), "{}", logging::chain(&trouble));
                pause(delay, stop).await;
            }
        }
    }
    tracing::info!(by_this_worker = session.chunks(), "told to stop; the next worker goes on from here");
    Ok(Ended::Stopped)
}

async fn stopped_for(stop: &CancellationToken, long: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(long).await;
}
