//! Measures notifications at one size: seeds and bills a month, then compares publishing with
//! Kafka's own load tool, and consuming with composing the same emails in memory.

mod compose;
mod consume;
mod publish;
mod report;
mod run;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use domain::locale::Locale;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use email::Templates;
use secrecy::SecretString;
use sqlx::PgConnection;
use store::notification::{
    BeginRequest, BeginResult, BillKey, RunFacts, Scope, Selection, SelectionResult, TemplateSet,
};
use test_servers::{Broker, Java};

pub(crate) use self::report::{Figures, Report};
use self::run::{RUN, RUN_UID};
use crate::billing::{self, MONTH};
use crate::progress::print_step;
use crate::server::{Server, connect, execute, wanted};
use crate::worker_process::WorkerProgram;

const USAGE_PER_MEMBER: u32 = 5;
/// Members in one chunk of the selection, as a worker selects.
const CHUNK: i64 = 10_000;

/// The programs and files that are measured with.
pub(crate) struct Tools<'a> {
    pub(crate) worker: &'a Path,
    pub(crate) price_book: &'a Path,
    pub(crate) templates: &'a Path,
    /// Kafka's jars.
    pub(crate) kafka: &'a Path,
}

/// Measures one size.
///
/// # Errors
/// A file is missing, a server or program fails, or its result is incomplete.
pub(crate) async fn measure(tools: &Tools<'_>, members: u64) -> anyhow::Result<Figures> {
    let text = std::fs::read_to_string(tools.price_book)
        .with_context(|| format!("cannot read {}", tools.price_book.display()))?;
    let book = PriceBook::parse(&text)?;
    let files = read_templates(tools.templates)?;
    let templates = Templates::parse(&files, Locale::KO)?;
    let template_set = TemplateSet { sha256: templates.sha256().to_owned(), files };
    let month: BillingMonth = MONTH.parse()?;
    let server = Server::start()?;
    let database = server.database("bench", &wanted(&book.time_zone, book.currency.code())?).await?;
    let keys = billing::keys(server.folder())?;
    let worker = WorkerProgram { program: tools.worker, database: &database, keys: &keys };
    print_step(format_args!("{members} members: seeding and billing"));
    billing::seed(&worker, tools.price_book, members, USAGE_PER_MEMBER).await?;
    let billed = billing::bill(&server, &worker, &book, &text, month, None).await?;
    vacuum(&database).await?;

    print_step(format_args!("{} bills: selecting targets", billed.bills));
    let mut connection = connect(&database).await?;
    let (run, selection) = begin(&database, &mut connection, month, &template_set).await?;
    anyhow::ensure!(run.targets == billed.bills, "{} targets of {} bills", run.targets, billed.bills);
    vacuum(&database).await?;

    let broker = Broker::start(tools.kafka, Java::Full)?;
    let targets = keys_of(&mut connection, &run).await?;
    let publishing = publish::measure(&broker, &worker, &server, &run, &targets).await?;
    print_step(format_args!("composing in memory, on one core"));
    let composing = compose::measure(&mut connection, &keys, &run, &book, templates, &targets).await?;
    vacuum(&database).await?;
    print_step(format_args!("one consumer"));
    let consuming = consume::measure(&broker, &worker, &server, &run).await?;
    Ok(Figures { bills: billed.bills.unsigned_abs(), selection, publishing, composing, consuming })
}

/// Begins a run over all bills and selects its targets. Returns it with the time that the selection
/// took.
async fn begin(
    database: &SecretString,
    connection: &mut PgConnection,
    month: BillingMonth,
    templates: &TemplateSet,
) -> anyhow::Result<(RunFacts, Duration)> {
    let pool = store::pool::connect(database, "bench", 2).await?;
    let begin = BeginRequest {
        run: RUN,
        run_uid: RUN_UID,
        month,
        selection: Selection::Ready,
        scope: &Scope::Everyone,
        rehearsal: false,
        templates,
        max_per_second: None,
        skip_zero: false,
    };
    let id = match store::notification::begin_run(&pool, &begin).await? {
        BeginResult::Started(id) => id,
        BeginResult::Rejected(refusal) => bail!(refusal),
    };
    let run = store::notification::read_run(connection, RUN_UID).await?;
    let started = Instant::now();
    let selected = store::notification::select_targets(connection, &run, CHUNK, |_| true).await?;
    let selection = started.elapsed();
    anyhow::ensure!(
        matches!(selected, SelectionResult::Complete { .. }),
        "the selection ended with {selected:?}"
    );
    store::notification::open_round(&pool, id, 0).await?;
    Ok((store::notification::read_run(connection, RUN_UID).await?, selection))
}

/// All targets of the run, by member id.
async fn keys_of(connection: &mut PgConnection, run: &RunFacts) -> anyhow::Result<Vec<BillKey>> {
    let mut keys: Vec<BillKey> = Vec::new();
    loop {
        let after = keys.last().map(|key| key.member);
        let page = store::notification::read_open_targets(connection, run, after, CHUNK).await?;
        if page.is_empty() {
            return Ok(keys);
        }
        keys.extend(page);
    }
}

/// Vacuums and checkpoints, so that every measurement starts in the same state.
async fn vacuum(database: &SecretString) -> anyhow::Result<()> {
    for statement in ["vacuum analyze", "checkpoint"] {
        execute(database, statement).await?;
    }
    Ok(())
}

fn read_templates(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry?.path();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, text))
    };
    entries.map(read).collect()
}
