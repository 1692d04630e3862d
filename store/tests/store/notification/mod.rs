//! Notification runs: from selecting targets to the end of the run.

mod claim_deliveries;
mod consumers;
mod corrections;
mod corrections_verified;
mod email_inputs;
mod end_run;
mod fixture;
mod hand_over_lock;
mod high_water_mark;
mod month_totals;
mod privileges;
mod publish_rounds;
mod record_outcomes;
mod record_sent;
mod rollback;
mod select_targets;
mod send_rate;
mod storage;
