//! What a schedule does next: the month whose run to create, the finished run to delete, the status,
//! and when to look again. Pure.

use std::time::Duration;

use api::conditions::{ConditionUpdate, PROGRESSING, SUSPENDED};
use api::{BillingSchedule, BillingScheduleStatus, reasons};
use domain::month::BillingMonth;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::action::{Action, RunKindName, ScheduleDecision, run_name};
use super::cron::Firings;
use super::emails;
use super::months::{DueMonth, MonthState, Months};
use super::observed::{DatabaseView, ExistingRun, Observed, RunState};
use crate::controller::decision::{Decision, Next};
use crate::controller::status_builder::{StatusBuilder, whole_second};

/// The database's clock is not this machine's, so it is asked again before the next time.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Bills that were issued earlier are e-mailed only if their month can still be caught up on: a
/// notification that is added to a schedule must not e-mail the bills of a year.
const RECENTLY_ISSUED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A condition names so many months.
const LONGEST_LIST: usize = 6;
const NOT_BILLED_AGAIN: &str =
    "the schedule does not bill them by itself: bill each with a BillingRun of another name";
const NOT_SENT_AGAIN: &str = "the schedule does not send them by itself";

pub(super) fn decide(schedule: &BillingSchedule, observed: &Observed) -> ScheduleDecision {
    // Its runs are deleted by the garbage collector.
    if schedule.metadata.deletion_timestamp.is_some() {
        return Decision { status: schedule.status.clone().unwrap_or_default(), next: Next::AwaitChange };
    }
    let database = match &observed.database {
        Ok(database) => database,
        Err(problem) => return unavailable(schedule, observed, problem),
    };
    match Firings::new(&schedule.spec.schedule, &database.installation.zone, database.now) {
        Ok(firings) => Deciding::new(schedule, observed, database, &firings).decide(),
        Err(problem) => {
            let status = BillingScheduleStatus { next_time: None, ..last_status(schedule, observed) };
            let status = StatusBuilder::new(schedule, observed.now, status)
                .condition(progressing(false, reasons::SCHEDULE_INVALID, problem))
                .build();
            Decision { status, next: Next::AwaitChange }
        }
    }
}

fn unavailable(schedule: &BillingSchedule, observed: &Observed, problem: &str) -> ScheduleDecision {
    let message = format!("{problem}; the schedule goes on as soon as the database answers");
    let builder =
        StatusBuilder::new(schedule, observed.now, last_status(schedule, observed)).keep(&[SUSPENDED]);
    let status = builder.condition(progressing(false, reasons::DATABASE_UNAVAILABLE, message)).build();
    Decision { status, next: Next::BackOff }
}

/// The condition from which those of kstatus follow.
fn progressing(status: bool, reason: &'static str, message: impl Into<String>) -> ConditionUpdate {
    ConditionUpdate::new(PROGRESSING, status, reason, message)
}

/// The last status with the runs that are unfinished now.
fn last_status(schedule: &BillingSchedule, observed: &Observed) -> BillingScheduleStatus {
    let own = |run: &&ExistingRun| run.owner == schedule.metadata.uid && !run.state.is_finished();
    let names = |kind: &str, runs: &[ExistingRun]| -> Vec<String> {
        runs.iter().filter(own).map(|run| format!("{kind}/{}", run.name)).collect()
    };
    let mut active = names("BillingRun", &observed.billing);
    active.extend(names("NotificationRun", &observed.notification));
    active.sort();
    BillingScheduleStatus { active, ..schedule.status.clone().unwrap_or_default() }
}

struct Deciding<'a> {
    schedule: &'a BillingSchedule,
    observed: &'a Observed,
    database: &'a DatabaseView,
    due: Vec<DueMonth>,
    last_made: Option<BillingMonth>,
    next_time: Option<Timestamp>,
    next_month: Option<BillingMonth>,
}

impl<'a> Deciding<'a> {
    fn new(
        schedule: &'a BillingSchedule,
        observed: &'a Observed,
        database: &'a DatabaseView,
        firings: &Firings<'_>,
    ) -> Self {
        let status = schedule.status.as_ref();
        let name = schedule.name_any();
        let months = Months {
            schedule: &name,
            uid: schedule.metadata.uid.as_deref().unwrap_or_default(),
            created: schedule.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |at| at.0),
            catch_up: usize::try_from(schedule.spec.catch_up_months).unwrap_or(0),
            last_month: status.and_then(|status| status.last_month.as_ref()?.parse().ok()),
            database,
            runs: &observed.billing,
        };
        let next_time = firings.after(database.now);
        Self {
            schedule,
            observed,
            database,
            due: months.due(firings),
            last_made: months.last_made(),
            next_time,
            next_month: next_time.and_then(|at| firings.billed_at(at)),
        }
    }

    fn decide(&self) -> ScheduleDecision {
        let action = self.month_to_bill().map(|month| create(RunKindName::Billing, month));
        let action = action
            .or_else(|| self.month_to_notify().map(|month| create(RunKindName::Notification, month)))
            .or_else(|| self.run_to_delete());
        let next = match (action, self.next_time) {
            (Some(action), _) => Next::Apply(action),
            (None, Some(at)) if !self.schedule.spec.suspend => {
                let left = Duration::try_from(at.duration_since(self.database.now)).unwrap_or_default();
                Next::RequeueAfter(left.clamp(Duration::from_secs(1), LONGEST_WAIT))
            }
            _ => Next::RequeueAfter(LONGEST_WAIT),
        };
        Decision { status: self.status(), next }
    }

    /// The oldest month that is open. A later month waits while the run of an earlier one works, as
    /// limits compare a month with the month before.
    fn month_to_bill(&self) -> Option<BillingMonth> {
        if self.schedule.spec.suspend {
            return None;
        }
        let in_window = self.due.iter().filter(|due| due.in_window);
        for due in in_window {
            match due.state {
                MonthState::Working => return None,
                MonthState::Open => return Some(due.month),
                _ => {}
            }
        }
        None
    }

    /// The oldest month whose bills the schedule's run has issued, and for which it has made no
    /// notification.
    fn month_to_notify(&self) -> Option<BillingMonth> {
        self.schedule.spec.notification.as_ref().filter(|_| !self.schedule.spec.suspend)?;
        let to_notify = |due: &&DueMonth| {
            let record = self.database.months.get(&due.month);
            let Some((record, at)) = record.and_then(|record| Some((record, record.issued_at?))) else {
                return false;
            };
            let name = run_name(&self.schedule.name_any(), due.month);
            !record.notified
                && self.still_notifies(due, at)
                && !self.observed.notification.iter().any(|run| run.name == name)
        };
        self.due.iter().find(to_notify).map(|due| due.month)
    }

    /// A finished run of the schedule beyond the history limits, the oldest month first.
    fn run_to_delete(&self) -> Option<Action> {
        let limits = self.schedule.spec.history_limits;
        let kinds = [
            (RunKindName::Billing, &self.observed.billing),
            (RunKindName::Notification, &self.observed.notification),
        ];
        for (kind, runs) in kinds {
            for (failed, kept) in [(false, limits.succeeded), (true, limits.failed)] {
                let of_group =
                    |state: RunState| if failed { state == RunState::Failed } else { state.has_result() };
                let mut finished: Vec<&ExistingRun> = runs
                    .iter()
                    .filter(|run| run.owner == self.schedule.metadata.uid && of_group(run.state))
                    .collect();
                finished.sort_by(|a, b| (a.month, &a.name).cmp(&(b.month, &b.name)));
                let beyond = finished.len().saturating_sub(usize::try_from(kept).unwrap_or(0));
                if let Some(run) = finished.into_iter().take(beyond).find(|run| !run.deleting) {
                    return Some(Action::Delete { kind, name: run.name.clone(), uid: run.uid.clone() });
                }
            }
        }
        None
    }

    fn status(&self) -> BillingScheduleStatus {
        let suspended = self.schedule.spec.suspend;
        let status = BillingScheduleStatus {
            last_month: self.last_made.map(|month| month.to_string()),
            next_time: self.next_time.filter(|_| !suspended).map(whole_second),
            ..last_status(self.schedule, self.observed)
        };
        let mut builder = StatusBuilder::new(self.schedule, self.observed.now, status);
        let paused = "no run is created; set spec.suspend to false to resume the schedule";
        if suspended {
            builder = builder.condition(ConditionUpdate::new(SUSPENDED, true, reasons::SUSPENDED, paused));
        }
        let missed: Vec<String> = self.due.iter().filter_map(|due| self.problem(due)).collect();
        let missed = list(&missed, NOT_BILLED_AGAIN);
        let unsent = list(&self.unsent(), NOT_SENT_AGAIN);
        let state = if let Some(missed) = missed {
            let both: Vec<String> = [Some(missed), unsent].into_iter().flatten().collect();
            progressing(false, reasons::MONTHS_MISSED, both.join(". "))
        } else if let Some(unsent) = unsent {
            progressing(false, reasons::NOTIFICATION_FAILED, unsent)
        } else if suspended {
            progressing(false, reasons::SUSPENDED, paused)
        } else {
            let month = self.next_month.map_or_else(|| "no month".to_owned(), |month| month.to_string());
            progressing(true, reasons::SCHEDULED, format!("the next run bills {month}"))
        };
        builder.condition(state).build()
    }

    /// Why a due month is not billed, and will not be.
    fn problem(&self, due: &DueMonth) -> Option<String> {
        let month = due.month;
        match &due.state {
            MonthState::Live | MonthState::Working | MonthState::Waiting => None,
            MonthState::Open if due.in_window => None,
            MonthState::Open | MonthState::Deleted => Some(format!("{month} is not billed and has no run")),
            MonthState::Failed(run) => Some(format!("{month} is not billed: see BillingRun {run}")),
            MonthState::RolledBack => Some(format!("{month} was rolled back")),
        }
    }

    /// Why live months are not e-mailed, and will not be.
    fn unsent(&self) -> Vec<String> {
        let name = self.schedule.name_any();
        let live = || self.due.iter().filter(|due| due.state == MonthState::Live);
        let notified = |month| self.database.months.get(&month).is_some_and(|record| record.notified);
        // Whether bills from before the first e-mails were meant to be sent, nothing says.
        let first = live().find(|due| notified(due.month)).map(|due| due.month);
        live()
            .filter_map(|due| {
                let month = due.month;
                let runs = emails::of_month(&self.observed.notification, month);
                let own = runs.iter().find(|run| run.name == run_name(&name, month));
                match own {
                    Some(own) => emails::problem(own, &runs),
                    None if first.is_some_and(|first| first < month) && self.is_too_late(due) => {
                        emails::missing(month, &runs)
                    }
                    None => None,
                }
            })
            .collect()
    }

    /// Whether the schedule's own run has issued the bills so long ago that it no longer makes the
    /// notification that they are without.
    fn is_too_late(&self, due: &DueMonth) -> bool {
        let record = self.database.months.get(&due.month);
        let Some((record, issued)) = record.and_then(|record| Some((record, record.issued_at?))) else {
            return false;
        };
        self.schedule.spec.notification.is_some() && !record.notified && !self.still_notifies(due, issued)
    }

    /// Whether it is not too late for the notification of bills that were issued at this time.
    fn still_notifies(&self, due: &DueMonth, issued: Timestamp) -> bool {
        due.in_window || self.database.now.duration_since(issued) <= RECENTLY_ISSUED
    }
}

/// The latest months first, and what the schedule does not do about them. None without any.
fn list(months: &[String], not_done: &str) -> Option<String> {
    let latest: Vec<&str> = months.iter().rev().take(LONGEST_LIST).map(String::as_str).collect();
    let more = match months.len().saturating_sub(LONGEST_LIST) {
        0 => String::new(),
        more => format!("; and {more} earlier months"),
    };
    (!latest.is_empty()).then(|| format!("{}{more}; {not_done}", latest.join("; ")))
}

fn create(kind: RunKindName, month: BillingMonth) -> Action {
    Action::Create { kind, month }
}
