//! What a re-billing changes, in the status of a `BillingRun`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a re-billing changes: members by what becomes of their bill or quarantine record, and the
/// change of their totals in minor units of the currency, as decimal strings. The view `bill_diff`
/// has each member.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// Members who had a bill or a quarantine record and get another.
    pub changed: i64,
    /// Members whose bill or quarantine record stays.
    pub unchanged: i64,
    /// Members who had neither a bill nor a quarantine record and get one.
    pub added: i64,
    /// Members who had a bill or a quarantine record and are no longer eligible.
    pub removed: i64,
    /// The month's total once the revision is issued, less the live total.
    pub total_delta: String,
    /// The part of totalDelta by which totals rise, zero or positive.
    pub increase: String,
    /// The part of totalDelta by which totals fall, zero or negative.
    pub decrease: String,
    /// The changes by cause; the cause of most members first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub causes: Vec<CauseShare>,
}

/// The changes that have one cause.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CauseShare {
    /// The cause.
    pub cause: ChangeCause,
    /// Members whose outcome changes for this cause.
    pub members: i64,
    /// The part of totalDelta of these members.
    pub delta: String,
}

/// Why a member's outcome changes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeCause {
    /// The price book.
    PriceBook,
    /// A subscription to a base plan, or that the member has become known.
    Plan,
    /// A subscription to an add-on.
    AddOn,
    /// A grant of a discount.
    Discount,
    /// An adjustment.
    Adjustment,
    /// Usage that was loaded after the cut-off of the bill before, in addition to what counted.
    LateUsage,
    /// Usage of which something counted before and does not count any more.
    Usage,
    /// The member is in quarantine, or was.
    Quarantine,
    /// More than one of the above.
    MoreThanOne,
    /// None of the above: the same inputs give another outcome in this version of the program.
    Calculation,
}
