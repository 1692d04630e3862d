//! `monthend verify`: reports whether the invariants of a month hold, and, with `--replay`, whether
//! pricing it again gives the same bills. Changes nothing.

pub(crate) mod comparison;
pub(crate) mod replay;

use std::path::PathBuf;
use std::pin::pin;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use domain::month::BillingMonth;
use sqlx::{Connection as _, PgConnection};
use store::error::During as _;
use store::verify::{self, InvariantResult, MAX_VIOLATIONS, Progress, VerificationRequest, VerifyError};
use tokio_util::sync::CancellationToken;

use self::replay::{Replay, ReplayError};
use crate::database;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;
use crate::load::REPORT_INTERVAL;
use crate::output::{format_duration, print_line};

/// Check the bills and deliveries of a month
///
/// Prints each invariant, such as "a bill is the sum of its items", and up to 20 violations of it.
/// Exit status 4 if any is violated. Changes nothing, and can run at any time.
///
/// With --replay, also prices each live revision of the month again, from the loads and the price
/// book that it was billed with, and compares the result with the stored bills, line by line.
/// Later loads and take-backs make no difference. It takes about as long as billing the revision with one
/// worker.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  monthend verify --month 2026-10\n  monthend verify --month 2026-10 --replay"
)]
pub(crate) struct Verify {
    /// Billing month, as YYYY-MM
    #[arg(long, value_name = "MONTH")]
    month: BillingMonth,
    /// File with the Message-ID of each e-mail that arrived, one on each line, to compare with what
    /// was sent
    #[arg(long, value_name = "FILE")]
    sink: Option<PathBuf>,
    /// Price the month again and compare the result with the stored bills
    #[arg(long)]
    replay: bool,
}

impl Verify {
    pub(crate) async fn run(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        let sink = self.read_sink().or_exit(ExitStatus::Usage)?;
        let keys = if global.has_keys() {
            let keyring = global.keys().or_exit(ExitStatus::Usage)?;
            Some(keyring.ids().map(str::to_owned).collect::<Vec<String>>())
        } else {
            None
        };
        let request = VerificationRequest {
            month: self.month,
            active: None,
            keys: keys.as_deref(),
            sink: sink.as_deref(),
        };

        let mut connection = database::connect(global.database_url()?, "monthend verify").await?;
        // Of one moment: runs may go on meanwhile.
        let mut snapshot = connection
            .begin_with("begin isolation level repeatable read, read only")
            .await
            .during("cannot open the transaction that verifies")?;
        let report = verify_and_report(&mut snapshot, &request).await?;
        let replay = if self.replay {
            let Some(replay) = replay::replay_month(&mut snapshot, self.month, stop).await? else {
                return Ok(ExitStatus::TryAgain);
            };
            Some(replay)
        } else {
            None
        };
        snapshot.rollback().await.during("cannot end the transaction that verifies")?;

        for result in &report {
            let verdict = match result.violations.len() {
                0 => "holds".to_owned(),
                MAX_VIOLATIONS => format!("VIOLATED, {MAX_VIOLATIONS} times or more"),
                number => format!("VIOLATED, {number} times"),
            };
            print_result(result.name, &verdict, result.description, &result.violations);
        }
        if let Some(Replay { notes, other_rules, found, violations }) = &replay {
            let verdict = if *found == 0 { "holds".to_owned() } else { format!("VIOLATED, {found} times") };
            let rules = if *other_rules { ", with other pricing rules" } else { "" };
            print_result(replay::NAME, &format!("{verdict}{rules}"), replay::DESCRIPTION, violations);
            for note in notes {
                print_line(format_args!("    {note}"));
            }
        } else {
            print_line(format_args!("{} was not checked: give --replay", replay::NAME));
        }
        if keys.is_none() {
            print_line(
                "envelopes-are-valid was checked without the keys: set MONTHEND_KEYS_DIR or give --keys-dir",
            );
        }
        if sink.is_none() {
            print_line("arrived-emails-match-deliveries was not checked: give --sink");
        }
        let replay_holds = replay.as_ref().map(|replay| replay.found == 0);
        let held: Vec<bool> =
            report.iter().map(|result| result.violations.is_empty()).chain(replay_holds).collect();
        let violated = held.iter().filter(|held| !**held).count();
        print_line(format_args!("{}: {} of {} hold", self.month, held.len() - violated, held.len()));
        Ok(if violated == 0 { ExitStatus::Success } else { ExitStatus::Failed })
    }

    fn read_sink(&self) -> anyhow::Result<Option<Vec<String>>> {
        let Some(path) = &self.sink else { return Ok(None) };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let ids = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        Ok(Some(ids.collect()))
    }
}

/// Checks every invariant, and logs every few seconds which check is made.
async fn verify_and_report(
    snapshot: &mut PgConnection,
    request: &VerificationRequest<'_>,
) -> Result<Vec<InvariantResult>, VerifyError> {
    let (began, progress) = (Instant::now(), Progress::default());
    let of = Progress::CHECKS + usize::from(request.sink.is_some());
    let mut verified = pin!(verify::verify_with_progress(snapshot, request, &progress));
    loop {
        match tokio::time::timeout(REPORT_INTERVAL, verified.as_mut()).await {
            Ok(report) => return report,
            Err(_) => {
                if let Some((number, check)) = progress.current() {
                    let elapsed = format_duration(began.elapsed());
                    tracing::info!(check, number, of, elapsed, "verifying");
                }
            }
        }
    }
}

fn print_result(name: &str, verdict: &str, description: &str, violations: &[String]) {
    print_line(format_args!("{name}: {verdict} ({description})"));
    for violation in violations {
        print_line(format_args!("    {violation}"));
    }
}

impl From<ReplayError> for CommandError {
    fn from(error: ReplayError) -> Self {
        let status = if error.is_transient() { ExitStatus::TryAgain } else { ExitStatus::Failed };
        Self::new(status, error)
    }
}

impl From<VerifyError> for CommandError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Database(error) => error.into(),
            error @ VerifyError::PriceBook { .. } => Self::new(ExitStatus::Failed, error),
        }
    }
}
