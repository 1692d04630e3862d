//! Notification runs: which bills a run delivers, and the state of each bill's delivery. Owns every
//! statement that writes `template_set`, `notification`, `publication`, `notice_target`, `delivery`,
//! `consumer` and `high_water_mark`. Decides nothing about runs (the operator does), knows nothing of
//! Kafka or SMTP (the worker does) and decrypts nothing.
//!
//! The outcome of a run's target is stored in `notice_target` only, the state of a bill's delivery
//! in `delivery` only. A delivery is changed by the consumer that holds its lease, and every change
//! is guarded by state, holder and attempt; the functions return which changes were made. Leases
//! are measured by the database's clock.
//!
//! A target stores how many attempts its bill had when the run selected it. Once another run has
//! made one more attempt, the target is never sent. So a message that arrives late, twice or from a
//! replay sends nothing again.

mod begin_run;
mod claim_deliveries;
mod consumers;
mod corrected_bills;
mod delivery;
mod earlier_run;
mod email_inputs;
mod end_run;
mod expire_leases;
mod held_claims;
mod high_water_mark;
mod lookup_pool;
mod month_totals;
mod notification_error;
mod notification_state;
mod observe;
mod publish_rounds;
mod record_outcomes;
mod run;
mod run_lock;
mod run_settings;
mod select_targets;
mod send_rate;
mod target_counts;

pub use sqlx::types::Uuid;

pub use self::begin_run::{BeginRequest, BeginResult, Rejection, begin_run};
pub use self::claim_deliveries::{ClaimResult, claim_deliveries};
pub use self::consumers::{
    ConsumerId, ConsumerSeen, delete_stale_consumers, deregister_consumer, record_heartbeat,
    register_consumer,
};
pub use self::corrected_bills::CorrectedBill;
pub use self::delivery::{BillKey, ClaimedDelivery, GrantedClaim, Outcome, reasons};
pub use self::earlier_run::{EarlierRun, find_earlier_run};
pub use self::email_inputs::{
    BillForEmail, BillForEmailItem, TemplateSet, read_bills_for_email, read_price_book, read_templates,
};
pub use self::end_run::{cancel_run, fail_run, finish_run};
pub use self::expire_leases::{ExpiredLeases, end_expired_leases};
pub use self::held_claims::{Postponement, postpone_deliveries, release_claims, renew_leases};
pub use self::high_water_mark::{
    HighWaterMark, MarkedMonth, advance_high_water_mark, read_high_water_mark, read_marked_months,
    suspend_month,
};
pub use self::lookup_pool::connect_for_lookups;
pub use self::month_totals::{MonthTotals, TargetTotals, read_totals};
pub use self::notification_error::NotificationError;
pub use self::notification_state::NotificationState;
pub use self::observe::{Snapshot, UnfinishedRun, any_run_sends, observe, read_unfinished_runs};
pub use self::publish_rounds::{
    Publication, close_round, open_round, read_open_targets, read_publication, record_waiting,
    save_checkpoint, try_lock_publisher,
};
pub use self::record_outcomes::{
    DeliveryOutcome, HandOverResult, hand_over_and_record, record_rehearsal_outcomes,
};
pub use self::run::{NotificationId, RunFacts, Scope, Selection, read_latest_runs, read_run};
pub use self::run_settings::update_settings;
pub use self::select_targets::{SelectionResult, select_targets};
pub use self::send_rate::{SendSlots, reserve_send_slots};
pub use self::target_counts::NotificationCounts;
