//! What all kinds of run have in common: the reconcile loop, the status and the Events, the
//! lifecycle, and the worker Jobs. A kind implements [`RunKind`]; nothing here knows what a run is
//! for.

pub(crate) mod blocked;
pub(crate) mod cluster_reader;
pub(crate) mod database_view;
pub(crate) mod decision;
pub(crate) mod events;
pub(crate) mod lifecycle;
pub(crate) mod no_progress;
pub(crate) mod progress;
pub(crate) mod run_identity;
pub(crate) mod run_kind;
pub(crate) mod run_loop;
pub(crate) mod status_builder;
mod watch;
pub(crate) mod worker_job;

pub(crate) use self::run_loop::Context;
pub(crate) use self::watch::{CONCURRENT_RECONCILES, run};
