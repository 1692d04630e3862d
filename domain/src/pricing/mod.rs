//! Computes one bill, one quarantine record or neither from one member's month.
//!
//! In two stages, because usage belongs to the segment that covers its local date:
//! [`Pricer::eligibility`] turns subscriptions into segments and gives the instants at which the
//! usage of the month has to be divided; the caller sums the usage between these instants;
//! [`Pricer::price`] computes the rest. Intermediate values are exact. Only stored values have to
//! fit into 64 bits.
//!
//! The steps can be recorded ([`Pricer::price_with_steps`]), for those who explain a bill. It is the
//! same code: billing passes a recorder that does nothing.

mod calculation;
mod inputs;
mod outcome;
mod pricer;
mod segments;
mod trace;

/// The version of the pricing rules. Two programs with the same number give the same bills for the
/// same inputs. It rises with every change after which some inputs give another bill.
pub const VERSION: i32 = 1;

pub(crate) use calculation::{Rating, rate_usage};
pub use inputs::{Adjustment, AdjustmentIdentity, Grant, Subscription, UsageSum};
pub use outcome::{Amounts, Bill, Item, ItemKind, Outcome, Quarantine, QuarantineCode};
pub use pricer::Pricer;
pub use segments::{Eligibility, Segment, Segments};
pub use trace::{Discounting, Overage, Step, StepKind, TierPart};
