//! A run as its row of `notification` describes it: identity, selection, scope, state.

use domain::ids::MemberId;
use domain::month::BillingMonth;
use sqlx::PgConnection;
use sqlx::types::Uuid;

use super::notification_error::NotificationError;
use super::notification_state::NotificationState;
use crate::decode::read_month;
use crate::error::{During as _, StoreError};

/// The id of a run that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotificationId(pub i64);

/// Which bills a run delivers, by the state of their delivery. What the email says does not depend
/// on it: it is a correction if another amount was sent to the member before, and nothing is sent
/// if the same amount was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Not attempted yet, and certainly nothing was sent to the member for another revision of the
    /// month.
    Ready,
    Failed,
    Unknown,
    /// Not attempted yet, and another amount was sent to the member for another revision of the
    /// month, or may have been.
    Corrected,
    /// Skipped because the member had no address, and has one now.
    Skipped,
}

impl Selection {
    pub const ALL: [Self; 5] = [Self::Ready, Self::Failed, Self::Unknown, Self::Corrected, Self::Skipped];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::Failed => "FAILED",
            Self::Unknown => "UNKNOWN",
            Self::Corrected => "CORRECTED",
            Self::Skipped => "SKIPPED",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        Self::ALL
            .into_iter()
            .find(|selection| selection.as_str() == text)
            .ok_or_else(|| StoreError::unreadable("notification.selection", text))
    }
}

/// Whose bills a run delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    Everyone,
    /// Both ends inclusive.
    Range {
        from: MemberId,
        to: MemberId,
    },
    Members(Vec<MemberId>),
}

/// One row of `notification`: what publishers and consumers need to know of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    pub id: NotificationId,
    /// `NAMESPACE/NAME`.
    pub run: String,
    pub month: BillingMonth,
    pub selection: Selection,
    pub rehearsal: bool,
    /// Bills of 0 are skipped.
    pub skip_zero: bool,
    pub state: NotificationState,
    /// Every target is written; none is added later.
    pub selected: bool,
    pub targets: i64,
    /// The number of the latest publication; 0 before the first.
    pub round: i32,
    /// The SHA-256 of its templates, in hexadecimal.
    pub templates: String,
    pub max_per_second: Option<i32>,
}

/// The columns of `notification` as they are stored.
struct FactsRow {
    id: i64,
    run: String,
    month: String,
    selection: String,
    rehearsal: bool,
    skip_zero: bool,
    state: String,
    selected: bool,
    targets: i64,
    round: i32,
    templates: String,
    max_per_second: Option<i32>,
}

impl TryFrom<FactsRow> for RunFacts {
    type Error = StoreError;

    fn try_from(row: FactsRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: NotificationId(row.id),
            run: row.run,
            month: read_month("notification.month", &row.month)?,
            selection: Selection::parse(&row.selection)?,
            rehearsal: row.rehearsal,
            skip_zero: row.skip_zero,
            state: NotificationState::parse(&row.state)?,
            selected: row.selected,
            targets: row.targets,
            round: row.round,
            templates: row.templates,
            max_per_second: row.max_per_second,
        })
    }
}

/// Reads the run with this uid.
///
/// # Errors
/// When the run has not begun, or the database fails or holds what this version cannot read.
pub async fn read_run(connection: &mut PgConnection, run_uid: Uuid) -> Result<RunFacts, NotificationError> {
    find_run(connection, run_uid)
        .await?
        .ok_or_else(|| NotificationError::NoSuchRun(format!("of run {run_uid}")))
}

/// Reads the run with this uid; none when it has not begun.
pub(super) async fn find_run(
    connection: &mut PgConnection,
    run_uid: Uuid,
) -> Result<Option<RunFacts>, NotificationError> {
    let row = sqlx::query_as!(
        FactsRow,
        "select id, run, month, selection, rehearsal, skip_zero, state, selected, targets, round, templates,
                max_per_second
         from notification where run_uid = $1",
        run_uid
    )
    .fetch_optional(connection)
    .await
    .during("cannot read the run's notification")?;
    Ok(row.map(RunFacts::try_from).transpose()?)
}

/// Reads the latest run of each of these names; a name that no run has is left out.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_latest_runs(
    connection: &mut PgConnection,
    names: &[String],
) -> Result<Vec<RunFacts>, NotificationError> {
    sqlx::query_as!(
        FactsRow,
        "select distinct on (run) id, run, month, selection, rehearsal, skip_zero, state, selected, targets, round,
                templates, max_per_second
         from notification where run = any($1) order by run, id desc",
        names
    )
    .fetch_all(connection)
    .await
    .during("cannot read the runs that messages belong to")?
    .into_iter()
    .map(|row| RunFacts::try_from(row).map_err(NotificationError::from))
    .collect()
}
