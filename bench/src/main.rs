//! What is measured against what. Each figure comes with its reference, measured in the same run on the same machine
//! against a PostgreSQL of its own. Prints a Markdown table; fails when a goal is missed.

mod billing;
mod cpu;
mod reference;
mod report;
mod seed;
mod server;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures monthend against references on this machine.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Billing against one set-based statement, and bulk generation against raw COPY
    Billing(Options),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// Sizes to measure, with goals
    #[arg(long, value_delimiter = ',', default_value = "200000,1000000", value_name = "MEMBERS")]
    members: Vec<u64>,
    /// Members of a month with 50 usage rows each, measured for information; 0: leave it out
    #[arg(long, default_value_t = 100_000, value_name = "MEMBERS")]
    heavy_members: u64,
    /// The worker to measure [default: the one next to this program]
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,
    /// The price book to bill with
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricebook.yaml"))]
    price_book: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Command::Billing(options) = Cli::parse().command;
    telemetry::init("warn")?;
    let worker = match options.worker {
        Some(worker) => worker,
        None => std::env::current_exe()?.with_file_name("worker"),
    };
    anyhow::ensure!(
        worker.is_file(),
        "there is no worker at {}: build it with `cargo build --release -p worker`",
        worker.display()
    );
    let mut report = report::Report::default();
    for members in options.members {
        report.add(billing::measure(&worker, &options.price_book, members, 5).await?);
    }
    if options.heavy_members > 0 {
        report.add_for_information(
            billing::measure(&worker, &options.price_book, options.heavy_members, 50).await?,
        );
    }
    Ok(if report.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
