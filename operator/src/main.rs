//! The operator: elects a leader among its replicas, reconciles the runs of one namespace, and
//! serves metrics and probes. This file only starts it; each module says what it owns.

mod autoscaling;
mod billing;
mod clock;
mod config;
mod controller;
mod crds;
mod database;
mod error;
mod housekeeping;
mod http;
mod leader;
mod metrics;
#[cfg(test)]
mod mock_server;
mod notification;
mod readings;
mod release;
mod restore_hold;
mod schedule;
mod serve;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Cli, Command};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => serve::run(*args),
        Command::Release(args) => release::run(args),
        Command::Crds(args) => print_crds(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The logger may not be set up yet.
            let text = logging::masking::mask_text(&format!("operator: {error:#}")).into_owned();
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn print_crds(args: &config::CrdsArgs) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match &args.out {
        Some(folder) => {
            for path in crds::write(folder)? {
                writeln!(stdout, "{}", path.display())?;
            }
        }
        None => {
            for (_, text) in crds::files()? {
                writeln!(stdout, "---\n{text}")?;
            }
        }
    }
    Ok(())
}
