//! The actions on notification runs that a decision can name.

use std::fmt;

use api::NotificationRunStatus;
use domain::month::BillingMonth;
use store::notification::{NotificationId, Scope, Selection, TemplateSet};

use crate::controller::decision::Decision;
use crate::controller::worker_job::JobAction;
use crate::restore_hold::Release;

pub(super) type NotificationDecision = Decision<NotificationRunStatus, Action>;

#[derive(Clone, PartialEq)]
pub(crate) enum Action {
    /// Record the run in the database.
    Begin(Box<BeginPlan>),
    Job(JobAction),
    /// Let the month's e-mails go, which were held as the database was restored.
    Release(Release),
    /// Record the changeable fields of the run's spec in the database.
    Adjust {
        id: NotificationId,
        suspended: bool,
        max_per_second: Option<i32>,
    },
    /// Publish the open targets once more.
    OpenRound {
        id: NotificationId,
        after: i32,
    },
    Finish(NotificationId),
    /// End the run without sending more. Repeated until no bill waits for the mail server's answer.
    Cancel {
        id: NotificationId,
        reason: String,
    },
    /// End the run as failed. Repeated as [`Action::Cancel`] is.
    Fail {
        id: NotificationId,
        reason: String,
    },
}

/// What a run begins with.
#[derive(Clone, PartialEq)]
pub(crate) struct BeginPlan {
    pub(super) month: BillingMonth,
    pub(super) selection: Selection,
    pub(super) scope: Scope,
    pub(super) templates: TemplateSet,
}

impl fmt::Debug for Action {
    /// One line for the log, instead of a set of templates.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(plan) => write!(f, "Begin(month {}, {})", plan.month, plan.selection.as_str()),
            Self::Job(action) => action.fmt(f),
            Self::Release(release) => write!(f, "Release(month {})", release.month),
            Self::Adjust { suspended, max_per_second, .. } => {
                let rate = max_per_second.map_or_else(|| "none".to_owned(), |rate| rate.to_string());
                write!(f, "Adjust(suspended {suspended}, max per second {rate})")
            }
            Self::OpenRound { after, .. } => write!(f, "OpenRound(after {after})"),
            Self::Finish(_) => f.write_str("Finish"),
            Self::Cancel { reason, .. } => write!(f, "Cancel({reason})"),
            Self::Fail { reason, .. } => write!(f, "Fail({reason})"),
        }
    }
}
