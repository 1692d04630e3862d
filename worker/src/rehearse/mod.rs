//! `monthend rehearse`: does everything that a notification run does except sending. Selects the
//! targets, reads, decrypts and renders the email of each, and stores the reasons of those that
//! would fail. Needs the database and the keys, and neither Kafka nor a mail server.
//!
//! It can be killed at any moment and repeated, like `publish`: the outcomes of a page are written
//! in one transaction.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use clap::Args;
use domain::ids::MemberId;
use email::Mailbox;
use secrecy::SecretString;
use sqlx::PgConnection;
use store::crypto::Keyring;
use store::error::{DatabaseError, StoreError};
use store::migrate;
use store::notification::{self, BillKey, NotificationError, NotificationState, Outcome, RunFacts, reasons};
use tokio_util::sync::CancellationToken;
use worker_cli::RehearseArgs;

use crate::database_retry::{DatabaseRetries, DatabaseRetryPolicy, RetryError, Retryable, retry};
use crate::exit::{CommandError, CommandResult, Completion, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;
use crate::notification_run::{connect, lock_run, select_targets, until_resumed};
use crate::output::{format_duration, group_digits, rows_per_second};
use crate::render::{ComposerCache, Rendered, render_all};

/// Targets that are rendered together.
const PAGE_SIZE: i64 = 500;

/// Render the e-mails of a notification run without sending any. The operator starts this command,
/// as the run's Job.
#[derive(Debug, Clone, Args)]
pub(crate) struct Rehearse {
    #[command(flatten)]
    args: RehearseArgs,
}

/// What a rehearsal works with.
struct Rehearsal<'a> {
    args: &'a RehearseArgs,
    database: &'a SecretString,
    keyring: &'a Arc<Keyring>,
    from: &'a Mailbox,
    stop: &'a CancellationToken,
}

#[derive(Debug, thiserror::Error)]
enum RehearseError {
    #[error(transparent)]
    Notification(#[from] NotificationError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DatabaseError> for RehearseError {
    fn from(error: DatabaseError) -> Self {
        Self::Store(error.into())
    }
}

impl RehearseError {
    /// Whether the database has another schema version than this program.
    fn is_other_schema(&self) -> bool {
        match self {
            Self::Notification(error) => error.is_other_schema(),
            Self::Store(error) => error.is_other_schema(),
        }
    }
}

impl Retryable for RehearseError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Notification(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
        }
    }
}

impl Rehearse {
    pub(crate) async fn run(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        let keyring = &Arc::new(global.keys().or_exit(ExitStatus::Usage)?);
        let from = &self.args.from.parse().context("cannot parse --from").or_exit(ExitStatus::Usage)?;
        let rehearsal = Rehearsal { args: &self.args, database: global.database_url()?, keyring, from, stop };
        rehearsal.run(DatabaseRetryPolicy::JOB).await.map(Completion::into)
    }
}

impl Rehearsal<'_> {
    #[tracing::instrument(name = "rehearse", skip_all, fields(run = self.args.run))]
    async fn run(&self, policy: DatabaseRetryPolicy) -> CommandResult<Completion> {
        let mut retries = DatabaseRetries::new(policy, self.stop.clone());
        match retry!(retries, self.connect_and_run(&mut retries)) {
            Ok(completion) => Ok(completion),
            Err(RetryError::Stopped) => Ok(Completion::Stopped),
            Err(error @ RetryError::GaveUp(_)) => Err(CommandError::new(ExitStatus::TryAgain, error)),
            Err(RetryError::Fatal(error)) => {
                let status =
                    if error.is_other_schema() { ExitStatus::OtherSchema } else { ExitStatus::Failed };
                Err(CommandError::new(status, anyhow!(error).context("the run cannot be rehearsed")))
            }
        }
    }

    /// Rehearses until every target has an outcome, `stop` is cancelled, or the database fails.
    async fn connect_and_run(&self, retries: &mut DatabaseRetries) -> Result<Completion, RehearseError> {
        let policy = retries.policy();
        let connection = &mut connect(self.database, "monthend rehearse").await?;
        let Some(run) = lock_run(connection, policy, self.args.run_uid, self.stop).await? else {
            return Ok(Completion::Stopped);
        };
        retries.record_success();
        let began = Instant::now();
        if run.state.is_over() {
            return Ok(Completion::Done);
        }
        if let Some(completion) = select_targets(connection, policy, &run, self.stop).await? {
            return Ok(completion);
        }
        let mut composers = ComposerCache::new(self.keyring.clone(), self.from.clone());
        let mut after: Option<MemberId> = None;
        let (mut rendered, mut others) = (0_u64, 0_u64);
        while !self.stop.is_cancelled() {
            let page = rehearse_page(connection, &run, after, &mut composers);
            let Some(page) = policy.within_timeout(page).await? else {
                let time = began.elapsed();
                tracing::info!(
                    rendered = group_digits(rendered),
                    others = group_digits(others),
                    elapsed = format_duration(time),
                    per_second = rows_per_second(rendered, time),
                    "rehearsed the run"
                );
                return Ok(Completion::Done);
            };
            after = Some(page.last);
            rendered += page.rendered;
            others += page.others;
            let mut state = page.state;
            if state == NotificationState::Suspended {
                // Outcomes are not written while the run is suspended: those targets are read again.
                after = None;
                state = until_resumed(connection, policy, self.args.run_uid, self.stop).await?;
            }
            if state.is_over() {
                return Ok(Completion::Done);
            }
        }
        Ok(Completion::Stopped)
    }
}

/// A page of targets whose emails were rendered.
struct Page {
    last: MemberId,
    rendered: u64,
    others: u64,
    /// The run's state when the outcomes were written.
    state: NotificationState,
}

/// Renders the next open targets and writes their outcomes; none when no target is open. Fails if
/// the database was migrated since the last page.
async fn rehearse_page(
    connection: &mut PgConnection,
    run: &RunFacts,
    after: Option<MemberId>,
    composers: &mut ComposerCache,
) -> Result<Option<Page>, RehearseError> {
    migrate::check_version(connection).await?;
    let keys = notification::read_open_targets(connection, run, after, PAGE_SIZE).await?;
    let Some(last) = keys.last().map(|key| key.member) else { return Ok(None) };
    let rows = notification::read_bills_for_email(connection, run, &keys).await?;
    let context = composers.batch_context(connection, run, &rows).await?;
    let outcomes = outcomes(&keys, render_all(&context, rows).await);
    let (mut rendered, mut others) = (0, 0);
    for (_, outcome, _) in &outcomes {
        *(if *outcome == Outcome::Rendered { &mut rendered } else { &mut others }) += 1;
    }
    let state = notification::record_rehearsal_outcomes(connection, run, &outcomes).await?;
    Ok(Some(Page { last, rendered, others, state }))
}

/// The outcome of each target, with the reason. A target whose bill was not found cannot be
/// e-mailed either.
fn outcomes(keys: &[BillKey], rendered: Vec<(BillKey, Rendered)>) -> Vec<(BillKey, Outcome, Option<String>)> {
    let mut ended: Vec<_> = rendered
        .into_iter()
        .map(|(key, rendered)| match rendered {
            Rendered::Email(_) => (key, Outcome::Rendered, None),
            Rendered::NoAddress => (key, Outcome::Skipped, Some(reasons::NO_ADDRESS.to_owned())),
            Rendered::ZeroAmount => (key, Outcome::Skipped, Some(reasons::ZERO_AMOUNT.to_owned())),
            Rendered::Failed(reason) => (key, Outcome::Failed, Some(reason)),
        })
        .collect();
    let found: HashSet<BillKey> = ended.iter().map(|(key, ..)| *key).collect();
    let missing = keys.iter().filter(|key| !found.contains(key));
    ended.extend(missing.map(|key| {
        (*key, Outcome::Failed, Some("NO_BILL: the bill or its member is not in the database".to_owned()))
    }));
    ended
}
