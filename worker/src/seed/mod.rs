//! `monthend seed`: as many members as asked for, with everything that a month of theirs brings. Owns how the work is spread;
//! what is generated is [`generate`]'s.

mod generate;
mod members;
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
use store::installation;
use store::job_log::{JobCounts, JobKind};
use store::load::{self, Started};
use store::migrate::check_version;
use store::pool::connect_one;
use store::seed;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::generate::{Generator, Piece, Plan};
use self::members::Catalogue;
use crate::Global;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::load::report::Progress;
use crate::load::{give_up, lock, sweep};
use crate::terminal::{elapsed, grouped, rate, say};

const EXAMPLE: &str = include_str!("../../../examples/pricebook.yaml");
/// Blocks that a writer takes at a time.
const BLOCKS: u64 = 4;

/// Fills an empty installation with made-up members and a month of their usage; the same parameters give the same data
#[derive(Debug, Args)]
pub(crate) struct Seed {
    /// How many members, each with a base plan in the month
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    members: u64,
    /// The month of the usage, YYYY-MM
    #[arg(long, value_name = "MONTH")]
    month: BillingMonth,
    /// Usage rows of a member in the month, on average
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=100_000))]
    usage_per_member: u64,
    /// Other numbers give other data
    #[arg(long, value_name = "NUMBER", default_value_t = 42)]
    seed: u64,
    /// The price book whose plans and discounts members have [default: the example]
    #[arg(long, value_name = "FILE")]
    price_book: Option<PathBuf>,
    /// Connections that write at once; the data does not depend on it
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    connections: u8,
}

impl Seed {
    pub(crate) async fn run(&self, global: &Global, stop: &CancellationToken) -> CommandResult {
        let book = self.price_book().or_exit(ExitStatus::Usage)?;
        let no_base = || anyhow!("the price book {} has no base plan for members to have", book.version);
        let catalogue = Catalogue::of(&book).ok_or_else(no_base).or_exit(ExitStatus::Usage)?;
        let keys = global.keys().or_exit(ExitStatus::Usage)?;
        let url = global.database_url()?;
        let mut connection = connect_one(url, "monthend seed").await?;
        check_version(&mut connection).await?;
        let installation = installation::read(&mut connection).await?;
        let fingerprint = format!(
            "members {}, month {}, usage per member {}, seed {}, price book {}",
            self.members, self.month, self.usage_per_member, self.seed, book.sha256
        );
        lock(&mut connection, stop).await?;
        sweep(&mut connection).await?;
        if let Some(number) = seed::find(&mut connection, &fingerprint).await? {
            say(format_args!("seeded already with these parameters, by load {number}"));
            return Ok(ExitStatus::Success);
        }
        if seed::has_members(&mut connection).await? {
            let reason =
                "the database has members already, of another seed or load: seed an empty installation";
            return Err(CommandError::usage(anyhow!(reason)));
        }
        let detail = json!({
            "host": std::env::var("HOSTNAME").unwrap_or_default(),
            "process": std::process::id(),
            "parameters": fingerprint,
        });
        let (month, source) = (self.month.to_string(), generate::SOURCE);
        let begun =
            load::begin(&mut connection, JobKind::Seed, source, Some(&fingerprint), Some(&month), &detail)
                .await?;
        tracing::info!(load = begun.number, members = self.members, "seeding");
        let plan = Arc::new(Plan {
            seed: self.seed,
            members: self.members,
            usage_per_member: self.usage_per_member,
            month: self.month,
            zone: installation.zone,
            catalogue,
            keys,
            load: begun.number,
        });
        let server_process = load::server_process(&mut connection).await?;
        let progress = Progress::new();
        let done = tokio::select! {
            done = self.fill(url, &mut connection, begun, &plan, &progress, stop) => done,
            never = progress.tell(url, begun.job) => match never {},
        };
        match done {
            Ok(exit) => Ok(exit),
            Err(stopped) => {
                give_up(url, connection, server_process, begun, JobKind::Seed, &stopped).await;
                Err(stopped)
            }
        }
    }

    fn price_book(&self) -> anyhow::Result<PriceBook> {
        match &self.price_book {
            None => PriceBook::parse(EXAMPLE).context("the example's price book"),
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
        begun: Started,
        plan: &Arc<Plan>,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> CommandResult {
        let started = Instant::now();
        for month in plan.usage_months() {
            load::open_usage(connection, month).await?;
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
                written.context("a writer broke off").or_exit(ExitStatus::Failed)??;
            rows += more_rows;
            bytes += more_bytes;
        }
        let copied = started.elapsed();
        let finish = finish(connection, begun, plan, rows, progress);
        tokio::select! {
            finished = finish => finished?,
            () = stop.cancelled() => return Err(interrupted()),
        }
        say(format_args!(
            "seeded {} members, {} rows as load {} in {} (copying {}: {} rows/s, {} MB)",
            grouped(plan.members),
            grouped(rows),
            begun.number,
            elapsed(started.elapsed()),
            elapsed(copied),
            rate(rows, copied),
            grouped(bytes / 1_000_000)
        ));
        Ok(ExitStatus::Success)
    }
}

fn interrupted() -> CommandError {
    CommandError::new(ExitStatus::TryAgain, anyhow!("interrupted; nothing was seeded"))
}

/// Indexes what was written and makes it visible.
async fn finish(
    connection: &mut PgConnection,
    begun: Started,
    plan: &Plan,
    rows: u64,
    progress: &Progress,
) -> CommandResult<()> {
    const OPERATION: &str = "cannot finish the seed";
    progress.step("indexing");
    for month in plan.usage_months() {
        load::index_usage(connection, month).await?;
    }
    load::analyze(connection).await?;
    let counts = JobCounts { succeeded: rows.try_into().unwrap_or(i64::MAX), ..JobCounts::default() };
    let mut tx = connection.begin().await.during(OPERATION)?;
    load::finish(&mut tx, begun, counts, &json!({ "members": plan.members })).await?;
    tx.commit().await.during(OPERATION)?;
    Ok(())
}

/// One writer: generates on a thread of its own while its connection writes what was generated before.
async fn write(
    url: SecretString,
    plan: Arc<Plan>,
    next_block: Arc<AtomicU64>,
    progress: Progress,
    stop: CancellationToken,
) -> CommandResult<(u64, u64)> {
    let mut connection = connect_one(&url, "monthend seed writer").await?;
    seed::join(&mut connection).await?;
    let (sender, mut pieces) = mpsc::channel::<Piece>(1);
    let stopped = stop.clone();
    let generating = tokio::task::spawn_blocking(move || generate(&plan, &next_block, &sender, &stopped));
    let (mut rows, mut bytes) = (0, 0);
    while let Some((table, piece)) = pieces.recv().await {
        bytes += u64::try_from(piece.size()).unwrap_or(u64::MAX);
        let written = seed::write(&mut connection, table, piece).await?;
        progress.add(written);
        rows += written;
    }
    generating.await.context("the generator broke off").or_exit(ExitStatus::Failed)?;
    if stop.is_cancelled() { Err(interrupted()) } else { Ok((rows, bytes)) }
}

/// Takes blocks until there are none, or nobody wants them any more.
fn generate(plan: &Plan, next_block: &AtomicU64, sender: &mpsc::Sender<Piece>, stop: &CancellationToken) {
    let mut generator = Generator::new(plan);
    let mut hand_on = |piece| sender.blocking_send(piece);
    loop {
        let first = next_block.fetch_add(BLOCKS, Ordering::Relaxed);
        if first >= plan.blocks() || stop.is_cancelled() {
            break;
        }
        for block in first..(first + BLOCKS).min(plan.blocks()) {
            if generator.block(block, &mut hand_on).is_err() {
                return;
            }
        }
    }
    // The receiver goes away only when it failed, and then it says why.
    drop(generator.finish(&mut hand_on));
}
