//! What nobody is charged for, because the member has no base plan in the month or is not known.

/// Add-ons, adjustments and usage of members who are not eligible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NotCharged {
    /// Subscriptions of add-ons with a day in the month.
    pub add_ons: i64,
    pub adjustments: i64,
    /// Minor units; can exceed 64 bits.
    pub adjustment_amount: i128,
    /// A part of the unbillable usage.
    pub usage_rows: i64,
}
