//! What all kinds have in common: the reconcile loop, the status and the Events; and what all kinds
//! of run have in common besides: the lifecycle and the worker Jobs. A kind implements [`Kind`];
//! nothing here knows what an object is for.
//!
//! [`Kind`]: kind::Kind

pub(crate) mod blocked;
pub(crate) mod cluster_reader;
pub(crate) mod config_map_text;
pub(crate) mod database_view;
pub(crate) mod decision;
pub(crate) mod events;
pub(crate) mod kind;
pub(crate) mod lifecycle;
pub(crate) mod no_progress;
pub(crate) mod progress;
pub(crate) mod run_identity;
pub(crate) mod run_kind;
pub(crate) mod run_loop;
pub(crate) mod status_builder;
mod watch;
pub(crate) mod worker_job;

pub(crate) use self::run_loop::{Context, publish};
pub(crate) use self::watch::{CONCURRENT_RECONCILES, run};
