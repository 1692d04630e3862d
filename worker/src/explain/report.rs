//! The result of `monthend explain`: the JSON, and the same as text.

use domain::explanation::{Explanation, format_amount, month_name};
use domain::ids::{LoadNumber, MemberId, Revision};
use domain::money::Currency;
use domain::month::BillingMonth;
use domain::pricing::{Amounts, Pricer, Quarantine, QuarantineCode};
use domain::zone::Zone;
use jiff::Timestamp;
use serde::Serialize;
use store::billing::chunk::{AdjustmentRow, SubscriptionRow};
use store::report::RevisionRow;

use crate::amount_columns::AmountColumns;
use crate::output::{as_text, format_time, group_digits, print_line};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) member_id: MemberId,
    pub(super) month: BillingMonth,
    /// The revision that the report is as of.
    pub(super) revision: Revision,
    pub(super) state: &'static str,
    pub(super) time_zone: String,
    pub(super) currency: &'static str,
    pub(super) billed_by: BilledBy,
    /// `BILLED`, `QUARANTINED` or `NOT_ELIGIBLE`, as priced again.
    pub(super) outcome: &'static str,
    /// As stored.
    pub(super) bill: Option<BillAmounts>,
    pub(super) explanation: Option<Explanation>,
    pub(super) quarantine: Option<Quarantined>,
    pub(super) not_eligible: Option<NotEligible>,
    pub(super) posted_differences: Vec<Posted>,
    /// Only if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Vec<UsageRecord>>,
    /// What differs between this and what is stored. Null: nothing.
    pub(super) difference: Option<String>,
    #[serde(skip)]
    pub(super) zone: Zone,
    #[serde(skip)]
    pub(super) money: Currency,
}

/// The revision that has the outcome; for another one above it the outcome stayed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BilledBy {
    pub(super) revision: Revision,
    pub(super) run: String,
    pub(super) price_book_version: String,
    pub(super) price_book_sha256: String,
    pub(super) data_cutoff: LoadNumber,
    pub(super) issued_at: Option<Timestamp>,
    /// Null: a version that recorded none.
    pub(super) pricing_version: Option<i32>,
}

impl BilledBy {
    pub(super) fn new(row: &RevisionRow, pricing_version: Option<i32>) -> Self {
        Self {
            revision: row.revision,
            run: row.run.clone(),
            price_book_version: row.price_book_version.clone(),
            price_book_sha256: row.price_book.clone(),
            data_cutoff: row.data_cutoff,
            issued_at: row.issued_at,
            pricing_version,
        }
    }
}

/// The columns of the bill, in minor units.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BillAmounts {
    #[serde(flatten)]
    columns: AmountColumns,
    #[serde(serialize_with = "as_text")]
    total: i128,
}

impl BillAmounts {
    pub(super) fn new(amounts: &Amounts) -> Self {
        let columns = AmountColumns {
            base: amounts.base.exact(),
            usage: amounts.usage.exact(),
            discount: amounts.discount.exact(),
            adjustment: amounts.adjustment.exact(),
            tax: amounts.tax.exact(),
            rounding: amounts.rounding.exact(),
        };
        Self { columns, total: amounts.total.exact() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quarantined {
    code: &'static str,
    meaning: &'static str,
    pub(super) detail: String,
}

impl Quarantined {
    pub(super) fn new(quarantine: &Quarantine) -> Self {
        let meaning = match quarantine.code {
            QuarantineCode::UnknownPlan => "the member has a plan that the price book does not have",
            QuarantineCode::OverlappingSubscriptions => {
                "two base plans, or the same add-on twice, cover the same day"
            }
            QuarantineCode::UnknownDiscount => {
                "the member is granted a discount that the price book does not have"
            }
            QuarantineCode::AmountOverflow => "a quantity or an amount is too large to be stored",
        };
        Self { code: quarantine.code.as_str(), meaning, detail: quarantine.detail.clone() }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotEligible {
    reason: String,
    /// The codes of add-ons that are not charged.
    add_ons: Vec<String>,
    adjustments: usize,
    usage_records: u64,
}

impl NotEligible {
    pub(super) fn without_plan(usage_records: u64) -> Self {
        let reason = "no base plan covers a day of the month".to_owned();
        Self { reason, add_ons: Vec::new(), adjustments: 0, usage_records }
    }

    pub(super) fn unknown(cutoff: LoadNumber, usage_records: u64) -> Self {
        let reason = format!("no load up to {cutoff} has the member");
        Self { reason, add_ons: Vec::new(), adjustments: 0, usage_records }
    }

    pub(super) fn add_charges(
        &mut self,
        pricer: &Pricer<'_>,
        subscriptions: &[SubscriptionRow],
        adjustments: &[AdjustmentRow],
    ) {
        let add_ons = subscriptions.iter().filter(|row| pricer.is_add_on(&row.plan_code));
        self.add_ons = add_ons.map(|row| row.plan_code.clone()).collect();
        self.adjustments = adjustments.len();
    }
}

/// A difference that the month leaves to another one, in minor units.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Posted {
    /// The re-billing that computed it.
    revision: Revision,
    month: BillingMonth,
    #[serde(serialize_with = "as_text")]
    amount: i128,
}

impl Posted {
    pub(super) fn new(posted: &store::report::Posted) -> Self {
        Self { revision: posted.revision, month: posted.to, amount: posted.amount.into() }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageRecord {
    source: String,
    usage_id: String,
    kind: String,
    #[serde(serialize_with = "as_text")]
    quantity: i128,
    started_at: Timestamp,
    load: LoadNumber,
}

impl UsageRecord {
    pub(super) fn new(record: store::report::UsageRecord) -> Self {
        let store::report::UsageRecord { source, usage_id, kind, quantity, started_at, load } = record;
        Self { source, usage_id, kind, quantity: quantity.into(), started_at, load }
    }
}

impl Report {
    /// Writes the report as text.
    pub(super) fn print(&self) {
        let Self { member_id, month, revision, billed_by: by, .. } = self;
        let of = match self.state {
            "LIVE" => format!("revision {revision}"),
            state => format!("revision {revision}, which is {state}"),
        };
        print_line(format_args!("Member {member_id}, {}, {of}", month_name(*month)));
        let stays = if by.revision == *revision { "" } else { ", whose outcome has not changed since" };
        print_line(format_args!(
            "Made by revision {} ({}){stays}: price book {}, loads up to {}, times in {}",
            by.revision, by.run, by.price_book_version, by.data_cutoff, self.time_zone
        ));
        print_line("");
        if let Some(explanation) = &self.explanation {
            print_line(explanation.to_string().trim_end());
        }
        if let Some(Quarantined { code, meaning, detail }) = &self.quarantine {
            print_line(format_args!("In quarantine, no bill: {meaning} ({code})."));
            print_line(format_args!("     {detail}"));
        }
        if let Some(NotEligible { reason, add_ons, adjustments, usage_records }) = &self.not_eligible {
            print_line(format_args!("No bill: {reason}."));
            if !add_ons.is_empty() {
                print_line(format_args!("     add-ons that are not charged: {}", add_ons.join(", ")));
            }
            if *adjustments > 0 {
                print_line(format_args!("     adjustments that are not charged: {adjustments}"));
            }
            if *usage_records > 0 {
                let records = group_digits(i128::from(*usage_records));
                print_line(format_args!("     usage records that are not charged: {records}"));
            }
        }
        for Posted { revision, month, amount } in &self.posted_differences {
            print_line(format_args!(
                "Revision {revision} computed another amount after the bill was sent. The bill stays, and the difference of {} \
                 is billed in {}.",
                format_amount(*amount, self.money),
                month_name(*month)
            ));
        }
        if let Some(records) = &self.usage {
            print_line("");
            print_line(format_args!("Usage records: {}", records.len()));
            for UsageRecord { source, usage_id, kind, quantity, started_at, load } in records {
                let (at, quantity) = (format_time(*started_at, &self.zone), group_digits(*quantity));
                print_line(format_args!("     {at}  {kind}  {quantity}  {source}/{usage_id}  load {load}"));
            }
        }
        print_line("");
        match &self.difference {
            None => print_line("This is what is stored, to the unit."),
            Some(difference) => print_line(format_args!("THIS DIFFERS from what is stored: {difference}")),
        }
    }
}
