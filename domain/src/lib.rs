//! What the product computes: months, price books, and how one member's month becomes one bill.
//!
//! Everything here is pure: no clock, no database, no cluster, no floating point.

pub mod ids;
pub mod masking;
pub mod money;
pub mod month;
pub mod zone;
