//! The worker: one binary with a subcommand for each job. This file owns the command line and how a command ends.

mod bill;
mod check;
mod database_retry;
mod exit;
mod kafka;
mod load;
mod migrate;
mod notification_run;
mod notify;
mod output;
#[cfg(test)]
mod proxy;
mod publish;
mod rehearse;
mod render;
mod seed;
mod shutdown;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use store::crypto::Keyring;
use tokio_util::sync::CancellationToken;

use crate::exit::{CommandResult, ExitStatus};

/// Migrates, loads, bills and notifies: everything of monthend that works on many rows.
///
/// Exit status: 0 done; 2 usage or configuration; 3 done, with rejects; 4 failed for good; 75 try again.
#[derive(Debug, Parser)]
#[command(name = "monthend", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The database: postgres://ROLE:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL",
          value_parser = secret)]
    database_url: Option<SecretString>,
    /// The folder with the encryption keys: a file for each key id (32 bytes, base64), and `active`, which names one
    #[arg(long, env = "MONTHEND_KEYS_DIR", global = true, value_name = "FOLDER")]
    keys_dir: Option<PathBuf>,
    /// What is logged: info, debug, info,sqlx=debug …
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true, value_name = "FILTER")]
    log: String,
}

impl Global {
    pub(crate) fn database_url(&self) -> CommandResult<&SecretString> {
        self.database_url.as_ref().ok_or_else(|| {
            exit::CommandError::usage(anyhow::anyhow!("no database: set DATABASE_URL or give --database-url"))
        })
    }

    /// The keys for personal data.
    pub(crate) fn keys(&self) -> anyhow::Result<Keyring> {
        let folder = self.keys_dir.as_deref();
        let folder =
            folder.ok_or_else(|| anyhow::anyhow!("no keys: set MONTHEND_KEYS_DIR or give --keys-dir"))?;
        Ok(Keyring::from_folder(folder)?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Bill(bill::Bill),
    Check(check::Check),
    Load(load::Load),
    Migrate(migrate::Migrate),
    Notify(notify::Notify),
    Publish(publish::Publish),
    Rehearse(rehearse::Rehearse),
    Seed(seed::Seed),
    Verify(verify::Verify),
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            tracing::error!(exit = stop.status.code(), "{}", logging::chain(stop.error.as_ref()));
            stop.status.into()
        }
    }
}

#[tokio::main]
async fn run(cli: &Cli) -> CommandResult {
    use exit::OrExitStatus as _;
    logging::init(&cli.global.log).map_err(|error| {
        // There is no log to write it to.
        eprintln!("worker: {error}");
        exit::CommandError::usage(error)
    })?;
    let stop = shutdown::token().or_exit(ExitStatus::Failed)?;
    dispatch(cli, &stop).await
}

async fn dispatch(cli: &Cli, stop: &CancellationToken) -> CommandResult {
    match &cli.command {
        Command::Bill(bill) => bill.run(&cli.global, stop).await,
        Command::Check(check) => check.run(&cli.global).await,
        Command::Load(load) => load.run(&cli.global, stop).await,
        Command::Migrate(migrate) => migrate.run(&cli.global, stop).await,
        Command::Notify(notify) => notify.run(&cli.global, stop).await,
        Command::Publish(publish) => publish.run(&cli.global, stop).await,
        Command::Rehearse(rehearse) => rehearse.run(&cli.global, stop).await,
        Command::Seed(seed) => seed.run(&cli.global, stop).await,
        Command::Verify(verify) => verify.run(&cli.global).await,
    }
}
