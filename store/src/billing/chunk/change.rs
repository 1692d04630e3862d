//! What a re-billing changes for one member, and how it is written: a row of `bill_change` for each
//! outcome.

use domain::change_cause::ChangeCause;
use domain::ids::MemberId;
use domain::pricing::Outcome;

use super::comparison::LiveOutcome;
use crate::copy::ColumnType::{Enum, Int4, Int8, Text};
use crate::copy::{CopyRows, Table};

pub(super) const CHANGES: Table = Table {
    name: "bill_change",
    columns: &[
        ("member_id", Int8),
        ("before_total", Int8),
        ("after_total", Int8),
        ("revision", Int4),
        ("before_outcome", Enum("outcome_kind")),
        ("after_outcome", Enum("outcome_kind")),
        ("cause", Enum("change_cause")),
        ("month", Text),
    ],
};

/// A member's outcome before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub member: MemberId,
    pub before: ChangeSide,
    pub after: ChangeSide,
}

/// As much of an outcome as the diff shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeSide {
    /// Neither a bill nor a quarantine record.
    None,
    /// The total of the bill.
    Billed(i64),
    Quarantined,
}

impl Change {
    pub(super) fn new(member: MemberId, live: Option<&LiveOutcome>, outcome: &Outcome<'_>) -> Self {
        let before = match live {
            None => ChangeSide::None,
            Some(LiveOutcome::Billed(bill)) => ChangeSide::Billed(bill.total),
            Some(LiveOutcome::Quarantined { .. }) => ChangeSide::Quarantined,
        };
        let after = match outcome {
            Outcome::Billed(bill) => ChangeSide::Billed(bill.total_amount.get()),
            Outcome::Quarantined { .. } => ChangeSide::Quarantined,
            Outcome::NotEligible { .. } => ChangeSide::None,
        };
        Self { member, before, after }
    }

    /// Whether the member is in quarantine, or was.
    #[must_use]
    pub fn is_quarantine(&self) -> bool {
        [self.before, self.after].contains(&ChangeSide::Quarantined)
    }
}

impl ChangeSide {
    fn kind(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Billed(_) => "BILLED",
            Self::Quarantined => "QUARANTINED",
        }
    }

    fn total(self) -> Option<i64> {
        match self {
            Self::Billed(total) => Some(total),
            Self::None | Self::Quarantined => None,
        }
    }
}

/// The rows of the changes, each with its cause.
pub(super) fn encode(
    changes: impl Iterator<Item = (Change, ChangeCause)>,
    revision: i32,
    month: &str,
) -> CopyRows {
    let mut rows = CopyRows::default();
    for (Change { member, before, after }, cause) in changes {
        rows.row(8)
            .int8(member.get())
            .optional(before.total(), CopyRows::int8)
            .optional(after.total(), CopyRows::int8)
            .int4(revision)
            .text(before.kind())
            .text(after.kind())
            .text(cause.as_str())
            .text(month);
    }
    rows
}
