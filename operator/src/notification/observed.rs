//! Everything that a decision about a notification run is made of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use store::notification::{EarlierRun, Rejection, Snapshot};

use super::notification_runs::NotificationSettings;
use crate::autoscaling::LagView;
use crate::controller::database_view::DatabaseView;
use crate::controller::worker_job::{JobLookup, JobState, Workers};
use crate::restore_hold::Hold;

#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// This machine's clock, which also dates the lag. Everything else goes by the database's.
    pub(super) now: Timestamp,
    /// The error says why the database cannot be read.
    pub(super) database: Result<DatabaseView<Snapshot>, String>,
    /// Why nothing of the month is sent. None for a rehearsal, which sends nothing.
    pub(super) hold: Option<Hold>,
    /// Read only until the run has begun.
    pub(super) templates: Option<TemplatesLookup>,
    /// The Job of the unfinished work.
    pub(super) job: JobLookup,
    /// The run's other Jobs: those of earlier rounds, and all of them while the run is being
    /// deleted.
    pub(super) other_jobs: Vec<JobState>,
    /// The number of the run's pods that are left; counted only while the run is being deleted.
    pub(super) pods_left: usize,
    /// What the worker pods say; read only while no bill gets an outcome.
    pub(super) workers: Workers,
    /// Why no consumer runs; looked for only while no bill gets an outcome and no consumer is ready.
    pub(super) consumer_problem: Option<String>,
    /// What an earlier run of this name has done; read only until the run has begun.
    pub(super) earlier: Option<EarlierRun>,
    /// The topic's last lag.
    pub(super) lag: Option<LagView>,
    /// Why the attempt to begin, which was the last action, was rejected.
    pub(super) rejection: Option<Rejection>,
    pub(super) settings: NotificationSettings,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TemplatesLookup {
    /// The text says what is missing and how to create it.
    Missing(String),
    Found(BTreeMap<String, String>),
}
