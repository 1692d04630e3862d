//! `monthend verify`: reports whether the invariants of a month hold. Changes nothing.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use domain::month::BillingMonth;
use sqlx::Connection as _;
use store::error::During as _;
use store::verify::{self, MAX_VIOLATIONS, VerificationRequest, VerifyError};

use crate::database;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;
use crate::output::print_line;

/// Check the bills and deliveries of a month
///
/// Prints each invariant, such as "a bill is the sum of its items", and up to 20 violations of it.
/// Exit status 4 if any is violated. Changes nothing, and can run at any time.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  monthend verify --month 2026-10")]
pub(crate) struct Verify {
    /// Billing month, as YYYY-MM
    #[arg(long, value_name = "MONTH")]
    month: BillingMonth,
    /// File with the Message-ID of each e-mail that arrived, one on each line, to compare with what
    /// was sent
    #[arg(long, value_name = "FILE")]
    sink: Option<PathBuf>,
}

impl Verify {
    pub(crate) async fn run(&self, global: &GlobalOptions) -> CommandResult {
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
        let report = verify::verify_month(&mut snapshot, &request).await?;
        snapshot.rollback().await.during("cannot end the transaction that verifies")?;

        for result in &report {
            let verdict = match result.violations.len() {
                0 => "holds".to_owned(),
                MAX_VIOLATIONS => format!("VIOLATED, {MAX_VIOLATIONS} times or more"),
                number => format!("VIOLATED, {number} times"),
            };
            print_line(format_args!("{}: {verdict} ({})", result.name, result.description));
            for violation in &result.violations {
                print_line(format_args!("    {violation}"));
            }
        }
        if keys.is_none() {
            print_line(
                "envelopes-are-valid was checked without the keys: set MONTHEND_KEYS_DIR or give --keys-dir",
            );
        }
        if sink.is_none() {
            print_line("arrived-emails-match-deliveries was not checked: give --sink");
        }
        let violated = report.iter().filter(|result| !result.violations.is_empty()).count();
        print_line(format_args!("{}: {} of {} hold", self.month, report.len() - violated, report.len()));
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

impl From<VerifyError> for CommandError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Database(error) => error.into(),
            error @ VerifyError::PriceBook { .. } => Self::new(ExitStatus::Failed, error),
        }
    }
}
