//! The decisions, with a clock that the tests move, and without a cluster or a database.

mod apply;
mod decisions;
mod emails;
mod firings;
mod properties;

use std::collections::BTreeMap;

use api::BillingSchedule;
use api::conditions::find;
use api::notification_run::Select;
use api::reconciled::Reconciled as _;
use domain::month::BillingMonth;
use domain::zone::Zone;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use store::installation::{Installation, Locale};
use store::schedule::MonthRecord;

use super::action::{Action, RunKindName, ScheduleDecision, run_name};
use super::decide::decide;
use super::observed::{Asked, DatabaseView, ExistingRun, Observed, RunState};
use crate::controller::decision::Next;

const UID: &str = "6f2a1c9e-1111-4222-8333-444455556666";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn month(text: &str) -> BillingMonth {
    text.parse().unwrap()
}

/// A cluster and a database with one schedule, whose runs end when the test says so.
struct World {
    now: Timestamp,
    zone: Zone,
    schedule: BillingSchedule,
    billing: Vec<ExistingRun>,
    notification: Vec<ExistingRun>,
    months: BTreeMap<BillingMonth, MonthRecord>,
    /// What was created, in order.
    billed: Vec<BillingMonth>,
    notified: Vec<BillingMonth>,
    deleted: Vec<String>,
}

impl World {
    /// A schedule that is created at this time.
    fn new(zone: &str, created: &str) -> Self {
        let spec = json!({"billing": {"priceBookRef": {"name": "book"}}});
        let mut schedule = BillingSchedule::new("close", serde_json::from_value(spec).unwrap());
        schedule.metadata.uid = Some(UID.to_owned());
        schedule.metadata.namespace = Some("billing".to_owned());
        schedule.metadata.creation_timestamp = Some(Time(time(created)));
        Self {
            now: time(created),
            zone: Zone::named(zone).unwrap(),
            schedule,
            billing: Vec::new(),
            notification: Vec::new(),
            months: BTreeMap::new(),
            billed: Vec::new(),
            notified: Vec::new(),
            deleted: Vec::new(),
        }
    }

    fn with_notification(mut self) -> Self {
        self.schedule.spec.notification = Some(serde_json::from_value(json!({})).unwrap());
        self
    }

    fn catching_up(mut self, months: i32) -> Self {
        self.schedule.spec.catch_up_months = months;
        self
    }

    fn observed(&self) -> Observed {
        let of_schedule = self.months.values().filter(|record| record.by_schedule);
        let database = DatabaseView {
            now: self.now,
            installation: Installation {
                zone: self.zone.clone(),
                currency: "KRW".parse().unwrap(),
                locale: Locale::KO,
            },
            months: self.months.clone(),
            last_month: of_schedule.map(|record| record.month).max(),
        };
        Observed {
            now: self.now,
            database: Ok(database),
            billing: self.billing.clone(),
            notification: self.notification.clone(),
        }
    }

    fn decide(&self) -> ScheduleDecision {
        decide(&self.schedule, &self.observed())
    }

    /// Takes an action as the API server does: a name exists once.
    fn apply(&mut self, action: Action) {
        match action {
            Action::Create { kind, month } => {
                let (runs, created) = match kind {
                    RunKindName::Billing => (&mut self.billing, &mut self.billed),
                    RunKindName::Notification => (&mut self.notification, &mut self.notified),
                };
                let name = run_name("close", month);
                if runs.iter().all(|run| run.name != name) {
                    created.push(month);
                    let asked = (kind == RunKindName::Notification).then_some(EVERYTHING);
                    runs.push(ExistingRun {
                        uid: format!("{name}-uid"),
                        owner: Some(UID.to_owned()),
                        asked,
                        ..run(&name, month, self.now, RunState::Working)
                    });
                }
            }
            Action::Delete { kind, name, uid } => {
                let runs = match kind {
                    RunKindName::Billing => &mut self.billing,
                    RunKindName::Notification => &mut self.notification,
                };
                runs.retain(|run| run.name != name || run.uid != uid);
                self.deleted.push(name);
            }
        }
    }

    /// One pass of the loop. Returns whether an action was taken.
    fn pass(&mut self) -> bool {
        let decision = self.decide();
        self.schedule.status = Some(decision.status);
        match decision.next {
            Next::Apply(action) => {
                self.apply(action);
                true
            }
            _ => false,
        }
    }

    /// Reconciles, and ends the runs as they come, until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..200 {
            let acted = self.pass();
            if !self.end_runs() && !acted {
                return;
            }
        }
        panic!("the schedule does not come to rest");
    }

    fn settle_at(&mut self, now: &str) {
        self.now = time(now);
        self.settle();
    }

    /// Ends the runs that work. Returns whether there was one.
    fn end_runs(&mut self) -> bool {
        let mut ended = false;
        for run in self.billing.iter_mut().filter(|run| run.state == RunState::Working) {
            run.state = RunState::Succeeded;
            let month = run.month.unwrap();
            self.months.insert(month, MonthRecord { issued_at: Some(self.now), ..issued(month) });
            ended = true;
        }
        for run in self.notification.iter_mut().filter(|run| run.state == RunState::Working) {
            run.state = RunState::Succeeded;
            self.months.get_mut(&run.month.unwrap()).unwrap().notified = true;
            ended = true;
        }
        ended
    }

    /// Status, reason and message of a condition of the last status.
    fn condition(&self, type_: &str) -> Option<(String, String, String)> {
        let found = find(self.schedule.conditions(), type_)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    }

    fn assert_stalled(&self, message: &str) {
        let stalled = self.condition("Stalled").expect("the schedule is stalled");
        assert_eq!((stalled.0.as_str(), stalled.1.as_str()), ("True", "MonthsMissed"));
        assert!(stalled.2.starts_with(message), "{}", stalled.2);
        assert_eq!(self.condition("Ready").unwrap().0, "False");
    }
}

/// The e-mails of all members that got none.
const EVERYTHING: Asked = Asked { select: Select::Ready, scope: None, rehearsal: false };

/// A run that nobody owns.
fn run(name: &str, month: BillingMonth, created: Timestamp, state: RunState) -> ExistingRun {
    ExistingRun {
        name: name.to_owned(),
        uid: "x".to_owned(),
        owner: None,
        month: Some(month),
        state,
        created,
        asked: None,
        deleting: false,
    }
}

/// A month that the schedule's run has billed.
fn issued(month: BillingMonth) -> MonthRecord {
    MonthRecord {
        month,
        live: true,
        rolled_back: false,
        draft: false,
        by_schedule: true,
        issued_at: None,
        notified: false,
    }
}

fn months(texts: &[&str]) -> Vec<BillingMonth> {
    texts.iter().map(|text| month(text)).collect()
}
