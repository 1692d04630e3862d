//! A range of member ids, which the specs of both kinds have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of member ids, both ends inclusive.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct MemberRange {
    /// The first id.
    pub from: i64,
    /// The last id.
    pub to: i64,
}
