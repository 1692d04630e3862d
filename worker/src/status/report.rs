//! The result of `monthend status`: the JSON, and the same as text.

use std::collections::BTreeMap;

use domain::explanation::format_amount;
use domain::ids::{LoadNumber, Revision};
use domain::money::Currency;
use domain::month::BillingMonth;
use domain::zone::Zone;
use jiff::Timestamp;
use serde::Serialize;
use store::billing::{Amounts, NotCharged};
use store::report::{DeliveryCounts, LateLoad, MonthCounts, NotificationRow, RevisionRow, ShardRow};

use crate::amount_columns::AmountColumns;
use crate::log::{BatchReport, print_batches};
use crate::output::{as_text, format_time, group_digits, print_line, print_table};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) month: BillingMonth,
    pub(super) currency: &'static str,
    pub(super) revisions: Vec<RevisionReport>,
    /// Null: the month has no live revision.
    pub(super) live: Option<Live>,
    /// Null: no run is billing the month.
    pub(super) draft: Option<Draft>,
    pub(super) late: Vec<LateRows>,
    pub(super) deliveries: Option<Deliveries>,
    pub(super) notification_runs: Vec<NotificationReport>,
    pub(super) batches: Vec<BatchReport>,
    #[serde(skip)]
    pub(super) zone: Zone,
    #[serde(skip)]
    pub(super) money: Currency,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RevisionReport {
    revision: Revision,
    state: &'static str,
    run: String,
    of_revision: Option<Revision>,
    /// Whom it bills, in words.
    scope: String,
    price_book_version: String,
    data_cutoff: LoadNumber,
    opened_at: Timestamp,
    issued_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    posts_to: Option<BillingMonth>,
    decided_by: Option<String>,
    reason: Option<String>,
}

impl RevisionReport {
    pub(super) fn new(row: &RevisionRow) -> Self {
        Self {
            revision: row.revision,
            state: row.state.as_str(),
            run: row.run.clone(),
            of_revision: row.of_revision,
            scope: row.scope.to_string(),
            price_book_version: row.price_book_version.clone(),
            data_cutoff: row.data_cutoff,
            opened_at: row.opened_at,
            issued_at: row.issued_at,
            closed_at: row.closed_at,
            posts_to: row.posts_to,
            decided_by: row.decided_by.clone(),
            reason: row.reason.clone(),
        }
    }
}

/// The live bills of the month. Amounts are in minor units.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Live {
    revision: Revision,
    billed: i64,
    quarantined: i64,
    #[serde(serialize_with = "as_text")]
    total: i128,
    /// Null if the highest live revision has billed some members only: then only the total is kept.
    amounts: Option<AmountColumns>,
    /// As of the highest live revision of everyone.
    not_charged: Option<LiveNotCharged>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LiveNotCharged {
    add_ons: i64,
    adjustments: i64,
    #[serde(serialize_with = "as_text")]
    adjustment_amount: i128,
    usage_rows: i64,
}

impl Live {
    pub(super) fn new(row: &RevisionRow, sums: Option<(Option<Amounts>, NotCharged)>) -> Self {
        let MonthCounts { billed, quarantined, total } =
            row.month.unwrap_or(MonthCounts { billed: 0, quarantined: 0, total: 0 });
        let (amounts, not_charged) = sums.map_or((None, None), |(amounts, other)| (amounts, Some(other)));
        Self {
            revision: row.revision,
            billed,
            quarantined,
            total,
            amounts: amounts.map(|amounts| AmountColumns {
                base: amounts.base,
                usage: amounts.usage,
                discount: amounts.discount,
                adjustment: amounts.adjustment,
                tax: amounts.tax,
                rounding: amounts.rounding,
            }),
            not_charged: not_charged.map(|other| LiveNotCharged {
                add_ons: other.add_ons,
                adjustments: other.adjustments,
                adjustment_amount: other.adjustment_amount,
                usage_rows: other.usage_rows,
            }),
        }
    }
}

/// A revision that is being billed, or waits for approval.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Draft {
    revision: Revision,
    run: String,
    members: i64,
    members_done: i64,
    chunks: i64,
    chunks_done: i64,
    verified_at: Option<Timestamp>,
    shards: Vec<ShardReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardReport {
    shard: i32,
    chunks: i64,
    chunks_done: i64,
    members: i64,
    members_done: i64,
    last_done_at: Option<Timestamp>,
}

impl Draft {
    pub(super) fn new(row: &RevisionRow, shards: &[ShardRow]) -> Self {
        Self {
            revision: row.revision,
            run: row.run.clone(),
            members: row.members,
            members_done: shards.iter().map(|shard| shard.members_done).sum(),
            chunks: shards.iter().map(|shard| shard.chunks).sum(),
            chunks_done: shards.iter().map(|shard| shard.chunks_done).sum(),
            verified_at: row.verified_at,
            shards: shards
                .iter()
                .map(|shard| ShardReport {
                    shard: shard.shard,
                    chunks: shard.chunks,
                    chunks_done: shard.chunks_done,
                    members: shard.members,
                    members_done: shard.members_done,
                    last_done_at: shard.last_done_at,
                })
                .collect(),
        }
    }
}

/// Rows of one kind that came after the cut-off of the highest live revision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LateRows {
    kind: String,
    /// Loaded within the cut-off, and taken back after it.
    taken_back: bool,
    rows: i64,
}

impl LateRows {
    pub(super) fn group(loads: Vec<LateLoad>) -> Vec<Self> {
        let mut sums: BTreeMap<(String, bool), i64> = BTreeMap::new();
        for late in loads {
            *sums.entry((late.file, late.taken_back)).or_default() += late.rows;
        }
        sums.into_iter().map(|((kind, taken_back), rows)| Self { kind, taken_back, rows }).collect()
    }
}

/// The live bills by the status of their delivery.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deliveries {
    ready: i64,
    sending: i64,
    sent: i64,
    failed: i64,
    unknown: i64,
    skipped: i64,
}

impl Deliveries {
    /// A bill without a recorded delivery is ready.
    pub(super) fn new(billed: i64, counts: &DeliveryCounts) -> Self {
        Self {
            ready: billed - counts.recorded() + counts.pending,
            sending: counts.sending,
            sent: counts.sent,
            failed: counts.failed,
            unknown: counts.unknown,
            skipped: counts.skipped,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationReport {
    run: String,
    select: String,
    rehearsal: bool,
    state: String,
    targets: i64,
    round: i32,
    succeeded: i64,
    failed: i64,
    skipped: i64,
    opened_at: Timestamp,
    closed_at: Option<Timestamp>,
    reason: Option<String>,
}

impl NotificationReport {
    pub(super) fn new(row: NotificationRow) -> Self {
        Self {
            run: row.run,
            select: row.selection,
            rehearsal: row.rehearsal,
            state: row.state,
            targets: row.targets,
            round: row.round,
            succeeded: row.succeeded,
            failed: row.failed,
            skipped: row.skipped,
            opened_at: row.opened_at,
            closed_at: row.closed_at,
            reason: row.reason,
        }
    }
}

impl Report {
    /// Writes the report as text.
    pub(super) fn print(&self) {
        let Self { month, revisions, .. } = self;
        if revisions.is_empty() {
            print_line(format_args!("{month}: not billed, and no run is billing it"));
        } else {
            print_line(format_args!("Revisions of {month}"));
            self.print_revisions();
        }
        if let Some(live) = &self.live {
            self.print_live(live);
        }
        if let Some(draft) = &self.draft {
            print_draft(draft);
        }
        self.print_late();
        if let Some(Deliveries { ready, sending, sent, failed, unknown, skipped }) = &self.deliveries {
            let [ready, sending, sent, failed, unknown, skipped] =
                [ready, sending, sent, failed, unknown, skipped].map(|count| group_digits(*count));
            print_line(format_args!(
                "\nDeliveries: {ready} ready, {sending} sending, {sent} sent, {failed} failed, {unknown} unknown, {skipped} skipped"
            ));
        }
        self.print_notifications();
        if !self.batches.is_empty() {
            print_line("\nLast batches of the month");
            print_batches(&self.batches, &self.zone);
        }
    }

    fn print_revisions(&self) {
        let time =
            |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| format_time(at, &self.zone));
        let rows: Vec<Vec<String>> = self
            .revisions
            .iter()
            .map(|row| {
                vec![
                    row.revision.to_string(),
                    row.state.to_owned(),
                    row.run.clone(),
                    row.scope.clone(),
                    row.price_book_version.clone(),
                    row.data_cutoff.to_string(),
                    time(Some(row.opened_at)),
                    time(row.issued_at),
                    row.reason.clone().unwrap_or_else(|| "-".to_owned()),
                ]
            })
            .collect();
        let heading =
            ["REVISION", "STATE", "RUN", "BILLS", "PRICE BOOK", "LOADS UP TO", "OPENED", "ISSUED", "REASON"];
        print_table(&heading, &rows);
    }

    fn print_live(&self, live: &Live) {
        let amount = |minor: i128| format_amount(minor, self.money);
        let (billed, quarantined) = (group_digits(live.billed), group_digits(live.quarantined));
        print_line(format_args!(
            "\nLive: {billed} billed, {quarantined} in quarantine, total {}",
            amount(live.total)
        ));
        if let Some(AmountColumns { base, usage, discount, adjustment, tax, rounding }) = &live.amounts {
            print_line(format_args!(
                "     fees {}, usage {}, discounts {}, adjustments {}, tax {}, rounding {}",
                amount(*base),
                amount(*usage),
                amount(*discount),
                amount(*adjustment),
                amount(*tax),
                amount(*rounding)
            ));
        }
        if let Some(LiveNotCharged { add_ons, adjustments, adjustment_amount, usage_rows }) =
            &live.not_charged
        {
            print_line(format_args!(
                "     not charged: {} add-ons, {} adjustments of {}, {} usage rows",
                group_digits(*add_ons),
                group_digits(*adjustments),
                amount(*adjustment_amount),
                group_digits(*usage_rows)
            ));
        }
    }

    fn print_late(&self) {
        let Some(live) = &self.live else { return };
        let late: Vec<String> = self
            .late
            .iter()
            .map(|late| {
                let taken_back = if late.taken_back { " taken back" } else { "" };
                format!("{} {}{taken_back}", group_digits(late.rows), late.kind)
            })
            .collect();
        let late = if late.is_empty() { "nothing".to_owned() } else { late.join(", ") };
        print_line(format_args!("\nLate, after the cut-off of revision {}: {late}", live.revision));
    }

    fn print_notifications(&self) {
        if self.notification_runs.is_empty() {
            return;
        }
        print_line("\nNotification runs");
        let rows: Vec<Vec<String>> = self
            .notification_runs
            .iter()
            .map(|row| {
                vec![
                    row.run.clone(),
                    if row.rehearsal { format!("{}, rehearsal", row.select) } else { row.select.clone() },
                    row.state.clone(),
                    row.round.to_string(),
                    group_digits(row.targets),
                    group_digits(row.succeeded),
                    group_digits(row.failed),
                    group_digits(row.skipped),
                    format_time(row.opened_at, &self.zone),
                ]
            })
            .collect();
        let heading =
            ["RUN", "SELECT", "STATE", "ROUND", "TARGETS", "SUCCEEDED", "FAILED", "SKIPPED", "OPENED"];
        print_table(&heading, &rows);
    }
}

fn print_draft(draft: &Draft) {
    let verified = if draft.verified_at.is_some() { ", verified" } else { "" };
    print_line(format_args!(
        "\nDraft: revision {} of {}: {} of {} members, {} of {} chunks{verified}",
        draft.revision,
        draft.run,
        group_digits(draft.members_done),
        group_digits(draft.members),
        draft.chunks_done,
        draft.chunks
    ));
    for shard in &draft.shards {
        let ShardReport { shard, chunks, chunks_done, .. } = shard;
        print_line(format_args!("     shard {shard}: {chunks_done} of {chunks} chunks"));
    }
}
