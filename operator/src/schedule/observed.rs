//! What a decision about a schedule is made of.

use std::collections::BTreeMap;

use api::notification_run::{NotificationScope, Select};
use domain::month::BillingMonth;
use jiff::Timestamp;
use store::installation::Installation;
use store::schedule::MonthRecord;

pub(crate) struct Observed {
    /// The operator's clock, for conditions.
    pub(super) now: Timestamp,
    /// The error says why the database cannot be read.
    pub(super) database: Result<DatabaseView, String>,
    pub(super) billing: Vec<ExistingRun>,
    pub(super) notification: Vec<ExistingRun>,
}

pub(crate) struct DatabaseView {
    /// The database's clock, which decides what is due.
    pub(super) now: Timestamp,
    pub(super) installation: Installation,
    pub(super) months: BTreeMap<BillingMonth, MonthRecord>,
    /// The last month that a run of the schedule's name has begun to bill, at any time.
    pub(super) last_month: Option<BillingMonth>,
}

/// A run of the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExistingRun {
    pub(super) name: String,
    pub(super) uid: String,
    /// The uid of its controller.
    pub(super) owner: Option<String>,
    /// None: it bills no month, as it is a rollback or invalid.
    pub(super) month: Option<BillingMonth>,
    pub(super) state: RunState,
    pub(super) created: Timestamp,
    /// What a notification run was asked to send; None: the run does nothing of the kind.
    pub(super) asked: Option<Asked>,
    pub(super) deleting: bool,
}

/// Which e-mails a notification run is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(super) select: Select,
    /// None: all members.
    pub(super) scope: Option<NotificationScope>,
    pub(super) rehearsal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    /// It works, or was just created.
    Working,
    /// It waits for a person or for something that is missing.
    Waiting,
    Succeeded,
    /// It ended with e-mails that failed or whose outcome is unknown.
    Partly,
    /// It failed or was rejected.
    Failed,
}

impl RunState {
    pub(super) fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Partly | Self::Failed)
    }

    /// Whether it ended with a result, as the history limits count it.
    pub(super) fn has_result(self) -> bool {
        matches!(self, Self::Succeeded | Self::Partly)
    }
}
