//! What tests of this crate and of the crates above it share: databases, a billed month, a billing
//! run. For tests only: it panics instead of returning errors.

mod billed_month;
mod billing_fixture;
mod database;
mod proxy;
pub mod sample_month;

pub use self::billed_month::{MONTH, PRICE_BOOK, TestMember, keyring};
pub use self::billing_fixture::BillingFixture;
pub use self::database::{SERVER, TestDatabase, with_role};
pub use self::proxy::{Cut, DatabaseProxy};
