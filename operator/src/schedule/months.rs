//! The months of a schedule: which are due, and how each of them stands. Pure.

use std::collections::BTreeMap;

use domain::month::BillingMonth;
use jiff::{SignedDuration, Timestamp};
use store::schedule::MonthRecord;

use super::action::run_name;
use super::cron::Firings;
use super::observed::{DatabaseView, ExistingRun, RunState};

/// Months that are looked at, counted back from the current one.
pub(super) const LOOK_BACK: usize = 25;
/// With catchUpMonths 0, a month is billed only for this long after its time.
const ON_TIME: SignedDuration = SignedDuration::from_mins(10);

/// A month whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DueMonth {
    pub(super) month: BillingMonth,
    pub(super) state: MonthState,
    /// Whether the schedule still bills it by itself, if nothing else has.
    pub(super) in_window: bool,
}

/// How a due month stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MonthState {
    Live,
    /// A run works on it.
    Working,
    /// A run of it waits for a person, or for something that is missing.
    Waiting,
    /// The schedule's run failed or was rejected.
    Failed(String),
    /// A revision was taken back, and nothing is live.
    RolledBack,
    /// The schedule had a run for it, which was deleted.
    Deleted,
    /// No run was made for it.
    Open,
}

pub(super) struct Months<'a> {
    pub(super) schedule: &'a str,
    pub(super) uid: &'a str,
    pub(super) created: Timestamp,
    pub(super) catch_up: usize,
    /// The last month for which the last status says that a run was made.
    pub(super) last_month: Option<BillingMonth>,
    pub(super) database: &'a DatabaseView,
    pub(super) runs: &'a [ExistingRun],
}

impl Months<'_> {
    /// The months that are due, ascending. A time before the schedule was created does not count,
    /// unless the schedule is one that was lost and came back: then the database has months of it,
    /// and every later month counts.
    pub(super) fn due(&self, firings: &Firings<'_>) -> Vec<DueMonth> {
        let now = self.database.now;
        let mut due: Vec<(BillingMonth, Timestamp)> = look_back(firings, now)
            .filter_map(|month| {
                let came_back = self.database.last_month.is_some_and(|last| month > last);
                let since = if came_back { Timestamp::MIN } else { self.created };
                let at = firings.of_month(month, since)?;
                (at <= now).then_some((month, at))
            })
            .collect();
        due.reverse();
        let first_in_window = due.len().saturating_sub(self.catch_up);
        due.into_iter()
            .enumerate()
            .map(|(index, (month, at))| {
                let on_time = now.duration_since(at) <= ON_TIME;
                DueMonth { month, state: self.state(month), in_window: index >= first_in_window || on_time }
            })
            .collect()
    }

    /// The last month for which the schedule made a run, as far as anything remembers.
    pub(super) fn last_made(&self) -> Option<BillingMonth> {
        let own = self.runs.iter().filter(|run| run.owner.as_deref() == Some(self.uid));
        let by_runs = own.filter_map(|run| run.month).max();
        by_runs.max(self.last_month).max(self.database.last_month)
    }

    fn state(&self, month: BillingMonth) -> MonthState {
        let record = self.database.months.get(&month);
        let is = |of: fn(&MonthRecord) -> bool| record.is_some_and(of);
        if is(|record| record.live) {
            return MonthState::Live;
        }
        let name = run_name(self.schedule, month);
        let named = self.runs.iter().find(|run| run.name == name);
        let others = self.runs.iter().filter(|run| run.month == Some(month) && !run.state.is_finished());
        let states: Vec<RunState> = others.chain(named).map(|run| run.state).collect();
        // The database was read before the runs: a run that has issued its draft in between is seen as
        // succeeded, and its revision as a draft.
        let drafted = is(|record| record.draft) && states.iter().all(|state| *state == RunState::Succeeded);
        if states.contains(&RunState::Working) || drafted {
            MonthState::Working
        } else if states.contains(&RunState::Waiting) {
            MonthState::Waiting
        } else if is(|record| record.rolled_back) {
            MonthState::RolledBack
        } else if named.is_some() {
            MonthState::Failed(name)
        } else if is(|record| record.by_schedule) || self.last_made().is_some_and(|last| month <= last) {
            MonthState::Deleted
        } else {
            MonthState::Open
        }
    }
}

/// The months before the current one, the last one first.
fn look_back(firings: &Firings<'_>, now: Timestamp) -> impl Iterator<Item = BillingMonth> + use<> {
    std::iter::successors(firings.billed_at(now), |month| month.previous()).take(LOOK_BACK)
}

/// The months of the database's records, by month.
pub(super) fn by_month(records: Vec<MonthRecord>) -> BTreeMap<BillingMonth, MonthRecord> {
    records.into_iter().map(|record| (record.month, record)).collect()
}
