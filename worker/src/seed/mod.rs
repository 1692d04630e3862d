//! `monthend seed`: fills an empty installation with generated members and a month of their usage.
//! Owns how the work is spread over connections; [`generate`] owns the data.

mod contracts;
mod generate;
mod people;
mod random;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use clap::Args;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use secrecy::SecretString;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use store::error::During as _;
use store::job_log::{JobCounts, JobKind};
use store::load::{self, NewLoad, StartedLoad};
use store::{installation, seed};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::contracts::Catalogue;
use self::generate::{Generator, Piece, Plan};
use crate::database;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;
use crate::load::{Progress, abandon, acquire_load_lock, remove_dead_loads};
use crate::output::{format_duration, group_digits, print_line, rows_per_second};

const EXAMPLE_PRICE_BOOK: &str = include_str!("../../../examples/pricebook.yaml");
/// Blocks that a writer takes at a time.
const BLOCKS_AT_ONCE: u64 = 4;

/// Fill an empty installation with generated members and a month of their usage
///
/// For trying things out and for load tests. The same parameters always give the same data; no
/// person in it exists. Nothing becomes visible until all of it is written.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  monthend seed --month 2026-10 --members 10000")]
pub(crate) struct Seed {
    /// Number of members; each has a base plan in the month
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    members: u64,
    /// Month of the usage, as YYYY-MM
    #[arg(long, value_name = "MONTH")]
    month: BillingMonth,
    /// Usage rows of a member in the month, on average
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    usage_per_member: u64,
    /// Start of the random numbers: another number gives other data
    #[arg(long, value_name = "NUMBER", default_value_t = 42)]
    seed: u64,
    /// Price book with the plans and discounts that members get [default: examples/pricebook.yaml]
    #[arg(long, value_name = "FILE")]
    price_book: Option<PathBuf>,
    /// Database connections that write at the same time; the data does not depend on it
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    connections: u8,
}

impl Seed {
    pub(crate) async fn run(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        let book = self.price_book().or_exit(ExitStatus::Usage)?;
        let no_base = || anyhow!("price book {} has no base plan: members need one", book.version);
        let catalogue = Catalogue::of(&book).ok_or_else(no_base).or_exit(ExitStatus::Usage)?;
        let keys = global.keys().or_exit(ExitStatus::Usage)?;
        let url = global.database_url()?;
        let mut connection = database::connect(url, "monthend seed").await?;
        let installation = installation::read(&mut connection).await?;
        let fingerprint = format!(
            "members {}, month {}, usage per member {}, seed {}, price book {}",
            self.members, self.month, self.usage_per_member, self.seed, book.sha256
        );
        acquire_load_lock(&mut connection, stop).await?;
        remove_dead_loads(&mut connection).await?;
        if let Some(number) = seed::find_finished_seed(&mut connection, &fingerprint).await? {
            print_line(format_args!("already seeded with these parameters, by load {number}"));
            return Ok(ExitStatus::Success);
        }
        if seed::has_members(&mut connection).await? {
            let reason =
                "the database already has members of another seed or load: seed an empty installation";
            return Err(CommandError::usage(anyhow!(reason)));
        }
        let detail = json!({
            "host": std::env::var("HOSTNAME").unwrap_or_default(),
            "process": std::process::id(),
            "parameters": fingerprint,
        });
        let (month, source) = (self.month.to_string(), generate::SOURCE);
        let new_load = load::begin_load(
            &mut connection,
            &NewLoad {
                kind: JobKind::Seed,
                source,
                fingerprint: Some(&fingerprint),
                month: Some(&month),
                days: None,
                detail: &detail,
            },
        )
        .await?;
        tracing::info!(load = new_load.number, members = self.members, "seeding");
        let plan = Arc::new(Plan {
            seed: self.seed,
            members: self.members,
            usage_per_member: self.usage_per_member,
            month: self.month,
            zone: installation.zone,
            catalogue,
            keys,
            load: new_load.number,
        });
        let server_process = load::read_server_process(&mut connection).await?;
        let progress = Progress::new();
        let done = tokio::select! {
            done = self.fill(url, &mut connection, new_load, &plan, &progress, stop) => done,
            never = progress.report(url, new_load.job) => match never {},
        };
        match done {
            Ok(status) => Ok(status),
            Err(error) => {
                abandon(url, connection, server_process, new_load, JobKind::Seed, &error).await;
                Err(error)
            }
        }
    }

    fn price_book(&self) -> anyhow::Result<PriceBook> {
        match &self.price_book {
            None => PriceBook::parse(EXAMPLE_PRICE_BOOK).context("examples/pricebook.yaml"),
            Some(path) => {
                let named = || path.display().to_string();
                let text =
                    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", named()))?;
                PriceBook::parse(&text).with_context(named)
            }
        }
    }

    async fn fill(
        &self,
        url: &SecretString,
        connection: &mut PgConnection,
        new_load: StartedLoad,
        plan: &Arc<Plan>,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> CommandResult {
        let started = Instant::now();
        for month in plan.usage_months() {
            load::open_usage_partition(connection, month).await?;
        }
        progress.step("generating and writing");
        let mut writers = JoinSet::new();
        let next_block = Arc::new(AtomicU64::new(0));
        for _ in 0..self.connections {
            let (url, plan, next_block) = (url.clone(), plan.clone(), next_block.clone());
            writers.spawn(write(url, plan, next_block, progress.clone(), stop.clone()));
        }
        let (mut rows, mut bytes) = (0, 0);
        while let Some(written) = writers.join_next().await {
            let (more_rows, more_bytes) =
                written.context("a writer ended unexpectedly").or_exit(ExitStatus::Failed)??;
            rows += more_rows;
            bytes += more_bytes;
        }
        let copied = started.elapsed();
        let finish = finish(connection, new_load, plan, rows, progress);
        tokio::select! {
            finished = finish => finished?,
            () = stop.cancelled() => return Err(interrupted()),
        }
        print_line(format_args!(
            "seeded {} members, {} rows as load {} in {} (copying {}: {} rows/s, {} MB)",
            group_digits(plan.members),
            group_digits(rows),
            new_load.number,
            format_duration(started.elapsed()),
            format_duration(copied),
            rows_per_second(rows, copied),
            group_digits(bytes / 1_000_000)
        ));
        Ok(ExitStatus::Success)
    }
}

fn interrupted() -> CommandError {
    CommandError::new(ExitStatus::TryAgain, anyhow!("interrupted; nothing was seeded"))
}

/// Creates the indexes and makes the data visible.
async fn finish(
    connection: &mut PgConnection,
    new_load: StartedLoad,
    plan: &Plan,
    rows: u64,
    progress: &Progress,
) -> CommandResult<()> {
    const OPERATION: &str = "cannot finish the seed";
    progress.step("indexing");
    for month in plan.usage_months() {
        load::index_usage(connection, month).await?;
    }
    load::analyze_reference_data(connection).await?;
    let counts = JobCounts { succeeded: rows.try_into().unwrap_or(i64::MAX), ..JobCounts::default() };
    let mut tx = connection.begin().await.during(OPERATION)?;
    seed::record_totals(&mut tx, new_load.number).await?;
    load::finish_load(&mut tx, new_load, counts, &json!({ "members": plan.members })).await?;
    tx.commit().await.during(OPERATION)?;
    Ok(())
}

/// One writer: its thread generates rows while its connection writes the rows before them.
async fn write(
    url: SecretString,
    plan: Arc<Plan>,
    next_block: Arc<AtomicU64>,
    progress: Progress,
    stop: CancellationToken,
) -> CommandResult<(u64, u64)> {
    let mut connection = database::connect(&url, "monthend seed writer").await?;
    seed::join_seed_writers(&mut connection).await?;
    let (sender, mut pieces) = mpsc::channel::<Piece>(1);
    let stopped = stop.clone();
    let generating = tokio::task::spawn_blocking(move || generate(&plan, &next_block, &sender, &stopped));
    let (mut rows, mut bytes) = (0, 0);
    while let Some((table, piece)) = pieces.recv().await {
        bytes += u64::try_from(piece.size()).unwrap_or(u64::MAX);
        let written = seed::copy_rows(&mut connection, table, piece).await?;
        progress.add(written);
        rows += written;
    }
    generating.await.context("the generator ended unexpectedly").or_exit(ExitStatus::Failed)?;
    if stop.is_cancelled() { Err(interrupted()) } else { Ok((rows, bytes)) }
}

/// Generates blocks until none is left, the receiver is closed, or `stop` is cancelled.
fn generate(plan: &Plan, next_block: &AtomicU64, sender: &mpsc::Sender<Piece>, stop: &CancellationToken) {
    let mut generator = Generator::new(plan);
    let mut send = |piece| sender.blocking_send(piece);
    loop {
        let first = next_block.fetch_add(BLOCKS_AT_ONCE, Ordering::Relaxed);
        if first >= plan.blocks() || stop.is_cancelled() {
            break;
        }
        for block in first..(first + BLOCKS_AT_ONCE).min(plan.blocks()) {
            if generator.block(block, &mut send).is_err() {
                return;
            }
        }
    }
    // A closed receiver has failed, and reports its own error.
    drop(generator.finish(&mut send));
}
