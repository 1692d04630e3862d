//! A run that has no revision yet: what it waits for, and how it begins.

use std::time::Duration;

use api::{
    BillingRun,
    billing_run::Phase,
    conditions::{self, FAILED, FINISHED, STARTED, Said},
    run::Run as _,
};
use domain::{ids::LoadNumber, month::BillingMonth, price_book::PriceBook};
use store::billing::{Rejection, RunSnapshot};

use super::{BillingDecision, Do, Plan, PriceBookFound, World};
use crate::{
    run_loop::{Decision, Next},
    runs::{Stored, lifecycle, report::Report},
};

/// Its cause may go at any moment.
const LOOK_SOON: Duration = Duration::from_secs(2);
/// A watch tells when it changes; this is in case the watch missed it.
const LOOK_LATER: Duration = Duration::from_secs(15);
/// The end of a month is known, but clocks are set and machines sleep.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longer lists of problems are cut; the first ones matter.
const LONGEST_MESSAGE: usize = 2000;

pub(super) fn decide(run: &BillingRun, world: &World, stored: &Stored<RunSnapshot>) -> BillingDecision {
    if run.spec.suspend {
        let message = "the run is suspended; set spec.suspend to false to start it";
        let report =
            report(run, world, Phase::Pending).saying(Said::new(STARTED, false, "Suspended", message));
        return Decision { status: report.status(), next: Next::Rest };
    }
    let plan = match plan(run, world, stored) {
        Ok(plan) => plan,
        Err(Hindrance { reason, message, look_again }) => {
            return pending(run, world, reason, message, Next::Wait(look_again));
        }
    };
    if let Some(refusal) = &world.refused {
        return refused(run, world, refusal);
    }
    let next = if lifecycle::is_held(run) { Next::Do(Do::Begin(Box::new(plan))) } else { Next::Hold };
    if waits_for_database_state(run) {
        // A run that keeps asking whether its month is free does not flicker between phases.
        return Decision { status: run.status.clone().unwrap_or_default(), next };
    }
    let message = "the month is being taken, its members counted and its chunks cut";
    let report = report(run, world, Phase::Planning).saying(Said::new(STARTED, false, "Planning", message));
    Decision { status: report.status(), next }
}

/// What every status of a run that has not begun says.
fn report<'a>(run: &'a BillingRun, world: &World, phase: Phase) -> Report<'a, BillingRun> {
    Report::unchanged(run, world.now, phase).saying_whether_suspended()
}

/// What keeps a run from starting.
struct Hindrance {
    reason: &'static str,
    message: String,
    look_again: Duration,
}

impl Hindrance {
    fn new(reason: &'static str, message: impl Into<String>, look_again: Duration) -> Self {
        Self { reason, message: message.into(), look_again }
    }
}

fn plan(run: &BillingRun, world: &World, stored: &Stored<RunSnapshot>) -> Result<Plan, Hindrance> {
    let invalid = |message: String| Hindrance::new("InvalidSpec", message, LOOK_LATER);
    let month: BillingMonth =
        run.spec.month.parse().map_err(|error| invalid(format!("spec.month: {error}")))?;
    let data_cutoff = run
        .spec
        .data_cutoff
        .map(LoadNumber::try_from)
        .transpose()
        .map_err(|error| invalid(format!("spec.dataCutoff: {error}")))?;
    let zone = &stored.installation.zone;
    let end = zone.month(month).end();
    if stored.now < end {
        let left = Duration::try_from(end.duration_since(stored.now)).unwrap_or_default();
        let message = format!("month {month} ends at {end} ({}); the run starts by itself then", zone.name());
        return Err(Hindrance::new(
            "MonthNotOver",
            message,
            left.clamp(Duration::from_secs(1), LONGEST_WAIT),
        ));
    }
    let text = match &world.price_book {
        Some(PriceBookFound::Text(text)) => text,
        Some(PriceBookFound::Missing(message)) => {
            return Err(Hindrance::new("PriceBookNotFound", message.clone(), LOOK_LATER));
        }
        None => {
            return Err(Hindrance::new("PriceBookNotFound", "the price book was not looked for", LOOK_SOON));
        }
    };
    let price_book = PriceBook::parse(text)
        .and_then(|book| book.check_installation(zone, stored.installation.currency).map(|()| book))
        .and_then(|book| book.check_month(month).map(|()| book))
        .map_err(|error| {
            let wanted = &run.spec.price_book_ref;
            let message = format!("ConfigMap {}, entry {}: {error}", wanted.name, wanted.key);
            Hindrance::new("PriceBookInvalid", message, LOOK_LATER)
        })?;
    Ok(Plan { month, price_book, price_book_text: text.clone(), data_cutoff })
}

fn refused(run: &BillingRun, world: &World, refusal: &Rejection) -> BillingDecision {
    let message = refusal.to_string();
    match refusal {
        Rejection::MonthAlreadyBilled { .. } => {
            let said = |type_| Said::new(type_, true, "MonthAlreadyBilled", message.clone());
            let report = report(run, world, Phase::Failed)
                .saying(Said::new(STARTED, false, "MonthAlreadyBilled", message.clone()))
                .saying(said(FAILED))
                .saying(said(FINISHED))
                .ended(world.now);
            lifecycle::end(run, world.now, report.status())
        }
        Rejection::MonthLocked { .. } => pending(run, world, "MonthLocked", message, Next::Wait(LOOK_SOON)),
        Rejection::NoDataLoaded => pending(run, world, "NoDataLoaded", message, Next::Wait(LOOK_SOON)),
        Rejection::CutoffUnknown { .. } => {
            pending(run, world, "DataCutoffUnknown", message, Next::Wait(LOOK_SOON))
        }
    }
}

/// Whether the last attempt to begin was refused, so that this one is only asking again.
fn waits_for_database_state(run: &BillingRun) -> bool {
    conditions::find(run.conditions(), STARTED).is_some_and(|started| {
        matches!(started.reason.as_str(), "MonthLocked" | "NoDataLoaded" | "DataCutoffUnknown")
    })
}

fn pending(
    run: &BillingRun,
    world: &World,
    reason: &'static str,
    message: String,
    next: Next<Do>,
) -> BillingDecision {
    let message: String = message.chars().take(LONGEST_MESSAGE).collect();
    let report = report(run, world, Phase::Pending).saying(Said::new(STARTED, false, reason, message));
    Decision { status: report.status(), next }
}
