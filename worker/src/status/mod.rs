//! `monthend status`: where a month stands, on one screen. Reads kept figures, chunks and deliveries, and no
//! bill, so that it answers at once for a month of any size. Changes nothing.

mod report;

use clap::Args;
use domain::month::BillingMonth;
use sqlx::{Connection as _, PgConnection};
use store::billing::{RevisionState, ScopeKind};
use store::error::{During as _, StoreError};
use store::installation;
use store::report as stored_report;

use self::report::{Deliveries, Draft, LateRows, Live, NotificationReport, Report, RevisionReport};
use crate::database;
use crate::exit::{CommandResult, ExitStatus};
use crate::global_options::GlobalOptions;
use crate::log::BatchReport;
use crate::output::{OutputFormat, print_json};

/// How many of the month's last batches are shown.
const BATCHES: u32 = 8;

/// Show where a month stands
///
/// Revisions, live bills and their totals, an open draft and its progress, late data, deliveries,
/// notification runs and the last batches.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  monthend status 2026-10\n  monthend status 2026-10 -o json")]
pub(crate) struct Status {
    /// Billing month, as YYYY-MM
    #[arg(value_name = "MONTH")]
    month: BillingMonth,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    output: OutputFormat,
}

impl Status {
    pub(crate) async fn run(&self, global: &GlobalOptions) -> CommandResult {
        let mut connection = database::connect(global.database_url()?, "monthend status").await?;
        let mut snapshot = connection
            .begin_with("begin isolation level repeatable read, read only")
            .await
            .during("cannot open the transaction that reads the month")?;
        let report = read(&mut snapshot, self.month).await?;
        snapshot.rollback().await.during("cannot end the transaction that reads the month")?;
        match self.output {
            OutputFormat::Table => report.print(),
            OutputFormat::Json => print_json(&report)?,
        }
        Ok(ExitStatus::Success)
    }
}

async fn read(snapshot: &mut PgConnection, month: BillingMonth) -> Result<Report, StoreError> {
    stored_report::prepare_connection(snapshot).await?;
    let installation = installation::read(snapshot).await?;
    let revisions = stored_report::read_revisions(snapshot, month).await?;
    let highest_live = revisions.iter().rfind(|row| row.state == RevisionState::Live);
    let of_everyone =
        revisions.iter().rfind(|row| row.state == RevisionState::Live && row.scope == ScopeKind::Everyone);
    let mut live = None;
    let mut late = Vec::new();
    let mut deliveries = None;
    if let Some(row) = highest_live {
        let sums = match of_everyone {
            Some(everyone) => {
                let (amounts, not_charged) =
                    stored_report::read_month_amounts(snapshot, month, everyone.revision).await?;
                // The chunks of a scope have the amounts of its members only.
                Some(((everyone.revision == row.revision).then_some(amounts), not_charged))
            }
            None => None,
        };
        live = Some(Live::new(row, sums));
        late = LateRows::group(stored_report::read_late_loads(snapshot, month, row.data_cutoff).await?);
        let counts = stored_report::count_deliveries(snapshot, month).await?;
        deliveries = Some(Deliveries::new(row.month.map_or(0, |month| month.billed), &counts));
    }
    let mut draft = None;
    if let Some(row) = revisions.iter().rfind(|row| row.state == RevisionState::Draft) {
        draft = Some(Draft::new(row, &stored_report::read_shards(snapshot, month, row.revision).await?));
    }
    let notifications = stored_report::read_notifications(snapshot, month).await?;
    let batches = stored_report::read_batches(snapshot, Some(month), BATCHES).await?;
    Ok(Report {
        month,
        currency: installation.currency.code(),
        revisions: revisions.iter().map(RevisionReport::new).collect(),
        live,
        draft,
        late,
        deliveries,
        notification_runs: notifications.into_iter().map(NotificationReport::new).collect(),
        batches: batches.into_iter().map(BatchReport::new).collect(),
        zone: installation.zone,
        money: installation.currency,
    })
}
