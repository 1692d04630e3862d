//! What the product computes: months, price books, and how one member's month becomes one bill.
//!
//! Everything here is pure: no clock, no database, no cluster, no floating point. The pricing contract is implemented
//! in [`pricing`]; the other modules hold the words it is written in.

pub mod backoff;
pub mod digest;
pub mod ids;
pub mod locale;
pub mod money;
pub mod month;
pub mod notification_message;
pub mod price_book;
pub mod pricing;
pub mod scaling;
pub mod yaml;
pub mod zone;
