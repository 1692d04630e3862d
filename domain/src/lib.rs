//! The domain model: months, money, price books, and the pricing of one member's month.
//!
//! Everything is pure: no clock, no database, no cluster, no floating point. [`pricing`] implements
//! the pricing contract; the other modules define its terms.

pub mod backoff;
pub mod bill_digest;
pub mod change_cause;
pub mod chunk_digest;
pub mod digest;
pub mod explanation;
pub mod ids;
pub mod locale;
pub mod money;
pub mod month;
pub mod notification_message;
pub mod price_book;
pub mod pricing;
pub mod yaml;
pub mod zone;
