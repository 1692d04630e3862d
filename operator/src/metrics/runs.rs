//! The runs in the cluster: how many are in each phase, suspended or waiting, and how many failed.
//! A run's reasons are a closed set for each kind, so that every series is there from the start.

use api::conditions::{self, FAILED, STARTED};
use api::reconciled::{Reconciled as _, ReconciledStatus as _};
use api::run::{Run, RunPhase, RunSpec as _, RunStatus};
use api::{BillingRun, NotificationRun, reasons};
use kube::core::object::HasStatus;
use prometheus::{IntCounterVec, IntGaugeVec};

use super::registrar::{Made, Registrar};

/// A reason that is not in the lists below, or none yet.
const OTHER: &str = "Other";

/// Why a run of any kind waits to start, by its condition Started.
const WAITS: [&str; 6] = [
    reasons::ACTION_FAILED,
    reasons::ACTION_REFUSED,
    reasons::ACTION_SLOW,
    reasons::DATABASE_UNAVAILABLE,
    reasons::INVALID_SPEC,
    reasons::SUSPENDED,
];
const BILLING_WAITS: [&str; 7] = [
    reasons::MONTH_NOT_OVER,
    reasons::PRICE_BOOK_NOT_FOUND,
    reasons::PRICE_BOOK_INVALID,
    reasons::NO_DATA_LOADED,
    reasons::DATA_CUTOFF_UNKNOWN,
    reasons::INPUTS_INCOMPLETE,
    reasons::MONTH_LOCKED,
];
const NOTIFICATION_WAITS: [&str; 6] = [
    reasons::TEMPLATES_NOT_FOUND,
    reasons::TEMPLATES_INVALID,
    reasons::MONTH_NOT_BILLED,
    reasons::STARTING,
    reasons::DATABASE_RESTORED,
    reasons::MARKS_UNUSABLE,
];

/// Why a run failed, by its condition Failed.
const BILLING_FAILURES: [&str; 6] = [
    reasons::MONTH_ALREADY_BILLED,
    reasons::REVISION_CONFLICT,
    reasons::DIFFERENCES_BILLED,
    reasons::WORKERS_FAILED,
    reasons::VERIFICATION_FAILED,
    reasons::NAME_USED,
];
const NOTIFICATION_FAILURES: [&str; 4] =
    [reasons::WORKERS_FAILED, reasons::CANCELLED, reasons::DELETED, reasons::NAME_USED];

type StatusOf<R> = <R as HasStatus>::Status;

#[derive(Clone)]
pub(super) struct RunMetrics {
    runs: IntGaugeVec,
    suspended: IntGaugeVec,
    waiting: IntGaugeVec,
    failed: IntCounterVec,
}

impl RunMetrics {
    pub(super) fn new(make: &Registrar<'_>) -> Made<Self> {
        let failed = make.counters(
            "monthend_runs_failed_total",
            "Runs that this operator moved to the phase Failed, by the reason of their condition Failed.",
            &["kind", "reason"],
        )?;
        // Every series starts at 0: for Prometheus, a series that appears at 1 has not increased.
        for kind in [BillingRun::KIND, NotificationRun::KIND] {
            for reason in failures(kind) {
                failed.with_label_values(&[kind, reason]);
            }
        }
        Ok(Self {
            runs: make.gauges(
                "monthend_runs",
                "Runs in the cluster by kind and phase.",
                &["kind", "phase"],
            )?,
            suspended: make.gauges(
                "monthend_runs_suspended",
                "Runs in the cluster with spec.suspend, by kind and phase; monthend_runs counts them too.",
                &["kind", "phase"],
            )?,
            waiting: make.gauges(
                "monthend_runs_waiting",
                "Runs in the phase Pending, by the reason of their condition Started.",
                &["kind", "reason"],
            )?,
            failed,
        })
    }

    /// Replaces the counts of runs of a kind.
    pub(super) fn count<'a, R: Run>(&self, runs: impl Iterator<Item = &'a R>) {
        let runs: Vec<(PhaseOf<R>, &R)> = runs.filter_map(|run| Some((run.phase()?, run))).collect();
        let number = |is: &dyn Fn(PhaseOf<R>, &R) -> bool| {
            i64::try_from(runs.iter().filter(|(phase, run)| is(*phase, run)).count()).unwrap_or(i64::MAX)
        };
        for of in <PhaseOf<R> as RunPhase>::ALL {
            let labels = [R::KIND, of.as_str()];
            self.runs.with_label_values(&labels).set(number(&|phase, _| phase == *of));
            let suspended = number(&|phase, run| phase == *of && run.spec().suspend());
            self.suspended.with_label_values(&labels).set(suspended);
        }
        for reason in waits(R::KIND) {
            let waiting = number(&|phase, run| phase == PhaseOf::<R>::PENDING && waits_for(run) == reason);
            self.waiting.with_label_values(&[R::KIND, reason]).set(waiting);
        }
    }

    /// Counts a run whose status has changed so that it failed.
    pub(super) fn changed<R: Run>(&self, before: Option<&StatusOf<R>>, after: &StatusOf<R>) {
        let has_failed = |status: &StatusOf<R>| status.phase() == Some(PhaseOf::<R>::FAILED);
        if before.is_some_and(has_failed) || !has_failed(after) {
            return;
        }
        let reason = conditions::find(after.conditions(), FAILED).map(|failed| failed.reason.as_str());
        self.failed.with_label_values(&[R::KIND, known(reason, failures(R::KIND))]).inc();
    }
}

type PhaseOf<R> = <StatusOf<R> as RunStatus>::Phase;

/// The values of `reason` with which a kind of run can wait.
fn waits(kind: &str) -> impl Iterator<Item = &'static str> {
    let more: &[&str] = if kind == BillingRun::KIND { &BILLING_WAITS } else { &NOTIFICATION_WAITS };
    WAITS.iter().chain(more).copied().chain([OTHER])
}

/// The values of `reason` with which a kind of run can fail.
fn failures(kind: &str) -> impl Iterator<Item = &'static str> {
    let known: &[&str] = if kind == BillingRun::KIND { &BILLING_FAILURES } else { &NOTIFICATION_FAILURES };
    known.iter().copied().chain([OTHER])
}

fn waits_for<R: Run>(run: &R) -> &'static str {
    let reason = conditions::find(run.conditions(), STARTED).map(|started| started.reason.as_str());
    known(reason, waits(R::KIND))
}

/// The reason as a label: one of a closed set.
fn known(reason: Option<&str>, mut set: impl Iterator<Item = &'static str>) -> &'static str {
    set.find(|known| Some(*known) == reason).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use api::billing_run::Phase;
    use api::conditions::ConditionUpdate;
    use api::{BillingRunStatus, NotificationRunStatus, notification_run};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;

    fn condition(type_: &'static str, state: bool, reason: &str) -> Vec<Condition> {
        let update = ConditionUpdate::new(type_, state, reason, "");
        conditions::replace(&[], &[update], None, &Time(Timestamp::UNIX_EPOCH))
    }

    fn run(phase: Phase, suspend: bool, started: &str) -> BillingRun {
        let spec = serde_json::json!({"month": "2026-10", "suspend": suspend});
        let mut run = BillingRun::new("october", serde_json::from_value(spec).unwrap());
        run.status = Some(BillingRunStatus {
            phase: Some(phase),
            conditions: condition(STARTED, false, started),
            ..BillingRunStatus::default()
        });
        run
    }

    fn metrics() -> RunMetrics {
        RunMetrics::new(&Registrar(&prometheus::Registry::new())).unwrap()
    }

    #[test]
    fn runs_are_counted_by_phase_and_by_what_they_wait_for() {
        let metrics = metrics();
        let runs = [
            run(Phase::Running, false, "Started"),
            run(Phase::Running, true, "Started"),
            run(Phase::Pending, true, "Suspended"),
            run(Phase::Pending, false, "MonthLocked"),
            run(Phase::Pending, false, "MonthLocked"),
            run(Phase::Pending, false, "SomethingNew"),
            // Its condition is left over from before it started.
            run(Phase::Planning, false, "MonthLocked"),
        ];
        metrics.count(runs.iter());
        let of = |gauges: &IntGaugeVec, label: &str| gauges.with_label_values(&["BillingRun", label]).get();
        assert_eq!([of(&metrics.runs, "Running"), of(&metrics.suspended, "Running")], [2, 1]);
        assert_eq!([of(&metrics.runs, "Pending"), of(&metrics.suspended, "Pending")], [4, 1]);
        for (reason, waiting) in [("MonthLocked", 2), ("Suspended", 1), (OTHER, 1), ("MonthNotOver", 0)] {
            assert_eq!(of(&metrics.waiting, reason), waiting, "{reason}");
        }
        metrics.count::<BillingRun>([].iter());
        assert_eq!([of(&metrics.waiting, "MonthLocked"), of(&metrics.suspended, "Running")], [0, 0]);
    }

    #[test]
    fn a_run_that_fails_is_counted_once() {
        let metrics = metrics();
        let status = |phase, reason: &str| BillingRunStatus {
            phase: Some(phase),
            conditions: condition(FAILED, true, reason),
            ..BillingRunStatus::default()
        };
        let (running, failed) = (status(Phase::Verifying, ""), status(Phase::Failed, "VerificationFailed"));
        metrics.changed::<BillingRun>(Some(&running), &failed);
        metrics.changed::<BillingRun>(Some(&failed), &failed);
        metrics.changed::<BillingRun>(Some(&running), &status(Phase::Rejected, "Rejected"));
        metrics.changed::<BillingRun>(None, &status(Phase::Failed, "SomethingNew"));
        let of = |kind, reason| metrics.failed.with_label_values(&[kind, reason]).get();
        assert_eq!(of("BillingRun", "VerificationFailed"), 1);
        assert_eq!(of("BillingRun", OTHER), 1);
        assert_eq!(of("BillingRun", "WorkersFailed"), 0);
        let partly = NotificationRunStatus {
            phase: Some(notification_run::Phase::CompletedWithFailures),
            ..NotificationRunStatus::default()
        };
        metrics.changed::<NotificationRun>(None, &partly);
        assert!(failures("NotificationRun").all(|reason| of("NotificationRun", reason) == 0));
    }

    /// Each reason that the decisions write into Started or Failed is in a list.
    #[test]
    fn the_reasons_of_the_decisions_are_known() {
        let named = |path: &str| -> Vec<String> {
            let path = format!("{}/src/{path}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let names = text.split("reasons::").skip(1);
            let name = |text: &str| {
                text.split(|c: char| !c.is_ascii_uppercase() && c != '_')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            };
            names.map(name).filter(|name| !name.is_empty()).collect()
        };
        // The constants' names are the reasons in capitals.
        let constant = |reason: &str| {
            reason.chars().fold(String::new(), |mut name, c| {
                if c.is_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.extend(c.to_uppercase());
                name
            })
        };
        let not_waiting = ["PLANNING", "ROLLING_BACK", "ISSUED", "REJECTED", "ROLLED_BACK"];
        // A billing run that was deleted ends Rejected.
        let not_failed = ["DELETED", "CLOSING", "SENT", "REHEARSED", "COMPLETED_WITH_FAILURES"];
        let mut checked = 0;
        for (kind, folder) in [(BillingRun::KIND, "billing"), (NotificationRun::KIND, "notification")] {
            let mut known: Vec<String> = waits(kind).chain(failures(kind)).map(constant).collect();
            known.extend([not_waiting.as_slice(), &not_failed].concat().into_iter().map(str::to_owned));
            for file in ["pending", "ended"] {
                for name in named(&format!("{folder}/decide/{file}.rs")) {
                    assert!(known.contains(&name), "{kind}, {file}: {name} is in no list");
                    checked += 1;
                }
            }
        }
        assert!(checked > 30, "{checked}");
    }
}
