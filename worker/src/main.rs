//! The worker: one program, `monthend`, with a sub-command for each job. This file lists the
//! sub-commands and starts them.

mod amount_columns;
mod bill;
mod check;
mod database;
mod database_retry;
mod exit;
mod explain;
mod global_options;
mod kafka;
mod late;
mod load;
mod log;
mod migrate;
mod notification_run;
mod notify;
mod output;
mod publish;
mod rehearse;
mod render;
mod seed;
mod shutdown;
mod status;
#[cfg(test)]
mod tests;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;

/// Bills a month of a telecom's members and e-mails the bills
///
/// People and pods run this program; most of its work is started by the monthend operator, when
/// somebody creates a BillingRun or a NotificationRun on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "monthend", version, max_term_width = 110, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
To set up an installation, in this order: migrate, then load (or seed, for trying it out), then check.
Every month: load; then a BillingRun, which starts bill; then a NotificationRun, which starts publish or rehearse and whose
e-mails are sent by notify, which always runs. verify checks the result.
At any time: status shows a month, explain one bill, late what came after a month was billed, log the last batches.

Exit status:
  0   success
  2   usage or configuration is wrong: the same command fails again until it is changed
  3   success, but some rows were rejected
  4   failed for good
  5   the database has another schema version: this program cannot use it, the one of that version can
  75  interrupted, or something is unavailable: try again

`monthend help COMMAND` explains a command. Options can also be set in the environment, as shown with each of them.";

#[derive(Debug, Subcommand)]
enum Command {
    Bill(bill::Bill),
    Check(check::Check),
    Explain(explain::Explain),
    Late(late::Late),
    Load(load::Load),
    Log(log::Log),
    Migrate(migrate::Migrate),
    Notify(notify::Notify),
    Publish(publish::Publish),
    Rehearse(rehearse::Rehearse),
    Seed(seed::Seed),
    Status(status::Status),
    Verify(verify::Verify),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(status) => status.into(),
        Err(CommandError { status, error }) => {
            tracing::error!(exit = status.code(), "{}", logging::chain(error.as_ref()));
            status.into()
        }
    }
}

#[tokio::main]
async fn run(cli: &Cli) -> CommandResult {
    logging::init(&cli.global.log).map_err(|error| {
        // The log does not work yet.
        eprintln!("monthend: {error}");
        CommandError::usage(error)
    })?;
    let stop = shutdown::token().or_exit(ExitStatus::Failed)?;
    dispatch(cli, &stop).await
}

async fn dispatch(cli: &Cli, stop: &CancellationToken) -> CommandResult {
    match &cli.command {
        Command::Bill(bill) => bill.run(&cli.global, stop).await,
        Command::Check(check) => check.run(&cli.global).await,
        Command::Explain(explain) => explain.run(&cli.global).await,
        Command::Late(late) => late.run(&cli.global).await,
        Command::Load(load) => load.run(&cli.global, stop).await,
        Command::Log(log) => log.run(&cli.global).await,
        Command::Migrate(migrate) => migrate.run(&cli.global, stop).await,
        Command::Notify(notify) => notify.run(&cli.global, stop).await,
        Command::Publish(publish) => publish.run(&cli.global, stop).await,
        Command::Rehearse(rehearse) => rehearse.run(&cli.global, stop).await,
        Command::Seed(seed) => seed.run(&cli.global, stop).await,
        Command::Status(status) => status.run(&cli.global).await,
        Command::Verify(verify) => verify.run(&cli.global, stop).await,
    }
}
