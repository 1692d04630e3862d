//! `monthend late`: what was loaded or taken back after a live month was billed, and the run that would bill
//! it. Changes nothing.

use anyhow::anyhow;
use clap::Args;
use domain::ids::{LoadNumber, Revision};
use domain::month::BillingMonth;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::Connection as _;
use store::error::During as _;
use store::installation;
use store::report::{self, LateLoad, count_late_members, find_highest_live, read_late_loads};

use crate::database;
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::global_options::GlobalOptions;
use crate::output::{OutputFormat, format_time, group_digits, print_json, print_line, print_table};

/// Show what came after a month was billed
///
/// Rows that concern the month and that the cut-off of its highest live revision leaves out, by load
/// and kind, the number of members that they concern, and the BillingRun that bills them. Exit status 4
/// if the month is not live.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  monthend late 2026-10\n  monthend late 2026-10 -o json")]
pub(crate) struct Late {
    /// Billing month, as YYYY-MM
    #[arg(value_name = "MONTH")]
    month: BillingMonth,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    output: OutputFormat,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    month: BillingMonth,
    revision: Revision,
    data_cutoff: LoadNumber,
    /// Whom a run with `scope.select: Late` would bill. New members without a subscription are not
    /// among them.
    members: i64,
    loads: Vec<LoadReport>,
    /// The `BillingRun` as YAML, but for the name of the price book. Null: nothing to bill.
    billing_run: Option<String>,
}

/// Rows of one kind of one load.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadReport {
    load: LoadNumber,
    source: String,
    /// When the load was finished, or taken back.
    at: Option<Timestamp>,
    taken_back: bool,
    kind: String,
    /// Of usage.
    usage_kind: Option<String>,
    rows: i64,
}

impl LoadReport {
    pub(crate) fn new(late: LateLoad) -> Self {
        Self {
            load: late.load,
            source: late.source,
            at: late.finished_at,
            taken_back: late.taken_back,
            kind: late.file,
            usage_kind: (!late.kind.is_empty()).then_some(late.kind),
            rows: late.rows,
        }
    }
}

impl Late {
    pub(crate) async fn run(&self, global: &GlobalOptions) -> CommandResult {
        let month = self.month;
        let mut connection = database::connect(global.database_url()?, "monthend late").await?;
        let mut snapshot = connection
            .begin_with("begin isolation level repeatable read, read only")
            .await
            .during("cannot open the transaction that reads what is late")?;
        report::prepare_connection(&mut snapshot).await?;
        let installation = installation::read(&mut snapshot).await?;
        let Some((revision, data_cutoff)) = find_highest_live(&mut snapshot, month).await? else {
            let error =
                anyhow!("month {month} is not live: everything that is loaded before it is billed counts");
            return Err(CommandError::new(ExitStatus::Failed, error));
        };
        let loads = read_late_loads(&mut snapshot, month, data_cutoff).await?;
        let members =
            if loads.is_empty() { 0 } else { count_late_members(&mut snapshot, month, data_cutoff).await? };
        snapshot.rollback().await.during("cannot end the transaction that reads what is late")?;
        let late = Report {
            month,
            revision,
            data_cutoff,
            members,
            loads: loads.into_iter().map(LoadReport::new).collect(),
            billing_run: (members > 0).then(|| billing_run(month, revision)),
        };
        if self.output == OutputFormat::Json {
            print_json(&late)?;
            return Ok(ExitStatus::Success);
        }
        print_line(format_args!(
            "{month}: live revision {revision} was billed with the loads up to {data_cutoff}"
        ));
        if late.loads.is_empty() {
            print_line("Nothing that concerns the month was loaded or taken back since.");
            return Ok(ExitStatus::Success);
        }
        let rows: Vec<Vec<String>> = late
            .loads
            .iter()
            .map(|load| {
                vec![
                    load.load.to_string(),
                    load.source.clone(),
                    load.at.map_or_else(|| "-".to_owned(), |at| format_time(at, &installation.zone)),
                    if load.taken_back { "taken back" } else { "loaded" }.to_owned(),
                    load.kind.clone(),
                    load.usage_kind.clone().unwrap_or_else(|| "-".to_owned()),
                    group_digits(load.rows),
                ]
            })
            .collect();
        print_table(&["LOAD", "SOURCE", "AT", "WHAT", "ROWS OF", "USAGE", "ROWS"], &rows);
        print_line(format_args!("{} members have late data.", group_digits(members)));
        if let Some(run) = &late.billing_run {
            print_line(format_args!(
                "To bill them: kubectl monthend rebill {} --select Late --manual --reason 'late data'\n\
                 or (name the price book, and set afterSent to Adjust to leave bills that were sent):",
                self.month
            ));
            print_line(format_args!("kubectl -n monthend create -f - <<END\n{run}END"));
        }
        Ok(ExitStatus::Success)
    }
}

fn billing_run(month: BillingMonth, of_revision: Revision) -> String {
    format!(
        "apiVersion: monthend.dev/v1alpha1\n\
         kind: BillingRun\n\
         metadata: {{ generateName: late-{month}- }}\n\
         spec:\n  \
         month: \"{month}\"\n  \
         priceBookRef: {{ name: PRICEBOOK }}\n  \
         rebill: {{ ofRevision: {of_revision}, reason: \"late data\" }}\n  \
         scope: {{ select: Late }}\n  \
         approvalPolicy: Manual\n"
    )
}
