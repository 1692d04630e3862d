//! `monthend explain`: one member's bill, line by line, back to usage, plan, discounts, tax and rounding. It
//! prices the member again with the code that bills, from what the bill's revision pinned, and compares the
//! result with what is stored. Changes nothing, and shows nothing of the person.

mod report;

use anyhow::anyhow;
use clap::Args;
use domain::explanation::{Evidence, Explanation, UsageSpan};
use domain::ids::{MemberId, Revision};
use domain::month::BillingMonth;
use domain::pricing::{self, AdjustmentIdentity, Eligibility, Outcome};
use sqlx::{Connection as _, PgConnection};
use store::billing::RevisionState;
use store::billing::chunk::{self, ChunkSpan};
use store::error::{During as _, StoreError};
use store::installation::{self, Installation};
use store::report::{self as stored_report, RevisionRow};
use store::verify::replay;

use self::report::{BillAmounts, BilledBy, NotEligible, Posted, Quarantined, Report, UsageRecord};
use crate::bill::{ChunkError, ChunkInputs, OwnInputs, Pinned};
use crate::database;
use crate::database_retry::Retryable as _;
use crate::exit::{CommandError, CommandResult, ExitStatus};
use crate::global_options::GlobalOptions;
use crate::output::{OutputFormat, print_json};
use crate::verify::comparison::compare;

/// Explain a member's bill, line by line
///
/// Shows how each amount comes about: plan, days, usage, free parts, tiers, discounts, adjustments, tax
/// and rounding, as of the data and the price book that the bill was made from. Also says why a member
/// is in quarantine or has no bill. Exit status 4 if there is nothing to explain, or if the explanation
/// differs from what is stored.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  monthend explain 1042 2026-10\n  monthend explain 1042 2026-10 --revision 1 --usage"
)]
pub(crate) struct Explain {
    /// The member's id
    #[arg(value_name = "MEMBER")]
    member: MemberId,
    /// Billing month, as YYYY-MM
    #[arg(value_name = "MONTH")]
    month: BillingMonth,
    /// As of this revision of the month, live or not, instead of the highest live one
    #[arg(long, value_name = "NUMBER")]
    revision: Option<Revision>,
    /// Also list each usage record
    #[arg(long)]
    usage: bool,
    /// Format of the result
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table, value_name = "FORMAT")]
    output: OutputFormat,
}

impl Explain {
    pub(crate) async fn run(&self, global: &GlobalOptions) -> CommandResult {
        let mut connection = database::connect(global.database_url()?, "monthend explain").await?;
        let mut snapshot = connection
            .begin_with("begin isolation level repeatable read, read only")
            .await
            .during("cannot open the transaction that reads the bill")?;
        let report = self.read(&mut snapshot).await?;
        snapshot.rollback().await.during("cannot end the transaction that reads the bill")?;
        match self.output {
            OutputFormat::Table => report.print(),
            OutputFormat::Json => print_json(&report)?,
        }
        if let Some(difference) = &report.difference {
            return Err(nothing(anyhow!(
                "the explanation differs from what revision {} has stored: {difference}",
                report.billed_by.revision
            )));
        }
        Ok(ExitStatus::Success)
    }

    async fn read(&self, snapshot: &mut PgConnection) -> CommandResult<Report> {
        let Self { member, month, .. } = *self;
        chunk::prepare_connection(snapshot).await?;
        let installation = installation::read(snapshot).await?;
        let as_of = self.find_revision(snapshot).await?;
        let outcome = stored_report::find_outcome(snapshot, month, as_of.revision, member).await?;
        let Some(outcome) = outcome else {
            return Err(nothing(anyhow!(
                "no revision of month {month} up to {} has billed member {member}",
                as_of.revision
            )));
        };
        let revision = outcome.revision;
        let by = stored_report::find_revision(snapshot, month, Some(revision)).await?;
        let by = by.ok_or_else(|| StoreError::State(format!("month {month} has no revision {revision}")))?;
        let chunk = stored_report::read_chunk_of(snapshot, month, revision, member).await?;
        let stored_by = replay::read_revision(snapshot, month, revision).await?;
        let pinned = Pinned::read(snapshot, &stored_by.key).await?;
        let span =
            ChunkSpan { chunk_no: 0, from_member: member.get(), to_member: member.get(), members: None };
        let inputs = ChunkInputs::read(snapshot, pinned.pricer(), month, &span, &pinned.data)
            .await
            .map_err(ChunkError::from)?;
        let stored =
            replay::read_outcomes(snapshot, &stored_by, &span).await?.remove(&member).unwrap_or_default();
        let details = Details::read(snapshot, self, &inputs, &pinned, as_of.revision).await?;

        let mut report = Report {
            member_id: member,
            month,
            revision: as_of.revision,
            state: as_of.state.as_str(),
            time_zone: installation.zone.name().to_owned(),
            currency: installation.currency.code(),
            billed_by: BilledBy::new(&by, chunk.and_then(|chunk| chunk.pricing_version)),
            outcome: "NOT_ELIGIBLE",
            bill: stored.bill.as_ref().map(|bill| BillAmounts::new(&bill.amounts)),
            explanation: None,
            quarantine: None,
            not_eligible: None,
            posted_differences: details.posted.clone(),
            usage: details.records.clone(),
            difference: None,
            zone: installation.zone.clone(),
            money: installation.currency,
        };
        let mut priced = false;
        inputs.for_each(|_, own| {
            priced = true;
            explain(&mut report, &details, &pinned, &installation, own, |outcome| compare(&stored, outcome));
            Ok::<_, CommandError>(())
        })?;
        let (subscriptions, adjustments) = inputs.charges();
        if !priced {
            if stored.bill.is_none()
                && stored.quarantine.is_none()
                && subscriptions.is_empty()
                && adjustments.is_empty()
            {
                return Err(nothing(anyhow!(
                    "nothing is known of member {member} for month {month}, as of load {}",
                    pinned.data.cutoff
                )));
            }
            report.difference = compare(&stored, &Outcome::NotEligible { usage_rows: 0 });
            report.not_eligible = Some(NotEligible::unknown(pinned.data.cutoff, 0));
        }
        if let Some(not_eligible) = &mut report.not_eligible {
            not_eligible.add_charges(&pinned.pricer(), subscriptions, adjustments);
        }
        if let Some(quarantine) = &mut report.quarantine
            && let Some(detail) = outcome.quarantine_detail
        {
            quarantine.detail = detail;
        }
        Ok(report)
    }

    /// The revision that is asked for.
    async fn find_revision(&self, snapshot: &mut PgConnection) -> CommandResult<RevisionRow> {
        let Self { member, month, revision, .. } = *self;
        let Some(found) = stored_report::find_revision(snapshot, month, revision).await? else {
            return Err(nothing(match revision {
                Some(number) => anyhow!("month {month} has no revision {number}"),
                None => anyhow!(
                    "month {month} is not live: no bill has been issued; give --revision for that of a draft"
                ),
            }));
        };
        let chunk = stored_report::read_chunk_of(snapshot, month, found.revision, member).await?;
        if found.state == RevisionState::Draft && chunk.is_some_and(|chunk| !chunk.done) {
            return Err(nothing(anyhow!(
                "the draft {} of month {month} has not priced member {member} yet",
                found.revision
            )));
        }
        Ok(found)
    }
}

/// What is shown besides the prices.
struct Details {
    spans: Vec<store::report::UsageSpanRow>,
    reasons: Vec<(AdjustmentIdentity, String)>,
    posted: Vec<Posted>,
    records: Option<Vec<UsageRecord>>,
}

impl Details {
    async fn read(
        snapshot: &mut PgConnection,
        asked: &Explain,
        inputs: &ChunkInputs<'_>,
        pinned: &Pinned,
        as_of: Revision,
    ) -> CommandResult<Self> {
        let Explain { member, month, .. } = *asked;
        let mut boundaries = Vec::new();
        inputs.for_each(|_, own| {
            boundaries.extend_from_slice(own.coverage.usage_boundaries());
            Ok::<_, CommandError>(())
        })?;
        let data = &pinned.data;
        let records = if asked.usage {
            let records = stored_report::read_usage_records(snapshot, month, member, data).await?;
            Some(records.into_iter().map(UsageRecord::new).collect())
        } else {
            None
        };
        let posted = stored_report::read_posted(snapshot, month, as_of, member).await?;
        Ok(Self {
            spans: stored_report::read_usage_spans(snapshot, month, member, data, &boundaries).await?,
            reasons: stored_report::read_reasons(snapshot, month, member).await?,
            posted: posted.iter().map(Posted::new).collect(),
            records,
        })
    }
}

/// Prices the member and adds the outcome to the report.
fn explain<'a>(
    report: &mut Report,
    details: &Details,
    pinned: &'a Pinned,
    installation: &Installation,
    own: OwnInputs<'_, 'a>,
    difference: impl FnOnce(&Outcome<'_>) -> Option<String>,
) {
    let pricer = pinned.pricer();
    let (outcome, steps) = pricer.price_with_steps(own.coverage, own.grants, own.adjustments, own.usage);
    report.difference = difference(&outcome);
    match &outcome {
        Outcome::Billed(bill) => {
            report.outcome = "BILLED";
            let usage: Vec<UsageSpan<'_>> = details
                .spans
                .iter()
                .map(|row| UsageSpan {
                    kind: &row.kind,
                    interval: row.interval,
                    records: row.records,
                    quantity: row.quantity,
                    first: row.first,
                    last: row.last,
                })
                .collect();
            let reasons: Vec<(AdjustmentIdentity, &str)> =
                details.reasons.iter().map(|(id, reason)| (*id, reason.as_str())).collect();
            let evidence = Evidence { pricer, zone: &installation.zone, usage: &usage, reasons: &reasons };
            report.explanation = Some(Explanation::new(&evidence, own.coverage, bill, &steps));
        }
        Outcome::Quarantined { quarantine, .. } => {
            report.outcome = "QUARANTINED";
            report.quarantine = Some(Quarantined::new(quarantine));
        }
        Outcome::NotEligible { usage_rows } => {
            debug_assert!(matches!(own.coverage, Eligibility::NotEligible));
            report.not_eligible = Some(if own.known {
                NotEligible::without_plan(*usage_rows)
            } else {
                NotEligible::unknown(pinned.data.cutoff, *usage_rows)
            });
        }
    }
    if report.billed_by.pricing_version.is_some_and(|version| version != pricing::VERSION)
        && let Some(difference) = &mut report.difference
    {
        difference
            .push_str(&format!("; it was priced by another version of the rules than {}", pricing::VERSION));
    }
}

fn nothing(error: anyhow::Error) -> CommandError {
    CommandError::new(ExitStatus::Failed, error)
}

impl From<ChunkError> for CommandError {
    fn from(error: ChunkError) -> Self {
        let status = if error.is_transient() { ExitStatus::TryAgain } else { ExitStatus::Failed };
        Self::new(status, error)
    }
}
