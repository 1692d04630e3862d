//! `monthend verify`: one report of what must hold of a month, whatever happened to its runs. Changes nothing.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use domain::month::BillingMonth;
use sqlx::Connection as _;
use store::crypto::Keyring;
use store::error::During as _;
use store::verify::{self, MAX_VIOLATIONS, VerificationRequest, VerifyError};
use store::{migrate, pool};

use crate::Global;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::output::print_line;

/// Checks everything that must hold of a month; fails if something doesn't, and says what
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// YYYY-MM
    #[arg(long, value_name = "MONTH")]
    month: BillingMonth,
    /// What arrived: a file with the Message-ID of each message on a line of its own, as often as it arrived
    #[arg(long, value_name = "FILE")]
    sink: Option<PathBuf>,
}

impl Verify {
    pub(crate) async fn run(&self, global: &Global) -> CommandResult {
        let sink = self.read_sink().or_exit(ExitStatus::Usage)?;
        let keys = match &global.keys_dir {
            Some(folder) => {
                let keyring = Keyring::from_folder(folder).or_exit(ExitStatus::Usage)?;
                Some(keyring.ids().map(str::to_owned).collect::<Vec<String>>())
            }
            None => None,
        };
        let request = VerificationRequest {
            month: self.month,
            active: None,
            keys: keys.as_deref(),
            sink: sink.as_deref(),
        };

        let mut connection = pool::connect_one(global.database_url()?, "monthend verify").await?;
        migrate::check_version(&mut connection).await?;
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
