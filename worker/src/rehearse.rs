//! `monthend rehearse`: does all that a notification run does but sending: chooses the targets, reads, decrypts and renders
//! each, and keeps what would fail. Needs the database and the keys, neither Kafka nor a mail server.
//!
//! Like a publisher it may be killed at any moment and repeated at will: a chunk's outcomes are one transaction.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use domain::ids::MemberId;
use email::Mailbox;
use secrecy::SecretString;
use store::crypto::Keyring;
use store::error::DatabaseError;
use store::notification::{self, BillKey, NotificationError, NotificationState, Outcome, Selected, Uuid};
use tokio_util::sync::CancellationToken;
use worker_cli::RehearseArgs;

use crate::Global;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::patience::{Patience, pause};
use crate::publish::{own_connection, take_up};
use crate::render::{ComposerCache, Rendered, render_all};
use crate::terminal::{elapsed, grouped, rate};

/// Members in a chunk of the selection.
const CHUNK: i64 = 10_000;
/// Members that are rendered together.
const AT_ONCE: i64 = 500;
/// Between two looks whether a suspended run goes on.
const LOOK: Duration = Duration::from_secs(1);

/// Renders a notification run's mails without sending any; started by the operator, as the run's Job
#[derive(Debug, Clone, Args)]
pub(crate) struct Rehearse {
    #[command(flatten)]
    args: RehearseArgs,
}

/// How a rehearsal ends that nothing went wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Every target has an outcome, or the run is over.
    Done,
    /// It was told to stop.
    Stopped,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Notice(#[from] NotificationError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Trouble {
    fn is_transient(&self) -> bool {
        match self {
            Self::Notice(error) => error.is_transient(),
            Self::Database(error) => error.is_transient(),
        }
    }
}

impl Rehearse {
    pub(crate) async fn run(&self, global: &Global, stop: &CancellationToken) -> CommandResult {
        let keyring = Arc::new(global.keys().or_exit(ExitStatus::Usage)?);
        let from: Mailbox =
            self.args.from.parse().context("cannot parse --from").or_exit(ExitStatus::Usage)?;
        Ok(match self.rehearse(global.database_url()?, &keyring, &from, stop).await? {
            Ended::Done => ExitStatus::Success,
            Ended::Stopped => ExitStatus::TryAgain,
        })
    }

    #[tracing::instrument(name = "rehearse", skip_all, fields(run = self.args.run))]
    async fn rehearse(
        &self,
        database: &SecretString,
        keyring: &Arc<Keyring>,
        from: &Mailbox,
        stop: &CancellationToken,
    ) -> CommandResult<Ended> {
        let mut patience = Patience::default();
        loop {
            match self.session(database, keyring, from, stop, &mut patience).await {
                Ok(ended) => return Ok(ended),
                Err(trouble) if !trouble.is_transient() => {
                    return Err(CommandError::new(
                        ExitStatus::Failed,
                        anyhow!(trouble).context("the run cannot be rehearsed"),
                    ));
                }
                Err(trouble) => {
                    let text = logging::chain(&trouble);
                    let Some(delay) = patience.after_failure() else {
                        return Err(CommandError::new(
                            ExitStatus::TryAgain,
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

    /// Works until the database goes away.
    async fn session(
        &self,
        database: &SecretString,
        keyring: &Arc<Keyring>,
        from: &Mailbox,
        stop: &CancellationToken,
        patience: &mut Patience,
    ) -> Result<Ended, Trouble> {
        let pool = notification::connect(database, "monthend rehearse", 1).await?;
        let mut connection = own_connection(&pool).await?;
        let Some(run) = take_up(&mut connection, self.args.run_uid, stop).await? else {
            return Ok(Ended::Stopped);
        };
        *patience = Patience::default();
        let began = Instant::now();
        if run.state.is_over() {
            return Ok(Ended::Done);
        }
        match notification::select_targets(&mut connection, &run, CHUNK, |_| !stop.is_cancelled()).await? {
            Selected::Complete { .. } => {}
            Selected::Stopped => return Ok(Ended::Stopped),
            Selected::Over => return Ok(Ended::Done),
        }
        let mut composers = ComposerCache::new(keyring.clone(), from.clone());
        let mut after: Option<MemberId> = None;
        let (mut rendered, mut others) = (0_u64, 0_u64);
        loop {
            if stop.is_cancelled() {
                return Ok(Ended::Stopped);
            }
            let keys = notification::open_targets(&mut connection, &run, after, AT_ONCE).await?;
            let Some(last) = keys.last() else { break };
            after = Some(last.member);
            let rows = notification::read_bills_for_email(&mut connection, run.month, &keys).await?;
            let context = composers.batch_context(&mut connection, &run, &rows).await?;
            let ended = outcomes(&keys, render_all(&context, rows).await);
            for (_, came, _) in &ended {
                *(if *came == Outcome::Rendered { &mut rendered } else { &mut others }) += 1;
            }
            let mut state = notification::end_targets(&mut connection, &run, &ended).await?;
            while state == NotificationState::Suspended {
                // What was not written is read again.
                after = None;
                if pause(LOOK, stop).await {
                    return Ok(Ended::Stopped);
                }
                state = notification::run_of(&mut connection, self.args.run_uid).await?.state;
            }
            if state.is_over() {
                return Ok(Ended::Done);
            }
        }
        let time = began.elapsed();
        tracing::info!(
            rendered = grouped(rendered),
            others = grouped(others),
            elapsed = elapsed(time),
            per_second = rate(rendered, time),
            "the rehearsal is over"
        );
        Ok(Ended::Done)
    }
}

/// What came of each target. One whose bill was not found can't be told either.
fn outcomes(keys: &[BillKey], rendered: Vec<(BillKey, Rendered)>) -> Vec<(BillKey, Outcome, Option<String>)> {
    let mut ended: Vec<_> = rendered
        .into_iter()
        .map(|(key, rendered)| match rendered {
            Rendered::Email(_) => (key, Outcome::Rendered, None),
            Rendered::NoAddress => (key, Outcome::Skipped, Some("NO_ADDRESS".to_owned())),
            Rendered::Failed(reason) => (key, Outcome::Failed, Some(reason)),
        })
        .collect();
    let found: std::collections::HashSet<BillKey> = ended.iter().map(|(key, ..)| *key).collect();
    let missing = keys.iter().filter(|key| !found.contains(key));
    ended.extend(missing.map(|key| {
        (*key, Outcome::Failed, Some("NO_BILL: the bill or its member is not in the database".to_owned()))
    }));
    ended
}
