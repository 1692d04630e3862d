//! What everyone who works for a run needs to know of it.

use domain::month::BillingMonth;
use sqlx::PgConnection;

use super::{NotificationError, NotificationId, NotificationState, Selection, Uuid, read_month};
use crate::error::During as _;

/// What everyone who works for a run needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    pub id: NotificationId,
    /// `NAMESPACE/NAME`.
    pub run: String,
    pub month: BillingMonth,
    pub selection: Selection,
    pub rehearsal: bool,
    pub state: NotificationState,
    /// All targets are written.
    pub selected: bool,
    pub targets: i64,
    /// The number of the current publication; 0: there was none yet.
    pub round: i32,
    /// The digest of its templates.
    pub templates: String,
    pub max_per_second: Option<i32>,
}

/// The columns of `notification` that the facts are in.
struct FactsRow {
    id: i64,
    run: String,
    month: String,
    selection: String,
    rehearsal: bool,
    state: String,
    selected: bool,
    targets: i64,
    round: i32,
    templates: String,
    max_per_second: Option<i32>,
}

impl TryFrom<FactsRow> for RunFacts {
    type Error = NotificationError;

    fn try_from(row: FactsRow) -> Result<Self, NotificationError> {
        Ok(Self {
            id: NotificationId(row.id),
            run: row.run,
            month: read_month(&row.month)?,
            selection: Selection::parse(&row.selection)?,
            rehearsal: row.rehearsal,
            state: NotificationState::parse(&row.state)?,
            selected: row.selected,
            targets: row.targets,
            round: row.round,
            templates: row.templates,
            max_per_second: row.max_per_second,
        })
    }
}

/// The run that this uid is of.
///
/// # Errors
/// When it has not begun, or the database fails.
pub async fn read_run(connection: &mut PgConnection, run_uid: Uuid) -> Result<RunFacts, NotificationError> {
    sqlx::query_as!(
        FactsRow,
        "select id, run, month, selection, rehearsal, state, selected, targets, round, templates, max_per_second
         from notification where run_uid = $1",
        run_uid
    )
    .fetch_optional(connection)
    .await
    .during("cannot read the run's notification")?
    .ok_or_else(|| NotificationError::NoSuchRun(format!("of run {run_uid}")))?
    .try_into()
}

/// The latest run of each of these names; a name that no run has is left out.
///
/// # Errors
/// When the database fails or holds what this version cannot read.
pub async fn read_latest_runs(
    connection: &mut PgConnection,
    names: &[String],
) -> Result<Vec<RunFacts>, NotificationError> {
    sqlx::query_as!(
        FactsRow,
        "select distinct on (run) id, run, month, selection, rehearsal, state, selected, targets, round, templates,
                max_per_second
         from notification where run = any($1) order by run, id desc",
        names
    )
    .fetch_all(connection)
    .await
    .during("cannot read the notifications that messages are of")?
    .into_iter()
    .map(RunFacts::try_from)
    .collect()
}
