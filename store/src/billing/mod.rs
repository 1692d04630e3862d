//! Billing runs and the revisions of a month: how a revision is planned, billed chunk by chunk,
//! observed, verified, issued or rejected, and rolled back. Owns every statement that writes
//! `month_lock`, `revision`, `scope_member`, `rollback`, `chunk`, `bill`, `bill_item`,
//! `quarantined_member`, `ineligible_member`, `bill_change` and `posted_difference`. Decides nothing
//! about runs (the operator does) and prices nothing (`domain` does).
//!
//! Each function that writes is keyed by the run's uid and guarded by the state before it and by
//! the month's fence. It can be repeated: a repeated call finds the result of the first.

mod amounts;
mod begin_run;
mod billing_error;
pub mod chunk;
mod chunk_sums;
mod close_revision;
mod diff;
mod earlier_run;
mod input_coverage;
mod issue_revision;
mod late_rows;
mod month_figures;
mod month_standings;
mod month_totals;
mod not_charged;
mod observe;
mod plan_chunks;
mod posted_differences;
mod reject_revision;
mod revision;
mod roll_back_revision;
mod scope;
mod verification;
mod verify_revision;
mod verify_usage;

pub use sqlx::types::Uuid;

pub use self::amounts::{Amounts, Counts};
pub use self::begin_run::{AfterSent, BeginRequest, BeginResult, Rebilling, Rejection, Started, begin_run};
pub use self::billing_error::BillingError;
pub use self::close_revision::EndStatus;
pub use self::diff::{CauseShare, Diff};
pub use self::earlier_run::{EarlierRun, Effect, find_earlier_run};
pub use self::issue_revision::issue_revision;
pub use self::late_rows::{LateMonth, LateRows, read_late_months};
pub use self::month_figures::{Baselines, MonthFigures};
pub use self::month_standings::{MonthStanding, read_standings};
pub use self::month_totals::{MonthTotals, read_totals};
pub use self::not_charged::NotCharged;
pub use self::observe::{Draft, PricingVersions, RebillingSnapshot, RunSnapshot, observe, read_drafts};
pub use self::posted_differences::PostedDifferences;
pub use self::reject_revision::reject_revision;
pub use self::revision::{RevisionKey, RevisionState};
pub use self::roll_back_revision::{
    Rollback, RollbackRequest, RollbackResult, observe_rollback, roll_back_revision,
};
pub use self::scope::{Scope, ScopeKind};
pub use self::verification::{Check, Verification};
pub use self::verify_revision::verify_revision;
