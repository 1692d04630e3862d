//! What is measured against what. Each figure comes with its reference, measured in the same run on the same machine
//! against a PostgreSQL of its own. Prints a Markdown table; fails when a goal is missed.

mod billing;
mod cpu;
mod notify;
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
    Billing(Billing),
    /// Publishing against kafka-producer-perf-test, and consuming against composing in memory
    Notify(Notify),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The worker to measure [default: the one next to this program]
    #[arg(long, value_name = "FILE")]
    worker: Option<PathBuf>,
    /// The price book to bill with
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricebook.yaml"))]
    price_book: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Billing {
    /// Sizes to measure, with goals
    #[arg(long, value_delimiter = ',', default_value = "200000,1000000", value_name = "MEMBERS")]
    members: Vec<u64>,
    /// Members of a month with 50 usage rows each, measured for information; 0: leave it out
    #[arg(long, default_value_t = 100_000, value_name = "MEMBERS")]
    heavy_members: u64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Notify {
    /// Sizes to measure: members, who have about as many bills
    #[arg(long, value_delimiter = ',', default_value = "200000,1000000", value_name = "MEMBERS")]
    bills: Vec<u64>,
    /// The folder with Kafka's jars, broker and tools
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
            "there is no monthend program at {}: build it with `cargo build --release -p worker`",
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
        report.add_for_information(billing::measure(&worker, price_book, options.heavy_members, 50).await?);
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

fn say(what: std::fmt::Arguments<'_>) {
    eprintln!("bench: {what}");
}
