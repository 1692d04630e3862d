//! Billing runs: from the plan of a revision to its issue.

mod diff;
mod earlier_runs;
mod inputs;
mod interruptions;
mod lifecycle;
mod month_totals;
mod posted_differences;
mod pricing;
mod rebilling;
mod rollback;
mod scopes;
mod verify_revision;

pub(crate) use self::pricing::{bill_month, bill_shard, bill_shards};
pub(crate) use self::rebilling::{corrected_month, rebill};
