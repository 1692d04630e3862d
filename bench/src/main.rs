//! Benchmarks. Each measurement is compared with a reference that is measured in the same run, on
//! the same machine and with a private PostgreSQL. Prints a Markdown table, and fails if a goal is
//! missed.

mod billing;
mod issuing;
mod notify;
mod process_stats;
mod progress;
mod raw_copy;
mod reference;
mod report;
mod server;
mod worker_process;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures monthend on this machine and compares it with references
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compares billing with one set-based statement, and seeding with raw COPY
    Billing(Billing),
    /// Compares publishing with kafka-producer-perf-test, and consuming with composing in memory
    Notify(Notify),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The monthend program to measure [default: the one next to this program]
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,
    /// The price book to bill with
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricebook.yaml"))]
    price_book: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Billing {
    /// The numbers of members to measure with goals
    #[arg(long, value_delimiter = ',', default_value = "200000,1000000", value_name = "MEMBERS")]
    members: Vec<u64>,
    /// The number of members with 50 usage rows each, measured without goals; 0 leaves this
    /// measurement out
    #[arg(long, default_value_t = 100_000, value_name = "MEMBERS")]
    heavy_members: u64,
    /// The number of bills to issue and to roll back; 0 leaves this measurement out
    #[arg(long, default_value_t = 10_000_000, value_name = "BILLS")]
    issued_bills: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Notify {
    /// The numbers of members to measure; nearly every member has a bill
    #[arg(long, value_delimiter = ',', default_value = "200000,1000000", value_name = "MEMBERS")]
    bills: Vec<u64>,
    /// The folder with Kafka's jars
    #[arg(long, env = "KAFKA_HOME", value_name = "FOLDER")]
    kafka: PathBuf,
    /// The folder with the templates
    #[arg(long, value_name = "FOLDER",
          default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/monthend/files/templates"))]
    templates: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Common {
    fn worker(&self) -> anyhow::Result<PathBuf> {
        let worker = match &self.worker {
            Some(worker) => worker.clone(),
            None => std::env::current_exe()?.with_file_name("monthend"),
        };
        anyhow::ensure!(
            worker.is_file(),
            "{} does not exist: build it with `cargo build --release -p worker`",
            worker.display()
        );
        Ok(worker)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let command = Cli::parse().command;
    logging::init("warn")?;
    let met = match command {
        Command::Billing(options) => bill(&options).await?,
        Command::Notify(options) => notify(&options).await?,
    };
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn bill(options: &Billing) -> anyhow::Result<bool> {
    let (worker, price_book) = (options.common.worker()?, &options.common.price_book);
    let mut report = report::Report::default();
    for members in &options.members {
        report.add(billing::measure(&worker, price_book, *members, 5).await?);
    }
    if options.heavy_members > 0 {
        report.add_without_goals(billing::measure(&worker, price_book, options.heavy_members, 50).await?);
    }
    if options.issued_bills > 0 {
        report.issuing = Some(issuing::measure(&worker, price_book, options.issued_bills).await?);
    }
    Ok(report.print())
}

async fn notify(options: &Notify) -> anyhow::Result<bool> {
    let worker = options.common.worker()?;
    let tools = notify::Tools {
        worker: &worker,
        price_book: &options.common.price_book,
        templates: &options.templates,
        kafka: &options.kafka,
    };
    let mut report = notify::Report::default();
    for bills in &options.bills {
        report.add(notify::measure(&tools, *bills).await?);
    }
    Ok(report.print())
}
