//! A run that has no record in the database yet: what it waits for, and how it begins.

use std::time::Duration;

use api::billing_run::{
    AfterSent as SpecAfterSent, OverRevision, Phase, Rebill, Scope as SpecScope, ScopeSelect,
};
use api::conditions::{self, ConditionUpdate, FAILED, FINISHED, STARTED};
use api::reconciled::Reconciled as _;
use api::{BillingRun, reasons};
use domain::ids::{LoadNumber, MemberId, Revision};
use domain::month::BillingMonth;
use domain::price_book::PriceBook;
use store::billing::{AfterSent, Rejection, Scope};

use crate::billing::action::{Action, BeginPlan, BillingDecision, RebillPlan, RollbackPlan};
use crate::billing::observed::{Observed, PriceBookLookup, RunRecord};
use crate::controller::blocked::Blocked;
use crate::controller::database_view::DatabaseView;
use crate::controller::decision::{Decision, Next};
use crate::controller::lifecycle;
use crate::controller::status_builder::StatusBuilder;

/// For causes in the database, which no watch reports.
const POLL_DATABASE: Duration = Duration::from_secs(2);
/// For causes that a watch reports, in case it missed the change.
const POLL_CLUSTER: Duration = Duration::from_secs(15);
/// The end of a month is known, but clocks are adjusted and machines sleep.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) fn decide(
    run: &BillingRun,
    observed: &Observed,
    view: &DatabaseView<RunRecord>,
) -> BillingDecision {
    if let Some(earlier) = &observed.earlier {
        return lifecycle::name_was_used(run, observed.now, &earlier.to_string());
    }
    if run.spec.suspend {
        let message = "the run is suspended; set spec.suspend to false to start it";
        let update = ConditionUpdate::new(STARTED, false, reasons::SUSPENDED, message);
        let status = builder(run, observed, Phase::Pending).condition(update).build();
        return Decision { status, next: Next::AwaitChange };
    }
    let planned = match &run.spec.rollback {
        Some(rollback) => plan_rollback(run, rollback),
        None => plan_billing(run, observed, view),
    };
    let first_step = match planned {
        Ok(first_step) => first_step,
        Err(blocked) => return pending(run, observed, blocked),
    };
    if let Some(rejection) = &observed.rejection {
        return rejected(run, observed, rejection);
    }
    let FirstStep { action, needs_finalizer, phase, started } = first_step;
    let next = if needs_finalizer && !lifecycle::has_finalizer(run) {
        Next::AddFinalizer
    } else {
        Next::Apply(action)
    };
    if is_retry(run) {
        // The status stays, so that a run that tries again and again does not alternate between two phases.
        return Decision { status: run.status.clone().unwrap_or_default(), next };
    }
    Decision { status: builder(run, observed, phase).condition(started).build(), next }
}

/// The action with which a run begins, and the status while it is applied.
struct FirstStep {
    action: Action,
    /// The action leaves something that a deletion has to clean up.
    needs_finalizer: bool,
    phase: Phase,
    started: ConditionUpdate,
}

/// The status of every run that has not begun.
fn builder<'a>(run: &'a BillingRun, observed: &Observed, phase: Phase) -> StatusBuilder<'a, BillingRun> {
    StatusBuilder::from_last(run, observed.now, phase).suspended_condition()
}

fn invalid(message: String) -> Blocked {
    Blocked::new(reasons::INVALID_SPEC, message, POLL_CLUSTER)
}

fn month(run: &BillingRun) -> Result<BillingMonth, Blocked> {
    run.spec.month.parse().map_err(|error| invalid(format!("spec.month: {error}")))
}

/// The database checks everything else in the transaction that rolls back.
fn plan_rollback(run: &BillingRun, rollback: &OverRevision) -> Result<FirstStep, Blocked> {
    let revision = Revision::try_from(i64::from(rollback.of_revision))
        .map_err(|error| invalid(format!("spec.rollback.ofRevision: {error}")))?;
    let plan = RollbackPlan { month: month(run)?, revision, reason: rollback.reason.clone() };
    let message = format!("revision {revision} of {} is being rolled back", plan.month);
    Ok(FirstStep {
        action: Action::RollBack(plan),
        needs_finalizer: false,
        phase: Phase::Issuing,
        started: ConditionUpdate::new(STARTED, false, reasons::ROLLING_BACK, message),
    })
}

fn plan_billing(
    run: &BillingRun,
    observed: &Observed,
    view: &DatabaseView<RunRecord>,
) -> Result<FirstStep, Blocked> {
    let month = month(run)?;
    let Some(wanted) = &run.spec.price_book_ref else {
        return Err(invalid("spec.priceBookRef must name the ConfigMap with the price book".to_owned()));
    };
    let data_cutoff = run
        .spec
        .data_cutoff
        .map(LoadNumber::try_from)
        .transpose()
        .map_err(|error| invalid(format!("spec.dataCutoff: {error}")))?;
    let rebill = rebill_plan(run).map_err(invalid)?;
    let zone = &view.installation.zone;
    let end = zone.month(month).end();
    if view.now < end {
        let left = Duration::try_from(end.duration_since(view.now)).unwrap_or_default();
        let message =
            format!("month {month} ends at {end} ({}); the run starts automatically then", zone.name());
        let retry_after = left.clamp(Duration::from_secs(1), LONGEST_WAIT);
        return Err(Blocked::new(reasons::MONTH_NOT_OVER, message, retry_after));
    }
    let not_found =
        |message: &str| Blocked::new(reasons::PRICE_BOOK_NOT_FOUND, message.to_owned(), POLL_CLUSTER);
    let text = match &observed.price_book {
        Some(PriceBookLookup::Found(text)) => text,
        Some(PriceBookLookup::Missing(message)) => return Err(not_found(message)),
        None => return Err(not_found("the price book has not been read yet")),
    };
    let price_book = PriceBook::parse(text)
        .and_then(|book| book.check_installation(zone, view.installation.currency).map(|()| book))
        .and_then(|book| book.check_month(month).map(|()| book))
        .map_err(|error| {
            let message = format!("ConfigMap {}, entry {}: {error}", wanted.name, wanted.key);
            Blocked::new(reasons::PRICE_BOOK_INVALID, message, POLL_CLUSTER)
        })?;
    let plan = BeginPlan { month, price_book, price_book_text: text.clone(), data_cutoff, rebill };
    let message = "the month is being locked and its members are being counted and split into chunks";
    Ok(FirstStep {
        action: Action::Begin(Box::new(plan)),
        needs_finalizer: true,
        phase: Phase::Planning,
        started: ConditionUpdate::new(STARTED, false, reasons::PLANNING, message),
    })
}

/// The month's re-billing, or why it cannot be made. The API server rejects such a spec
/// first; this is for objects that it did not check.
fn rebill_plan(run: &BillingRun) -> Result<Option<RebillPlan>, String> {
    let scope = scope(run.spec.scope.as_ref())?;
    let Some(Rebill { of_revision, reason, after_sent }) = &run.spec.rebill else {
        return match scope {
            Scope::Everyone => Ok(None),
            _ => Err("spec.scope is only for a run with spec.rebill".to_owned()),
        };
    };
    let of_revision = Revision::try_from(i64::from(*of_revision))
        .map_err(|error| format!("spec.rebill.ofRevision: {error}"))?;
    let after_sent = match after_sent {
        SpecAfterSent::Revise => AfterSent::Revise,
        SpecAfterSent::Adjust => AfterSent::Adjust,
    };
    Ok(Some(RebillPlan { of_revision, reason: reason.clone(), scope, after_sent }))
}

fn scope(wanted: Option<&SpecScope>) -> Result<Scope, String> {
    let Some(SpecScope { member_range, member_ids, select }) = wanted else { return Ok(Scope::Everyone) };
    let member = |id: i64| MemberId::try_from(id).map_err(|error| format!("spec.scope: {error}"));
    match (member_range, member_ids, select) {
        (Some(range), None, None) if range.from <= range.to => {
            Ok(Scope::Range { from: member(range.from)?, to: member(range.to)? })
        }
        (Some(_), None, None) => {
            Err("spec.scope.memberRange.from must not be greater than spec.scope.memberRange.to".to_owned())
        }
        (None, Some(ids), None) => {
            ids.iter().map(|id| member(*id)).collect::<Result<_, _>>().map(Scope::Members)
        }
        (None, None, Some(ScopeSelect::Quarantined)) => Ok(Scope::Quarantined),
        (None, None, Some(ScopeSelect::Late)) => Ok(Scope::Late),
        _ => Err("spec.scope must have exactly one of memberRange, memberIds and select".to_owned()),
    }
}

/// The database rejected the attempt to begin.
fn rejected(run: &BillingRun, observed: &Observed, rejection: &Rejection) -> BillingDecision {
    let reason = match rejection {
        Rejection::MonthAlreadyBilled { .. } => {
            return failed(run, observed, reasons::MONTH_ALREADY_BILLED, rejection);
        }
        Rejection::RevisionConflict { .. } => {
            return failed(run, observed, reasons::REVISION_CONFLICT, rejection);
        }
        Rejection::DifferencesBilled { .. } => {
            return failed(run, observed, reasons::DIFFERENCES_BILLED, rejection);
        }
        Rejection::MonthLocked { .. } => reasons::MONTH_LOCKED,
        Rejection::NoDataLoaded => reasons::NO_DATA_LOADED,
        Rejection::CutoffUnknown { .. } => reasons::DATA_CUTOFF_UNKNOWN,
        Rejection::InputsIncomplete { .. } => reasons::INPUTS_INCOMPLETE,
    };
    pending(run, observed, Blocked::new(reason, rejection.to_string(), POLL_DATABASE))
}

/// Waiting would not help: the run ends.
fn failed(
    run: &BillingRun,
    observed: &Observed,
    reason: &'static str,
    rejection: &Rejection,
) -> BillingDecision {
    let update = |type_, status| ConditionUpdate::new(type_, status, reason, rejection.to_string());
    let status = builder(run, observed, Phase::Failed)
        .condition(update(STARTED, false))
        .condition(update(FAILED, true))
        .condition(update(FINISHED, true))
        .completed_at(observed.now)
        .build();
    lifecycle::finish(run, observed.now, status)
}

/// Whether the last attempt to begin was rejected, so that this one is a retry.
fn is_retry(run: &BillingRun) -> bool {
    conditions::find(run.conditions(), STARTED).is_some_and(|started| {
        matches!(
            started.reason.as_str(),
            reasons::MONTH_LOCKED
                | reasons::NO_DATA_LOADED
                | reasons::DATA_CUTOFF_UNKNOWN
                | reasons::INPUTS_INCOMPLETE
        )
    })
}

fn pending(run: &BillingRun, observed: &Observed, blocked: Blocked) -> BillingDecision {
    let next = Next::RequeueAfter(blocked.retry_after);
    let status = builder(run, observed, Phase::Pending).condition(blocked.condition()).build();
    Decision { status, next }
}
