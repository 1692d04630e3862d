//! `monthend load FOLDER`: loads files into the database, as one numbered load that becomes visible
//! as a whole or not at all; with `--take-back`, voids one. Owns the order of the steps. Its modules
//! own the formats, the store owns the SQL.

mod abandon;
mod csv;
mod field;
mod file;
mod folder;
mod load_lock;
mod manifest;
mod parse;
mod progress;
mod recognition;
mod rejects;
mod stream;
mod summary;
mod take_back;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use clap::Args;
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use domain::zone::MonthTable;
use futures::TryStreamExt as _;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use store::crypto::Keyring;
use store::error::{DatabaseError, During as _};
use store::installation::{self, Installation};
use store::job_log::{JobCounts, JobKind};
use store::load::{self, EarlierContent, NewLoad, StagedMembers, StartedLoad, Written};
use store::migrate::check_version;
use store::pool::connect_for_load;
use tokio_util::sync::CancellationToken;

pub(crate) use self::abandon::{abandon, remove_dead_loads};
use self::file::File;
use self::folder::Folder;
pub(crate) use self::load_lock::acquire_load_lock;
use self::manifest::Manifest;
use self::parse::{Context, ParseError, Parsed};
pub(crate) use self::progress::{Progress, REPORT_INTERVAL};
use self::rejects::Spool;
use self::summary::Tally;
use crate::exit::{CommandError, CommandResult, ExitStatus, OrExitStatus as _};
use crate::global_options::GlobalOptions;
use crate::output::{Lines, format_duration, group_digits, shell_word};

/// Load members, subscriptions, grants, adjustments and usage from CSV files
///
/// Loads those of members.csv, subscriptions.csv, grants.csv, adjustments.csv and usage.csv that
/// the folder has; each may be compressed with gzip, as members.csv.gz. A load becomes visible as a
/// whole when it has finished. Lines with an error are rejected: they are written with the reason
/// to FILE.rejects.csv, and the exit status is 3. A file in another encoding than UTF-8, or with
/// another separator than a comma, is refused as a whole.
///
/// A pricebook.yaml in the folder is checked, not loaded: billing runs read theirs from a
/// ConfigMap. A manifest.yaml states how many rows the files have; if they have not, nothing is
/// loaded.
///
/// With - instead of a folder, reads the files from standard input, as a tar archive, and writes the
/// rejects to standard output, as another. Nothing is loaded of an archive that ends early.
///
/// With --take-back, loads nothing and takes an earlier load back: its rows do not count for any
/// run that begins from then on. Nothing is deleted, and live bills stay as they are.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  monthend load /data/2026-10 --rejects-dir /data/rejects\n  monthend load --take-back 5 --reason 'the file of another month'"
)]
pub(crate) struct Load {
    /// Folder with the files, or - for a tar archive on standard input
    #[arg(required_unless_present = "take_back")]
    folder: Option<PathBuf>,
    /// Folder that FILE.rejects.csv and FILE.warnings.csv are written to [default: the folder of the
    /// files]
    ///
    /// Created with the first of them, if only its last part is missing.
    #[arg(long, value_name = "FOLDER", requires = "folder")]
    rejects_dir: Option<PathBuf>,
    /// Take the load or seed with this number back; the view loads lists them
    #[arg(long, value_name = "NUMBER", conflicts_with = "folder", value_parser = clap::value_parser!(i64).range(1..))]
    take_back: Option<i64>,
    /// Why the load is taken back, which the view loads shows
    #[arg(long, value_name = "TEXT", requires = "take_back", conflicts_with = "folder", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
}

/// Everything that is read and checked before anything is written.
struct Prepared {
    folder: Folder,
    manifest: Manifest,
    price_book: Option<PriceBook>,
    keys: Option<Keyring>,
    rejects_dir: PathBuf,
}

impl Load {
    pub(crate) async fn run(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        let Some(folder) = &self.folder else {
            let number = self.take_back.expect("the command line has either a folder or --take-back");
            return take_back::take_back(global, number, self.reason.as_deref(), stop).await;
        };
        if folder.as_os_str() == stream::STREAM {
            return self.run_stream(global, stop).await;
        }
        load_folder(folder, self.rejects_dir.as_deref(), Lines::ToStdout, global, stop).await
    }

    async fn run_stream(&self, global: &GlobalOptions, stop: &CancellationToken) -> CommandResult {
        if self.rejects_dir.is_some() {
            let usage = anyhow!("--rejects-dir is for a folder: with -, the rejects go to standard output");
            return Err(CommandError::usage(usage));
        }
        stream::load(global, stop).await
    }
}

/// Loads the files of a folder. Rejects go to the folder of the files, or to another one.
async fn load_folder(
    folder: &Path,
    rejects_dir: Option<&Path>,
    lines: Lines,
    global: &GlobalOptions,
    stop: &CancellationToken,
) -> CommandResult {
    let prepared = prepare(folder, rejects_dir, global).or_exit(ExitStatus::Usage)?;
    let url = global.database_url()?;
    let mut connection = connect_for_load(url, "monthend load").await?;
    check_version(&mut connection).await?;
    let installation = installation::read(&mut connection).await?;
    if let (Some(book), Some((path, _))) = (&prepared.price_book, &prepared.folder.price_book) {
        book.check_installation(&installation.zone, installation.currency)
            .with_context(|| path.display().to_string())
            .or_exit(ExitStatus::Usage)?;
        lines.print(format_args!(
            "pricebook.yaml (version {}) is valid. A run reads it from a ConfigMap:",
            book.version
        ));
        lines.print(format_args!("  {}", config_map_command(&book.version, path)));
    }
    if prepared.folder.sources.is_empty() {
        let differences = prepared.manifest.differences(&BTreeMap::new());
        return if differences.is_empty() {
            Ok(ExitStatus::Success)
        } else {
            Err(wrong_manifest(&differences))
        };
    }
    acquire_load_lock(&mut connection, stop).await?;
    remove_dead_loads(&mut connection).await?;
    let new_load = begin(&mut connection, &prepared).await?;
    let progress = Progress::new();
    let loading = Loading { prepared, new_load, progress: progress.clone(), started: Instant::now(), lines };
    let server_process = load::read_server_process(&mut connection).await?;
    let done = tokio::select! {
        done = loading.run(&mut connection, installation, stop) => done,
        never = progress.report(url, new_load.job) => match never {},
    };
    match done {
        Ok(status) => Ok(status),
        Err(error) => {
            abandon(url, connection, server_process, new_load, JobKind::Load, &error).await;
            Err(error)
        }
    }
}

fn prepare(folder: &Path, rejects_dir: Option<&Path>, global: &GlobalOptions) -> anyhow::Result<Prepared> {
    let folder = Folder::open(folder)?;
    let manifest = match &folder.manifest {
        Some(text) => Manifest::read(text)?,
        None => Manifest::default(),
    };
    let price_book = match &folder.price_book {
        Some((path, text)) => Some(PriceBook::parse(text).with_context(|| path.display().to_string())?),
        None => None,
    };
    let keys = if folder.sources.contains_key(&File::Members) { Some(global.keys()?) } else { None };
    let rejects_dir = rejects_dir.map_or_else(|| folder.path.clone(), Path::to_owned);
    let parent = rejects_dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let can_create = !rejects_dir.exists() && parent.unwrap_or(Path::new(".")).is_dir();
    if !rejects_dir.is_dir() && !can_create {
        return Err(anyhow!("--rejects-dir {} is not a folder", rejects_dir.display()));
    }
    Ok(Prepared { folder, manifest, price_book, keys, rejects_dir })
}

async fn begin(connection: &mut PgConnection, prepared: &Prepared) -> CommandResult<StartedLoad> {
    let folder = prepared.folder.path.canonicalize().unwrap_or_else(|_| prepared.folder.path.clone());
    let detail = json!({
        "folder": folder.display().to_string(),
        "host": std::env::var("HOSTNAME").unwrap_or_default(),
        "process": std::process::id(),
        "source": prepared.manifest.source,
    });
    let new_load = load::begin_load(
        connection,
        &NewLoad {
            kind: JobKind::Load,
            source: &prepared.manifest.source,
            fingerprint: None,
            month: None,
            days: prepared.manifest.days(),
            detail: &detail,
        },
    )
    .await?;
    tracing::info!(load = new_load.number, folder = %folder.display(), "loading");
    Ok(new_load)
}

/// A load that has started.
struct Loading {
    prepared: Prepared,
    new_load: StartedLoad,
    progress: Progress,
    started: Instant,
    lines: Lines,
}

impl Loading {
    async fn run(
        mut self,
        connection: &mut PgConnection,
        installation: Installation,
        stop: &CancellationToken,
    ) -> CommandResult {
        let number = self.new_load.number;
        let context = Arc::new(Context {
            months: MonthTable::new(&installation.zone),
            zone: installation.zone,
            keys: self.prepared.keys.take(),
            for_manifest: self.prepared.manifest.needs_sums(),
            rejects_dir: self.prepared.rejects_dir.clone(),
            progress: self.progress.clone(),
            stop: stop.clone(),
        });
        let mut parsed = BTreeMap::new();
        for file in self.prepared.folder.sources.keys().copied().collect::<Vec<_>>() {
            parsed.insert(file, self.stage(connection, file, &context).await?);
        }
        let sums = parsed.iter().map(|(file, parsed)| (*file, parsed.sums.clone())).collect();
        let differences = self.prepared.manifest.differences(&sums);
        if !differences.is_empty() {
            let tallies = parsed.iter().map(|(file, parsed)| (*file, tally(parsed, 0, 0))).collect();
            self.write_rejects(parsed, BTreeMap::new())?;
            summary::print_table(self.lines, &tallies);
            return Err(wrong_manifest(&differences));
        }
        let months = parsed.get(&File::Usage).map(|usage| usage.sums.months.clone()).unwrap_or_default();
        let mut without_index = Vec::new();
        for month in &months {
            if !load::open_usage_partition(connection, *month).await? {
                without_index.push(*month);
            }
        }
        let mut tx = connection.begin().await.during("cannot begin to merge the load")?;
        let tallies = tokio::select! {
            tallies = self.merge(&mut tx, parsed, &months, &context) => tallies?,
            () = stop.cancelled() => return Err(CommandError::new(ExitStatus::TryAgain, ParseError::Interrupted)),
        };
        // Not interrupted by a stop, so that the outcome is known.
        tx.commit()
            .await
            .during("the load's COMMIT failed or got no answer: load the folder again to be sure")?;
        if let Err(error) = self.index(connection, &without_index).await {
            // The load is complete; the next load creates the indexes.
            tracing::warn!(
                "the load is finished, but indexes or statistics are missing: {}",
                logging::chain(&error)
            );
        }
        summary::print_table(self.lines, &tallies);
        let rejects: u64 = tallies.values().map(|tally| tally.rejects).sum();
        self.lines
            .print(format_args!("load {number} is finished ({})", format_duration(self.started.elapsed())));
        if rejects == 0 {
            return Ok(ExitStatus::Success);
        }
        let folder = self.prepared.rejects_dir.display();
        self.lines.print(format_args!(
            "{} lines were rejected: see *.rejects.csv in {folder}",
            group_digits(rejects)
        ));
        Ok(ExitStatus::Rejects)
    }

    /// Reads one file into its staging table.
    async fn stage(
        &self,
        connection: &mut PgConnection,
        file: File,
        context: &Arc<Context>,
    ) -> CommandResult<Parsed> {
        self.progress.step(format!("reading {file}"));
        let source = self.prepared.folder.sources[&file].clone();
        let (sender, mut batches) = tokio::sync::mpsc::channel(4);
        let shared = context.clone();
        let parsing = tokio::task::spawn_blocking(move || parse::parse(file, &source, &shared, &sender));
        let staged = load::copy_to_staging(connection, file.staged(), &mut batches).await;
        // Ends a parser that waits for room in the channel.
        drop(batches);
        let parsed =
            parsing.await.context("reading a file ended unexpectedly").or_exit(ExitStatus::Failed)?;
        match (parsed, staged) {
            (Ok(parsed), Ok(_)) => Ok(parsed),
            (Err(ParseError::ReceiverClosed) | Ok(_), Err(error)) => Err(error.into()),
            (Err(error @ ParseError::Interrupted), _) => Err(CommandError::new(ExitStatus::TryAgain, error)),
            (Err(error @ ParseError::Rejects(..)), _) => Err(CommandError::usage(error)),
            (Err(error), _) => Err(CommandError::new(ExitStatus::Failed, error)),
        }
    }

    /// Moves the staged rows to their tables and marks the load as finished.
    async fn merge(
        &self,
        tx: &mut PgConnection,
        parsed: BTreeMap<File, Parsed>,
        months: &BTreeSet<BillingMonth>,
        context: &Context,
    ) -> CommandResult<BTreeMap<File, Tally>> {
        self.progress.step("merging");
        let source = &self.prepared.manifest.source;
        let written =
            load::merge_staged_rows(tx, self.new_load.number, source, months, self.staged_members(context))
                .await?;
        let tallies: BTreeMap<_, _> = parsed
            .iter()
            .map(|(file, parsed)| {
                let (new, conflicts) = of_file(&written, *file);
                (*file, tally(parsed, new, conflicts))
            })
            .collect();
        let mut conflicts = BTreeMap::new();
        for file in [File::Adjustments, File::Usage] {
            if of_file(&written, file).1 > 0 {
                conflicts.insert(file, self.spool_conflicts(tx, file).await?);
            }
        }
        // Before the commit: a committed load must not lose its rejects; if the commit fails, the next load
        // writes them again.
        self.write_rejects(parsed, conflicts)?;
        let counts = counts(&tallies);
        load::finish_load(tx, self.new_load, counts, &summary::detail(&tallies)).await?;
        Ok(tallies)
    }

    fn staged_members<'c>(&self, context: &'c Context) -> Option<StagedMembers<'c>> {
        let members = self.prepared.folder.sources.get(&File::Members)?;
        let keys = context.keys.as_ref()?;
        Some(StagedMembers { keys, keep_locales: !members.header.has("locale") })
    }

    /// Creates the indexes of new months, and updates statistics.
    async fn index(
        &self,
        connection: &mut PgConnection,
        months: &[BillingMonth],
    ) -> Result<(), DatabaseError> {
        self.progress.step("indexing");
        for month in months {
            load::index_usage(connection, *month).await?;
        }
        load::analyze_reference_data(connection).await?;
        load::clear_staging(connection).await
    }

    async fn spool_conflicts(&self, connection: &mut PgConnection, file: File) -> CommandResult<Spool> {
        let folder = &self.prepared.rejects_dir;
        let mut spool = Spool::new(folder);
        let what = if file == File::Usage { "usage" } else { "adjustment" };
        let mut conflicts = load::read_conflicts(connection, file.name());
        while let Some(conflict) = conflicts.try_next().await? {
            let place = match conflict.with {
                EarlierContent::InLoad(load) => format!("in load {load}"),
                EarlierContent::OnLine(line) => format!("on line {line}"),
            };
            let reason = format!("the same {what} has other content {place}");
            spool
                .put(conflict.line, reason.as_bytes())
                .map_err(|error| CommandError::usage(ParseError::Rejects(file, folder.clone(), error)))?;
        }
        Ok(spool)
    }

    /// Writes FILE.rejects.csv for each file with rejects and FILE.warnings.csv for each one with
    /// warnings, and removes those of an earlier load for the others.
    fn write_rejects(
        &self,
        parsed: BTreeMap<File, Parsed>,
        mut conflicts: BTreeMap<File, Spool>,
    ) -> CommandResult<()> {
        let folder = &self.prepared.rejects_dir;
        let remove_stale = |file, what| {
            let path = rejects::file_path(folder, file, what);
            rejects::remove_stale(&path).unwrap_or_else(|error| rejects::warn_of_stale(&path, &error));
        };
        let write = || {
            for file in File::ALL.into_iter().filter(|file| !parsed.contains_key(file)) {
                remove_stale(file, "rejects");
                remove_stale(file, "warnings");
            }
            for (file, parsed) in parsed {
                parsed.warnings.report(folder, file);
                let conflicts = conflicts.remove(&file);
                if parsed.rejects.count == 0 && conflicts.is_none() {
                    remove_stale(file, "rejects");
                    continue;
                }
                let source = &self.prepared.folder.sources[&file];
                rejects::write(folder, file, &source.header, |out| {
                    parse::write_rejects(file, source, parsed.rejects, conflicts, out)
                })
                .map_err(|error| ParseError::Rejects(file, folder.clone(), error))?;
            }
            Ok::<(), ParseError>(())
        };
        tokio::task::block_in_place(write).or_exit(ExitStatus::Usage)
    }
}

fn tally(parsed: &Parsed, new: u64, conflicts: u64) -> Tally {
    let sums = &parsed.sums;
    Tally {
        rows: sums.rows,
        new,
        rejects: sums.rejects + conflicts,
        addresses_dropped: sums.addresses_dropped,
        warnings: parsed.warnings.count,
    }
}

/// How many rows of a file the merge wrote, and how many conflict with earlier ones.
fn of_file(written: &Written, file: File) -> (u64, u64) {
    match file {
        File::Members => (written.members, 0),
        File::Subscriptions => (written.subscriptions, 0),
        File::Grants => (written.grants, 0),
        File::Adjustments => (written.adjustments, written.conflicting_adjustments),
        File::Usage => (written.usage, written.conflicting_usage),
    }
}

fn counts(tallies: &BTreeMap<File, Tally>) -> JobCounts {
    let sum = |of: fn(&Tally) -> u64| tallies.values().map(of).sum::<u64>().try_into().unwrap_or(i64::MAX);
    JobCounts { succeeded: sum(|t| t.new), failed: sum(|t| t.rejects), skipped: sum(|t| t.unchanged()) }
}

fn wrong_manifest(differences: &[String]) -> CommandError {
    let text = differences.join("; ");
    CommandError::new(
        ExitStatus::Failed,
        anyhow!("the manifest does not match the folder, nothing was loaded: {text}"),
    )
}

/// The command that creates the ConfigMap for a BillingRun's `priceBookRef`.
fn config_map_command(version: &str, path: &Path) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    let version: String = version.chars().map(plain).collect();
    format!(
        "kubectl create configmap pricebook-{} --from-file=pricebook.yaml={}",
        version.trim_matches(['-', '.']),
        shell_word(path)
    )
}
