//! What the total of a bill, or of many, consists of, as JSON has it.

use serde::Serialize;

use crate::output::as_text;

/// The columns of a bill but its total, in minor units; those of a month can exceed 64 bits.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AmountColumns {
    #[serde(serialize_with = "as_text")]
    pub(crate) base: i128,
    #[serde(serialize_with = "as_text")]
    pub(crate) usage: i128,
    #[serde(serialize_with = "as_text")]
    pub(crate) discount: i128,
    #[serde(serialize_with = "as_text")]
    pub(crate) adjustment: i128,
    #[serde(serialize_with = "as_text")]
    pub(crate) tax: i128,
    #[serde(serialize_with = "as_text")]
    pub(crate) rounding: i128,
}
