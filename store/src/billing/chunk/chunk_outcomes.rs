//! The outcomes of a chunk's members as they will be written. Counts, sums and digest are of all
//! members, so that they do not depend on what is live; rows are written for outcomes that change.
//! Only where a bill stays that was sent, the sums have that bill instead of the priced one.

use domain::bill_digest::BillDigest;
use domain::change_cause::ChangeCause;
use domain::chunk_digest::ChunkDigest;
use domain::ids::MemberId;
use domain::pricing::{Bill, Outcome};

use super::change::{self, Change};
use super::comparison::{Decision, Effect, LiveOutcome, decide};
use super::live_outcomes::LiveOutcomes;
use crate::billing::amounts::{Amounts, Counts};
use crate::billing::billing_error::BillingError;
use crate::billing::not_charged::NotCharged;
use crate::billing::revision::RevisionKey;
use crate::copy::ColumnType::{Bytea, Enum, Int4, Int8, Text};
use crate::copy::{CopyRows, Table};
use crate::error::StoreError;

pub(super) const BILLS: Table = Table {
    name: "bill",
    columns: &[
        ("member_id", Int8),
        ("base_amount", Int8),
        ("usage_amount", Int8),
        ("discount_amount", Int8),
        ("adjustment_amount", Int8),
        ("tax_amount", Int8),
        ("rounding_amount", Int8),
        ("total_amount", Int8),
        ("revision", Int4),
        ("month", Text),
        ("digest", Bytea),
    ],
};
pub(super) const ITEMS: Table = Table {
    name: "bill_item",
    columns: &[
        ("member_id", Int8),
        ("quantity", Int8),
        ("amount", Int8),
        ("used_quantity", Int8),
        ("free_allowance", Int8),
        ("revision", Int4),
        ("line_no", Int4),
        ("days", Int4),
        ("kind", Enum("item_kind")),
        ("code", Text),
        ("month", Text),
    ],
};

/// The outcomes of one chunk.
#[derive(Debug)]
pub struct ChunkOutcomes {
    revision: i32,
    month: String,
    /// Of the members that are not added yet.
    live: LiveOutcomes,
    /// The outcomes to write.
    changes: Vec<Change>,
    /// The same as rows of `bill_change`, once their causes are known.
    pub(super) explained: Option<CopyRows>,
    pub(super) counts: Counts,
    pub(super) amounts: Amounts,
    /// Set by the caller: it is not derived from the outcomes.
    pub not_charged: NotCharged,
    pub(super) digest: ChunkDigest,
    pub(super) bills: CopyRows,
    pub(super) items: CopyRows,
    pub(super) quarantined: QuarantinedMembers,
    /// Members with a live outcome who are no longer eligible.
    pub(super) ineligible: Vec<i64>,
    pub(super) left: LeftBills,
    pub(super) posted: Posted,
}

/// Columns instead of rows, as they are inserted by `unnest`.
#[derive(Debug, Default)]
pub(super) struct QuarantinedMembers {
    pub(super) members: Vec<i64>,
    pub(super) codes: Vec<String>,
    pub(super) details: Vec<String>,
}

/// The live bills that stay although another one was priced. Their amounts and items are counted when
/// the chunk is completed.
#[derive(Debug, Default)]
pub(super) struct LeftBills {
    pub(super) members: Vec<i64>,
    pub(super) revisions: Vec<i32>,
}

/// The rows of `posted_difference`.
#[derive(Debug, Default)]
pub(super) struct Posted {
    pub(super) members: Vec<i64>,
    pub(super) amounts: Vec<i64>,
}

impl ChunkOutcomes {
    /// `live` are the outcomes that the members have now: what stays the same is not written again.
    #[must_use]
    pub fn new(key: &RevisionKey, live: LiveOutcomes) -> Self {
        Self {
            revision: key.revision.get(),
            month: key.month.to_string(),
            live,
            changes: Vec::new(),
            explained: None,
            counts: Counts::default(),
            amounts: Amounts::default(),
            not_charged: NotCharged::default(),
            digest: ChunkDigest::new(),
            bills: CopyRows::default(),
            items: CopyRows::default(),
            quarantined: QuarantinedMembers::default(),
            ineligible: Vec::new(),
            left: LeftBills::default(),
            posted: Posted::default(),
        }
    }

    /// Counts of all members that were added.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Adds the outcome of the next member. Members must be added in ascending order of their ids.
    ///
    /// # Errors
    /// When a count exceeds 64 bits.
    pub fn add(&mut self, member: MemberId, outcome: &Outcome<'_>) -> Result<(), BillingError> {
        self.digest.add(member, outcome);
        let live = self.live.take(member);
        let effect = self.carry_out(member, live.as_ref(), outcome);
        self.count(outcome, effect)
    }

    /// Notes what becomes of the live outcome, and what is to be posted.
    fn carry_out(&mut self, member: MemberId, live: Option<&LiveOutcome>, outcome: &Outcome<'_>) -> Effect {
        let Decision { effect, posts } = decide(live, outcome);
        match (effect, live) {
            (Effect::Written, _) => self.write(member, live, outcome),
            (Effect::Left, Some(LiveOutcome::Billed(bill))) => {
                self.left.members.push(member.get());
                self.left.revisions.push(bill.revision);
            }
            (Effect::Left | Effect::Unchanged, _) => {}
        }
        if posts != 0 {
            self.posted.members.push(member.get());
            self.posted.amounts.push(posts);
        }
        effect
    }

    /// Ends the outcomes of members who have a live one and were not added: as of the cut-off
    /// nothing is known of them, so they are not eligible.
    pub(super) fn end_rest(&mut self) {
        for (member, live) in self.live.take_rest() {
            self.carry_out(member, Some(&live), &Outcome::NotEligible { usage_rows: 0 });
        }
    }

    /// What changes, once every member is added.
    pub fn changes(&mut self) -> &[Change] {
        self.end_rest();
        &self.changes
    }

    /// Says why each of [`Self::changes`] changes. A re-billing has to; a first billing compares itself
    /// with nothing.
    ///
    /// # Panics
    /// When there is not one cause for each change.
    pub fn explain(&mut self, causes: Vec<ChangeCause>) {
        assert_eq!(causes.len(), self.changes().len(), "each change has one cause");
        let changes = self.changes.iter().copied().zip(causes);
        self.explained = Some(change::encode(changes, self.revision, &self.month));
    }

    pub(super) fn changed(&self) -> i64 {
        i64::try_from(self.changes.len()).expect("fewer changes than 2^63")
    }

    fn count(&mut self, outcome: &Outcome<'_>, effect: Effect) -> Result<(), BillingError> {
        match outcome {
            Outcome::Billed(bill) => {
                self.counts.billed += 1;
                self.counts.rated_usage += count(bill.rated_rows)?;
                self.counts.unbillable_usage += count(bill.unbillable_rows)?;
                if effect == Effect::Left {
                    return Ok(());
                }
                self.counts.items += count(bill.items.len() as u64)?;
                self.amounts.base += bill.base_amount.exact();
                self.amounts.usage += bill.usage_amount.exact();
                self.amounts.discount += bill.discount_amount.exact();
                self.amounts.adjustment += bill.adjustment_amount.exact();
                self.amounts.tax += bill.tax_amount.exact();
                self.amounts.rounding += bill.rounding_amount.exact();
                self.amounts.total += bill.total_amount.exact();
            }
            Outcome::Quarantined { usage_rows, .. } => {
                self.counts.quarantined += 1;
                self.counts.quarantined_usage += count(*usage_rows)?;
            }
            Outcome::NotEligible { usage_rows } => self.counts.unbillable_usage += count(*usage_rows)?,
        }
        Ok(())
    }

    fn write(&mut self, member: MemberId, live: Option<&LiveOutcome>, outcome: &Outcome<'_>) {
        self.changes.push(Change::new(member, live, outcome));
        match outcome {
            Outcome::Billed(bill) => self.write_bill(member, bill),
            Outcome::Quarantined { quarantine, .. } => {
                self.quarantined.members.push(member.get());
                self.quarantined.codes.push(quarantine.code.as_str().to_owned());
                self.quarantined.details.push(quarantine.detail.clone());
            }
            Outcome::NotEligible { .. } => self.ineligible.push(member.get()),
        }
    }

    fn write_bill(&mut self, member: MemberId, bill: &Bill<'_>) {
        let Bill {
            base_amount,
            usage_amount,
            discount_amount,
            adjustment_amount,
            tax_amount,
            rounding_amount,
            total_amount,
            items,
            rated_rows: _,
            unbillable_rows: _,
        } = bill;
        self.bills
            .row(11)
            .int8(member.get())
            .int8(base_amount.get())
            .int8(usage_amount.get())
            .int8(discount_amount.get())
            .int8(adjustment_amount.get())
            .int8(tax_amount.get())
            .int8(rounding_amount.get())
            .int8(total_amount.get())
            .int4(self.revision)
            .text(&self.month)
            .bytes(BillDigest::of(bill).as_bytes());
        for item in items {
            self.items
                .row(11)
                .int8(member.get())
                .int8(item.quantity)
                .int8(item.amount.get())
                .optional(item.used, CopyRows::int8)
                .optional(item.free, CopyRows::int8)
                .int4(self.revision)
                .int4(item.line_no)
                .optional(item.days, CopyRows::int4)
                .text(item.kind.as_str())
                .text(item.code)
                .text(&self.month);
        }
    }
}

fn count(rows: u64) -> Result<i64, StoreError> {
    i64::try_from(rows).map_err(|_| StoreError::unreadable("a count of rows", rows))
}
