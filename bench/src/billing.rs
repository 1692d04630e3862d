//! Measures billing at one size: seeds, copies the same bytes with raw COPY, bills with the
//! reference statement, and bills with workers.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use secrecy::SecretString;
use sqlx::PgPool;
use store::billing::{
    self, AfterSent, BeginRequest, BeginResult, Rebilling, RevisionKey, Scope, Started, Uuid,
};

use crate::progress::print_step;
use crate::raw_copy::raw_copy;
use crate::report::Measurement;
use crate::server::{Server, connect, execute, query_value, wanted};
use crate::worker_process::{ProcessCost, WorkerProgram};
use crate::{process_stats, reference};

/// The default parallelism of a Job.
const WORKERS: i32 = 2;
const CHUNK_SIZE: i32 = 1000;
/// How many of the bills change with each re-billing.
const CHANGED_PERCENT: [i64; 3] = [1, 50, 100];
pub(crate) const MONTH: &str = "2026-10";
/// Wall time, and CPU time of all processes.
type Cost = (Duration, Duration);

pub(crate) async fn measure(
    program: &Path,
    price_book: &Path,
    members: u64,
    usage_per_member: u32,
) -> anyhow::Result<Measurement> {
    let text = std::fs::read_to_string(price_book)
        .with_context(|| format!("cannot read {}", price_book.display()))?;
    let book = PriceBook::parse(&text)?;
    let month: BillingMonth = MONTH.parse()?;
    let server = Server::start()?;
    let wanted = wanted(&book.time_zone, book.currency.code())?;
    let database = server.database("bench", &wanted).await?;
    let keys = keys(server.folder())?;
    let worker = WorkerProgram { program, database: &database, keys: &keys };
    print_step(format_args!("seeding {members} members with {usage_per_member} usage rows each"));
    let seeded = seed(&worker, price_book, members, usage_per_member).await?;

    print_step(format_args!("copying the same bytes with raw COPY"));
    let raw = raw_copy(&server, &database, &server.database("raw", &wanted).await?).await?;
    execute(&server.url("postgres"), "drop database raw").await?;

    let cutoff = query_value(&database, "select max(number) from load where state = 'FINISHED'").await?;
    let usage =
        query_value(&database, &format!("select count(*) from usage where month = '{MONTH}'")).await?;
    reference::prepare(&mut connect(&database).await?, &book).await?;
    execute(&database, &format!("select open_billing_month('{MONTH}')")).await?;

    print_step(format_args!("billing with the reference statement"));
    reset(&database).await?;
    let before = server.cpu()?;
    let begun = Instant::now();
    let mut connection = connect(&database).await?;
    let reference_bills = reference::bill(&mut connection, month, &wanted.zone, cutoff).await?;
    let reference: Cost = (begun.elapsed(), server.cpu()? - before);

    print_step(format_args!("billing with {WORKERS} workers"));
    reset(&database).await?;
    let run = bill(&server, &worker, &book, &text, month, None).await?;
    let mut rebillings = Vec::new();
    for (of_revision, percent) in (1..).zip(CHANGED_PERCENT) {
        print_step(format_args!("billing again, with other bills for {percent} % of the members"));
        credit(&database, percent).await?;
        tidy(&database).await?;
        let again = bill(&server, &worker, &book, &text, month, Some(of_revision)).await?;
        rebillings.push((percent, again.cost.0));
    }
    Ok(Measurement {
        members,
        usage,
        seed_wall: seeded.wall,
        raw_copy_wall: raw.wall,
        raw_copy_bytes: raw.bytes,
        reference,
        reference_bills,
        workers: run.cost,
        bills: run.bills,
        peak_memory: run.peak_memory,
        verification: run.verification,
        planning: run.planning,
        rebillings,
    })
}

/// Loads a credit for so many percent of the members.
async fn credit(database: &SecretString, percent: i64) -> anyhow::Result<()> {
    let statement = format!(
        "with job as (
             insert into job_log (kind, status, ended_at, total, succeeded, failed, skipped)
             values ('LOAD', 'SUCCEEDED', now(), 0, 0, 0, 0) returning id
         ), credited as (
             insert into load (number, kind, source, state, finished_at, job)
             select (select max(number) + 1 from load), 'LOAD', 'bench', 'FINISHED', now(), job.id from job
             returning number
         )
         insert into adjustment (adjustment_id, member_id, month, code, amount, reason, load)
         select credited.number * 1000000000 + row_number() over (), member_id, '{MONTH}', 'CREDIT', -1, 'a credit', credited.number
         from credited, (select distinct member_id from member) m where member_id % 100 < {percent}"
    );
    execute(database, &statement).await?;
    execute(database, "select record_load_totals((select max(number) from load))").await
}

/// Removes all bills, vacuums and checkpoints, so that each measurement starts equally.
async fn reset(database: &SecretString) -> anyhow::Result<()> {
    execute(database, "truncate bill, bill_item, quarantined_member").await?;
    tidy(database).await
}

/// Vacuums, analyzes and checkpoints.
pub(crate) async fn tidy(database: &SecretString) -> anyhow::Result<()> {
    // These statements cannot run in a transaction.
    for statement in ["vacuum analyze", "checkpoint"] {
        execute(database, statement).await?;
    }
    Ok(())
}

pub(crate) async fn seed(
    worker: &WorkerProgram<'_>,
    price_book: &Path,
    members: u64,
    usage_per_member: u32,
) -> anyhow::Result<ProcessCost> {
    let (members, usage) = (members.to_string(), usage_per_member.to_string());
    let mut arguments: Vec<&OsStr> =
        ["seed", "--month", MONTH, "--seed", "42", "--members", &members, "--usage-per-member", &usage]
            .map(OsStr::new)
            .to_vec();
    arguments.extend([OsStr::new("--price-book"), price_book.as_os_str()]);
    worker.run(arguments).await
}

pub(crate) struct BillingRun {
    cost: Cost,
    pub(crate) bills: i64,
    peak_memory: u64,
    verification: Duration,
    planning: Duration,
}

/// A billing run with the operator's steps. The cost is measured from the first claimed chunk until
/// the revision is issued.
pub(crate) async fn bill(
    server: &Server,
    worker: &WorkerProgram<'_>,
    book: &PriceBook,
    text: &str,
    month: BillingMonth,
    of_revision: Option<i32>,
) -> anyhow::Result<BillingRun> {
    let pool = store::pool::connect(worker.database, "bench", 4).await?;
    let run = 1 + u128::from(of_revision.unwrap_or(0).unsigned_abs());
    let draft = draft(&pool, server, worker, book, text, month, of_revision, run).await?;
    billing::issue_revision(&pool, &draft.key, None).await?;
    let micros = format!(
        "select (extract(epoch from clock_timestamp() - min(started_at)) * 1000000)::bigint from chunk
         where month = '{MONTH}' and revision = {}",
        draft.key.revision
    );
    let wall = u64::try_from(query_value(worker.database, &micros).await?)
        .context("the database's clock was set back")?;
    let cpu = server.cpu()? + process_stats::cpu_of_tree(std::process::id())? - draft.cpu_before;
    Ok(BillingRun {
        cost: (Duration::from_micros(wall), cpu),
        bills: query_value(worker.database, "select count(*) from live_bill").await?,
        peak_memory: draft.peak_memory,
        verification: draft.verification,
        planning: draft.planning,
    })
}

/// A verified draft.
pub(crate) struct Draft {
    pub(crate) key: RevisionKey,
    planning: Duration,
    verification: Duration,
    peak_memory: u64,
    /// CPU time of all processes before the first chunk.
    cpu_before: Duration,
}

/// A billing run up to the verification.
#[expect(clippy::too_many_arguments, reason = "what a run is made of")]
pub(crate) async fn draft(
    pool: &PgPool,
    server: &Server,
    worker: &WorkerProgram<'_>,
    book: &PriceBook,
    text: &str,
    month: BillingMonth,
    of_revision: Option<i32>,
    run: u128,
) -> anyhow::Result<Draft> {
    let begin = BeginRequest {
        run: "bench/run",
        run_uid: Uuid::from_u128(run),
        month,
        price_book: book,
        price_book_text: text,
        data_cutoff: None,
        chunk_size: CHUNK_SIZE,
        shards: WORKERS,
        rebill: match of_revision {
            Some(number) => Some(Rebilling {
                of_revision: i64::from(number).try_into()?,
                reason: "a measurement",
                scope: &Scope::Everyone,
                after_sent: AfterSent::Revise,
            }),
            None => None,
        },
        require_sources: &[],
    };
    let planning = Instant::now();
    let Started { key, .. } = match billing::begin_run(pool, &begin).await? {
        BeginResult::Started(begun) => begun,
        BeginResult::Rejected(refusal) => bail!(refusal),
    };
    let planning = planning.elapsed();
    let cpu_before = server.cpu()? + process_stats::cpu_of_tree(std::process::id())?;
    let shard = |shard: i32| {
        let order = [
            ("--month", month.to_string()),
            ("--revision", key.revision.to_string()),
            ("--shard", shard.to_string()),
            ("--fence", key.fence.to_string()),
            ("--run", begin.run.to_owned()),
            ("--run-uid", key.run_uid.to_string()),
        ];
        let arguments: Vec<String> =
            order.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        worker.run(std::iter::once("bill".to_owned()).chain(arguments))
    };
    let (one_worker, other) = tokio::try_join!(shard(0), shard(1))?;
    let verifying = Instant::now();
    let verification = billing::verify_revision(pool, &key).await?;
    anyhow::ensure!(verification.passed(), "verification failed: {:?}", verification.checks);
    Ok(Draft {
        key,
        planning,
        verification: verifying.elapsed(),
        peak_memory: one_worker.peak_memory.max(other.peak_memory),
        cpu_before,
    })
}

/// A folder with one encryption key.
pub(crate) fn keys(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let keys = folder.join("keys");
    std::fs::create_dir(&keys)?;
    let key = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    std::fs::write(keys.join("bench"), key)?;
    std::fs::write(keys.join("active"), "bench")?;
    Ok(keys)
}
