//! Everything that a decision about a billing run is made of.

use jiff::Timestamp;
use store::billing::{EarlierRun, Rejection, Rollback, RunSnapshot};

use crate::controller::database_view::DatabaseView;
use crate::controller::worker_job::{JobLookup, JobSettings, JobState, Workers};

#[derive(Debug, Clone)]
pub(crate) struct Observed {
    /// This machine's clock. Whether a month is over goes by the database's.
    pub(super) now: Timestamp,
    /// The error says why the database cannot be read.
    pub(super) database: Result<DatabaseView<RunRecord>, String>,
    /// Read only until the run has begun. None if the run needs no price book.
    pub(super) price_book: Option<PriceBookLookup>,
    pub(super) job: JobLookup,
    /// The Jobs that were created for the run, also those that it no longer owns; read only while the
    /// run is being deleted.
    pub(super) jobs_left: Vec<JobState>,
    /// The number of the run's pods that are left; counted only while the run is being deleted.
    pub(super) pods_left: usize,
    /// What the worker pods say; read only while no member gets billed.
    pub(super) workers: Workers,
    /// Who holds the locks that the database's sessions wait for; read only once nothing was done for
    /// a while.
    pub(super) lock_waits: Option<String>,
    /// What an earlier run of this name has done; read only until the run has begun.
    pub(super) earlier: Option<EarlierRun>,
    /// Why the attempt to begin, which was the last action, was rejected.
    pub(super) rejection: Option<Rejection>,
    pub(super) job_settings: JobSettings,
}

/// What the database has of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunRecord {
    /// The revision that the run bills.
    Revision(Box<RunSnapshot>),
    /// What the run has rolled back.
    Rollback(Rollback),
}

impl RunRecord {
    /// The database's clock when this was read.
    pub(super) fn now(&self) -> Timestamp {
        match self {
            Self::Revision(revision) => revision.now,
            Self::Rollback(rollback) => rollback.now,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PriceBookLookup {
    /// The text says what is missing and how to create it.
    Missing(String),
    Found(String),
}
