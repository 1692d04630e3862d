//! Which run a person means, by its name, a month, or nothing at all.

use api::billing_run::Phase;
use api::reconciled::Reconciled as _;
use api::run::{Run, RunPhase as _};
use api::{BillingRun, NotificationRun};
use domain::month::BillingMonth;
use kube::ResourceExt;

use crate::exit::{Problem, Result};

/// A run of either kind.
#[derive(Debug, Clone)]
pub(crate) enum AnyRun {
    Billing(Box<BillingRun>),
    Notification(Box<NotificationRun>),
}

impl AnyRun {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Billing(run) => run.name_any(),
            Self::Notification(run) => run.name_any(),
        }
    }

    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Billing(_) => BillingRun::KIND,
            Self::Notification(_) => NotificationRun::KIND,
        }
    }
}

/// Why no draft is meant.
fn months(runs: &[BillingRun]) -> String {
    let mut months: Vec<&str> = runs.iter().map(|run| run.spec.month.as_str()).collect();
    months.sort_unstable();
    months.dedup();
    if months.is_empty() {
        "no run is there".to_owned()
    } else {
        format!("there are runs of {}", months.join(", "))
    }
}

/// The draft to approve or reject: of this name or month, or the only one that waits.
pub(crate) fn draft(runs: &[BillingRun], wanted: Option<&str>) -> Result<BillingRun> {
    let waits = |run: &&BillingRun| {
        run.phase() == Some(Phase::AwaitingApproval) && run.metadata.deletion_timestamp.is_none()
    };
    let Some(wanted) = wanted else {
        let waiting: Vec<&BillingRun> = runs.iter().filter(waits).collect();
        return match waiting.as_slice() {
            [run] => Ok((*run).clone()),
            [] => {
                Err(Problem::usage("no draft waits for approval: `kubectl monthend status` shows the runs"))
            }
            several => Err(Problem::usage(format!(
                "several drafts wait for approval, name one: {}",
                several.iter().map(|run| run.name_any()).collect::<Vec<_>>().join(", ")
            ))),
        };
    };
    let run = match month(wanted) {
        None => by_name(runs, wanted)?,
        Some(month) => {
            let mut of_month = runs.iter().filter(|run| run.spec.month == month);
            let waiting = of_month.clone().find(waits);
            match waiting.or_else(|| of_month.clone().find(|run| !run.is_over())).or_else(|| of_month.next())
            {
                Some(run) => run.clone(),
                None => {
                    return Err(Problem::usage(format!(
                        "{month} has no billing run: {}",
                        self::months(runs)
                    )));
                }
            }
        }
    };
    check_draft(&run)?;
    Ok(run)
}

/// Says why a run is no draft that waits.
pub(crate) fn check_draft(run: &BillingRun) -> Result<()> {
    let name = run.name_any();
    let phase = run.phase().unwrap_or(Phase::Pending);
    if run.spec.rollback.is_some() {
        return Err(Problem::usage(format!(
            "{name} takes a revision back: it has no draft to approve or reject"
        )));
    }
    if phase.is_final() {
        return Err(Problem::usage(format!(
            "{name} is finished ({}): there is no draft to approve or reject",
            phase.as_str()
        )));
    }
    if run.metadata.deletion_timestamp.is_some() {
        return Err(Problem::usage(format!("{name} is being deleted: its draft is rejected")));
    }
    if phase != Phase::AwaitingApproval {
        return Err(Problem::usage(format!(
            "{name} has no draft yet, its phase is {}: follow it with `kubectl monthend watch {name}`",
            phase.as_str()
        )));
    }
    Ok(())
}

/// The run whose diff is wanted: the draft that waits, or the newest run of the name or month.
pub(crate) fn reviewed(runs: &[BillingRun], wanted: Option<&str>) -> Result<BillingRun> {
    match wanted {
        None => draft(runs, None),
        Some(wanted) => match month(wanted) {
            None => by_name(runs, wanted),
            Some(month) => {
                let of_month =
                    runs.iter().filter(|run| run.spec.month == month && run.spec.rollback.is_none());
                let newest = of_month.max_by_key(|run| (!run.is_over(), created(*run)));
                newest.cloned().ok_or_else(|| {
                    Problem::usage(format!("{month} has no billing run: {}", self::months(runs)))
                })
            }
        },
    }
}

/// The run to follow: of this name, or the newest of a month, unfinished ones first; without either
/// the only unfinished one.
pub(crate) fn followed(
    billing: &[BillingRun],
    notification: &[NotificationRun],
    wanted: Option<&str>,
) -> Result<AnyRun> {
    match wanted {
        Some(wanted) if month(wanted).is_none() => named(billing, notification, wanted),
        Some(month) => {
            let of_billing = billing.iter().filter(|run| run.spec.month == month);
            let of_notification = notification.iter().filter(|run| run.spec.month == month);
            let newest =
                of_billing
                    .map(|run| ((!run.is_over(), created(run)), AnyRun::Billing(Box::new(run.clone()))))
                    .chain(of_notification.map(|run| {
                        ((!run.is_over(), created(run)), AnyRun::Notification(Box::new(run.clone())))
                    }))
                    .max_by_key(|(key, _)| *key);
            newest.map(|(_, run)| run).ok_or_else(|| Problem::usage(format!("{month} has no run")))
        }
        None => {
            let open = billing
                .iter()
                .filter(|run| !run.is_over())
                .map(|run| AnyRun::Billing(Box::new(run.clone())))
                .chain(
                    notification
                        .iter()
                        .filter(|run| !run.is_over())
                        .map(|run| AnyRun::Notification(Box::new(run.clone()))),
                );
            let open: Vec<AnyRun> = open.collect();
            match open.as_slice() {
                [run] => Ok(run.clone()),
                [] => Err(Problem::usage("no run is unfinished: name one, or a month")),
                several => Err(Problem::usage(format!(
                    "several runs are unfinished, name one: {}",
                    several.iter().map(AnyRun::name).collect::<Vec<_>>().join(", ")
                ))),
            }
        }
    }
}

/// The run of this name, of either kind; `brun/NAME` and `nrun/NAME` name the kind.
pub(crate) fn named(
    billing: &[BillingRun],
    notification: &[NotificationRun],
    wanted: &str,
) -> Result<AnyRun> {
    let (kind, name) = wanted.split_once('/').map_or((None, wanted), |(kind, name)| (Some(kind), name));
    let of_kind = |kinds: &[&str]| kind.is_none_or(|kind| kinds.contains(&kind.to_lowercase().as_str()));
    if !of_kind(&["brun", "billingrun", "billingruns", "nrun", "notificationrun", "notificationruns"]) {
        return Err(Problem::usage(format!("`{wanted}` names no kind of run: write brun/NAME or nrun/NAME")));
    }
    let of_billing = billing
        .iter()
        .filter(|_| of_kind(&["brun", "billingrun", "billingruns"]))
        .find(|run| run.name_any() == name);
    let of_notification = notification
        .iter()
        .filter(|_| of_kind(&["nrun", "notificationrun", "notificationruns"]))
        .find(|run| run.name_any() == name);
    match (of_billing, of_notification) {
        (Some(run), None) => Ok(AnyRun::Billing(Box::new(run.clone()))),
        (None, Some(run)) => Ok(AnyRun::Notification(Box::new(run.clone()))),
        (Some(_), Some(_)) => Err(Problem::usage(format!(
            "both a BillingRun and a NotificationRun are named {name}: write brun/{name} or nrun/{name}"
        ))),
        (None, None) => {
            let names = billing.iter().map(ResourceExt::name_any);
            Err(unknown(name, names.chain(notification.iter().map(ResourceExt::name_any))))
        }
    }
}

fn by_name(runs: &[BillingRun], name: &str) -> Result<BillingRun> {
    let name = name.strip_prefix("brun/").unwrap_or(name);
    let found = runs.iter().find(|run| run.name_any() == name);
    found.cloned().ok_or_else(|| unknown(name, runs.iter().map(ResourceExt::name_any)))
}

fn unknown(name: &str, names: impl Iterator<Item = String>) -> Problem {
    let mut names: Vec<String> = names.collect();
    names.sort();
    let there = match names.len() {
        0 => "the namespace has none".to_owned(),
        1..=8 => format!("there are {}", names.join(", ")),
        number => format!("there are {number}, see `kubectl monthend status`"),
    };
    Problem::usage(format!("there is no run {name}: {there}"))
}

/// The text, if it is a month.
fn month(text: &str) -> Option<String> {
    text.parse::<BillingMonth>().ok().map(|month| month.to_string())
}

fn created<R: Run>(run: &R) -> Option<k8s_openapi::jiff::Timestamp> {
    run.meta().creation_timestamp.as_ref().map(|at| at.0)
}

#[cfg(test)]
mod tests {
    use api::notification_run;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::plan::testing::{billing_run, notification_run, rollback_run};

    fn text<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().text
    }

    #[test]
    fn the_only_draft_that_waits_needs_no_name() {
        let done = billing_run("billing-2026-09", "2026-09", Phase::Succeeded, Some(1));
        let waits = billing_run("billing-2026-10", "2026-10", Phase::AwaitingApproval, Some(1));
        let other = billing_run("billing-2026-08", "2026-08", Phase::AwaitingApproval, Some(1));
        let runs = [done.clone(), waits.clone()];
        for wanted in [None, Some("2026-10"), Some("billing-2026-10"), Some("brun/billing-2026-10")] {
            assert_eq!(draft(&runs, wanted).unwrap().name_any(), "billing-2026-10");
        }
        assert_eq!(
            text(draft(&[done], None)),
            "no draft waits for approval: `kubectl monthend status` shows the runs"
        );
        assert_eq!(
            text(draft(&[waits.clone(), other.clone()], None)),
            "several drafts wait for approval, name one: billing-2026-10, billing-2026-08"
        );
        let mut rejected = waits;
        rejected.metadata.deletion_timestamp = Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(draft(&[rejected.clone(), other], None).unwrap().name_any(), "billing-2026-08");
        assert_eq!(
            text(draft(&[rejected], Some("billing-2026-10"))),
            "billing-2026-10 is being deleted: its draft is rejected"
        );
    }

    #[test]
    fn what_is_no_draft_is_said() {
        let running = billing_run("october", "2026-10", Phase::Running, Some(1));
        let done = billing_run("september", "2026-09", Phase::Succeeded, Some(1));
        let back = rollback_run("back", "2026-08", Phase::Pending, 1);
        let runs = [running, done, back];
        for (wanted, problem) in [
            (
                "october",
                "october has no draft yet, its phase is Running: follow it with `kubectl monthend watch october`",
            ),
            (
                "2026-10",
                "october has no draft yet, its phase is Running: follow it with `kubectl monthend watch october`",
            ),
            ("september", "september is finished (Succeeded): there is no draft to approve or reject"),
            ("back", "back takes a revision back: it has no draft to approve or reject"),
            ("november", "there is no run november: there are back, october, september"),
            ("2026-11", "2026-11 has no billing run: there are runs of 2026-08, 2026-09, 2026-10"),
        ] {
            assert_eq!(text(draft(&runs, Some(wanted))), problem);
        }
        assert_eq!(text(draft(&[], Some("x"))), "there is no run x: the namespace has none");
    }

    #[test]
    fn a_month_means_its_unfinished_run() {
        let old = billing_run("old", "2026-10", Phase::Running, Some(1));
        let newer = notification_run("newer", "2026-10", notification_run::Phase::Succeeded);
        let followed = |wanted| followed(std::slice::from_ref(&old), std::slice::from_ref(&newer), wanted);
        assert_eq!(followed(Some("2026-10")).unwrap().name(), "old");
        assert_eq!(followed(None).unwrap().name(), "old");
        assert_eq!(followed(Some("newer")).unwrap().kind(), "NotificationRun");
        assert_eq!(text(followed(Some("2026-11"))), "2026-11 has no run");
        assert_eq!(text(super::followed(&[], &[], None)), "no run is unfinished: name one, or a month");
    }

    #[test]
    fn a_name_that_both_kinds_have_needs_the_kind() {
        let billing = [billing_run("october", "2026-10", Phase::Running, None)];
        let notices = [notification_run("october", "2026-10", notification_run::Phase::Sending)];
        assert_eq!(
            text(named(&billing, &notices, "october")),
            "both a BillingRun and a NotificationRun are named october: write brun/october or nrun/october"
        );
        assert_eq!(named(&billing, &notices, "nrun/october").unwrap().kind(), "NotificationRun");
        assert_eq!(named(&billing, &notices, "brun/october").unwrap().kind(), "BillingRun");
        assert_eq!(
            text(named(&billing, &notices, "pod/october")),
            "`pod/october` names no kind of run: write brun/NAME or nrun/NAME"
        );
    }
}
