//! `monthend log`: the batches of `job_log`, newest first. Changes nothing.

use clap::Args;
use domain::month::BillingMonth;
use domain::zone::Zone;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use store::installation;
use store::report::{Batch, read_batches};

use crate::database;
use crate::exit::{CommandResult, ExitStatus};
use crate::global_options::GlobalOptions;
use crate::output::{OutputFormat, format_duration, format_time, group_digits, print_json, print_table};

/// Show the last batches: loads, billings, rollbacks, notifications
///
/// One line for each row of job_log, the newest first: what ran, how long, how it ended, and its counts.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  monthend log\n  monthend log 2026-10 --limit 50 -o json")]
pub(crate) struct Log {
    /// Only batches of this billing month, as YYYY-MM; loads and seeds have none
    #[arg(value_name = "MONTH")]
    month: Option<BillingMonth>,
    /// How many, at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    output: OutputFormat,
}

impl Log {
    pub(crate) async fn run(&self, global: &GlobalOptions) -> CommandResult {
        let mut connection = database::connect(global.database_url()?, "monthend log").await?;
        let installation = installation::read(&mut connection).await?;
        let batches = read_batches(&mut connection, self.month, self.limit).await?;
        let batches: Vec<BatchReport> = batches.into_iter().map(BatchReport::new).collect();
        match self.output {
            OutputFormat::Table => print_batches(&batches, &installation.zone),
            OutputFormat::Json => print_json(&batches)?,
        }
        Ok(ExitStatus::Success)
    }
}

/// A row of `job_log`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchReport {
    id: i64,
    kind: String,
    run: Option<String>,
    month: Option<String>,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    duration_seconds: i64,
    status: String,
    total: i64,
    succeeded: i64,
    failed: i64,
    skipped: i64,
    detail: Value,
}

impl BatchReport {
    pub(crate) fn new(batch: Batch) -> Self {
        Self {
            id: batch.id,
            kind: batch.kind,
            run: batch.run,
            month: batch.month,
            started_at: batch.started_at,
            ended_at: batch.ended_at,
            duration_seconds: batch.seconds,
            status: batch.status,
            total: batch.total,
            succeeded: batch.succeeded,
            failed: batch.failed,
            skipped: batch.skipped,
            detail: batch.detail,
        }
    }
}

/// Writes batches as a table.
pub(crate) fn print_batches(batches: &[BatchReport], zone: &Zone) {
    let heading = [
        "ID",
        "KIND",
        "RUN",
        "MONTH",
        "STARTED",
        "DURATION",
        "STATUS",
        "TOTAL",
        "SUCCEEDED",
        "FAILED",
        "SKIPPED",
        "DETAIL",
    ];
    let rows: Vec<Vec<String>> = batches
        .iter()
        .map(|batch| {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let duration = std::time::Duration::from_secs(batch.duration_seconds.max(0).unsigned_abs());
            vec![
                batch.id.to_string(),
                batch.kind.clone(),
                or_none(&batch.run),
                or_none(&batch.month),
                format_time(batch.started_at, zone),
                format_duration(duration),
                batch.status.clone(),
                group_digits(batch.total),
                group_digits(batch.succeeded),
                group_digits(batch.failed),
                group_digits(batch.skipped),
                batch.detail.to_string(),
            ]
        })
        .collect();
    print_table(&heading, &rows);
}
