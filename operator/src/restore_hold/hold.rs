//! Whether the e-mails of a month are held, and what releases them. Pure.

use api::conditions::ConditionUpdate;
use api::labels::{HIGH_WATER_MARKS, SEND_AFTER_RESTORE};
use api::{NotificationRun, reasons};
use domain::month::BillingMonth;
use jiff::Timestamp;
use kube::ResourceExt as _;
use store::notification::HighWaterMark;

/// How a month's mark in the cluster compares with the one in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// Both have the same, or none has any.
    Equal,
    /// The cluster has none, or the one before this one of the database.
    Copy(Timestamp),
    /// The database does not have the cluster's.
    Lost,
}

pub(super) fn compare(cluster: Option<Timestamp>, database: Option<HighWaterMark>) -> Comparison {
    match (cluster, database) {
        (None, None) => Comparison::Equal,
        (None, Some(database)) => Comparison::Copy(database.mark),
        (Some(cluster), Some(database)) if cluster == database.mark => Comparison::Equal,
        (Some(cluster), Some(database)) if Some(cluster) == database.before => {
            Comparison::Copy(database.mark)
        }
        (Some(_), _) => Comparison::Lost,
    }
}

/// Why nothing of a month is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The database was restored from before the cluster's mark.
    Restored(Release),
    /// Whether it was cannot be told, for this reason.
    Unusable(String),
}

/// The marks that a release replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) month: BillingMonth,
    pub(super) cluster: Timestamp,
    pub(super) database: Option<Timestamp>,
}

impl Hold {
    pub(crate) fn of(
        month: BillingMonth,
        cluster: Result<Option<Timestamp>, String>,
        database: Option<HighWaterMark>,
    ) -> Option<Self> {
        let cluster = match cluster {
            Ok(cluster) => cluster,
            Err(problem) => return Some(Self::Unusable(problem)),
        };
        match (compare(cluster, database), cluster) {
            (Comparison::Lost, Some(cluster)) => {
                let database = database.map(|database| database.mark);
                Some(Self::Restored(Release { month, cluster, database }))
            }
            _ => None,
        }
    }

    /// What a person has released with an annotation of the run. The annotation names the mark, so
    /// that it releases nothing after another restore.
    pub(crate) fn released_by(&self, run: &NotificationRun) -> Option<Release> {
        match self {
            Self::Restored(release) => {
                let named = run.annotations().get(SEND_AFTER_RESTORE)?;
                (named.trim() == release.cluster.to_string()).then_some(*release)
            }
            Self::Unusable(_) => None,
        }
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Restored(_) => reasons::DATABASE_RESTORED,
            Self::Unusable(_) => reasons::MARKS_UNUSABLE,
        }
    }

    pub(crate) fn message(&self, run: &NotificationRun) -> String {
        let Release { month, cluster, database } = match self {
            Self::Restored(release) => release,
            Self::Unusable(problem) => return problem.clone(),
        };
        let since = database.map_or_else(
            || format!("anything that was billed or sent of {month} up to {cluster}"),
            |database| format!("what was billed or sent of {month} from {database} to {cluster}"),
        );
        let namespace = run.namespace().unwrap_or_default();
        format!(
            "the database does not have {since}: it was restored from before that, or it is another database. Find out to whom \
             e-mails were sent since then, and record it with record_sent, so that nobody gets one twice (docs/run-books.md, \
             Restore from a backup). Then release the runs of the month: kubectl -n {namespace} annotate --overwrite nrun {} \
             {SEND_AFTER_RESTORE}={cluster}",
            run.name_any()
        )
    }

    pub(crate) fn condition(&self, type_: &'static str, run: &NotificationRun) -> ConditionUpdate {
        ConditionUpdate::new(type_, false, self.reason(), self.message(run))
    }
}

/// The mark of a month among the entries of the ConfigMap.
pub(super) fn mark_of(entry: Option<&str>, month: BillingMonth) -> Result<Option<Timestamp>, String> {
    let invalid = |error| {
        format!(
            "ConfigMap {HIGH_WATER_MARKS}: the entry {month} is not a time: {error}; restore its earlier value. Without the \
             entry, a restored database is not recognised"
        )
    };
    entry.map(|text| text.trim().parse().map_err(invalid)).transpose()
}
