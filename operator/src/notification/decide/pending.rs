//! A run that the database has no record of yet: what it waits for, and how it begins.

use std::time::Duration;

use api::conditions::{self, ConditionUpdate, STARTED};
use api::notification_run::{NotificationScope, Phase, Select};
use api::reconciled::Reconciled as _;
use api::{NotificationRun, reasons};
use domain::ids::MemberId;
use domain::month::BillingMonth;
use email::{TemplateError, Templates};
use store::installation::Installation;
use store::notification::{Rejection, Scope, Selection, TemplateSet};

use crate::controller::blocked::Blocked;
use crate::controller::decision::{Decision, Next};
use crate::controller::lifecycle;
use crate::controller::status_builder::StatusBuilder;
use crate::notification::action::{Action, BeginPlan, NotificationDecision};
use crate::notification::observed::{Observed, TemplatesLookup};

/// For causes in the database, which no watch reports.
const POLL_DATABASE: Duration = Duration::from_secs(2);
/// For causes that a watch reports, in case it missed the change.
const POLL_CLUSTER: Duration = Duration::from_secs(15);

pub(super) fn decide(
    run: &NotificationRun,
    observed: &Observed,
    installation: &Installation,
) -> NotificationDecision {
    if let Some(earlier) = &observed.earlier {
        return lifecycle::name_was_used(run, observed.now, &earlier.to_string());
    }
    if run.spec.suspend {
        let message = "the run is suspended; set spec.suspend to false to start it";
        let update = ConditionUpdate::new(STARTED, false, reasons::SUSPENDED, message);
        return Decision {
            status: builder(run, observed).condition(update).build(),
            next: Next::AwaitChange,
        };
    }
    if let Some(hold) = &observed.hold {
        if let Some(release) = hold.released_by(run) {
            let status = run.status.clone().unwrap_or_default();
            return Decision { status, next: Next::Apply(Action::Release(release)) };
        }
        let status = builder(run, observed).condition(hold.condition(STARTED, run)).build();
        return Decision { status, next: Next::RequeueAfter(POLL_CLUSTER) };
    }
    let plan = match plan(run, observed, installation) {
        Ok(plan) => plan,
        Err(blocked) => return pending(run, observed, blocked),
    };
    if let Some(rejection @ Rejection::MonthNotBilled { .. }) = &observed.rejection {
        let blocked = Blocked::new(reasons::MONTH_NOT_BILLED, rejection.to_string(), POLL_DATABASE);
        return pending(run, observed, blocked);
    }
    let next = if lifecycle::has_finalizer(run) {
        Next::Apply(Action::Begin(Box::new(plan)))
    } else {
        Next::AddFinalizer
    };
    if is_retry(run) {
        // The status stays, so that a run that tries again and again does not alternate between two
        // reasons.
        return Decision { status: run.status.clone().unwrap_or_default(), next };
    }
    let message = "the month's live bills are being selected";
    let update = ConditionUpdate::new(STARTED, false, reasons::STARTING, message);
    Decision { status: builder(run, observed).condition(update).build(), next }
}

/// The status of every run that has not begun.
fn builder<'a>(run: &'a NotificationRun, observed: &Observed) -> StatusBuilder<'a, NotificationRun> {
    StatusBuilder::from_last(run, observed.now, Phase::Pending).suspended_condition()
}

fn plan(
    run: &NotificationRun,
    observed: &Observed,
    installation: &Installation,
) -> Result<BeginPlan, Blocked> {
    let invalid = |message: String| Blocked::new(reasons::INVALID_SPEC, message, POLL_CLUSTER);
    let month: BillingMonth =
        run.spec.month.parse().map_err(|error| invalid(format!("spec.month: {error}")))?;
    let selection = match run.spec.select {
        Select::Ready => Selection::Ready,
        Select::Failed => Selection::Failed,
        Select::Unknown => Selection::Unknown,
        Select::Corrected => Selection::Corrected,
        Select::Skipped => Selection::Skipped,
    };
    let scope = scope(run.spec.scope.as_ref()).map_err(invalid)?;
    let not_found =
        |message: &str| Blocked::new(reasons::TEMPLATES_NOT_FOUND, message.to_owned(), POLL_CLUSTER);
    let files = match &observed.templates {
        Some(TemplatesLookup::Found(files)) => files,
        Some(TemplatesLookup::Missing(message)) => return Err(not_found(message)),
        None => return Err(not_found("the templates have not been read yet")),
    };
    let invalid_templates = |error: TemplateError| {
        let message = format!("ConfigMap {}: {error}", observed.settings.templates_of(run));
        Blocked::new(reasons::TEMPLATES_INVALID, message, POLL_CLUSTER)
    };
    let templates = Templates::parse(files, installation.locale).map_err(invalid_templates)?;
    if selection == Selection::Corrected {
        templates.require_corrections().map_err(invalid_templates)?;
    }
    let templates = TemplateSet { sha256: templates.sha256().to_owned(), files: templates.files().clone() };
    Ok(BeginPlan { month, selection, scope, templates })
}

fn scope(wanted: Option<&NotificationScope>) -> Result<Scope, String> {
    let member = |id: i64| MemberId::try_from(id).map_err(|error| format!("spec.scope: {error}"));
    match wanted.map(|scope| (&scope.member_range, &scope.member_ids)) {
        None => Ok(Scope::Everyone),
        Some((Some(range), None)) => Ok(Scope::Range { from: member(range.from)?, to: member(range.to)? }),
        Some((None, Some(ids))) => {
            ids.iter().map(|id| member(*id)).collect::<Result<_, _>>().map(Scope::Members)
        }
        Some(_) => Err("spec.scope must have either memberRange or memberIds".to_owned()),
    }
}

/// Whether the last attempt to begin was rejected, so that this one is a retry.
fn is_retry(run: &NotificationRun) -> bool {
    conditions::find(run.conditions(), STARTED)
        .is_some_and(|started| started.reason == reasons::MONTH_NOT_BILLED)
}

fn pending(run: &NotificationRun, observed: &Observed, blocked: Blocked) -> NotificationDecision {
    let next = Next::RequeueAfter(blocked.retry_after);
    Decision { status: builder(run, observed).condition(blocked.condition()).build(), next }
}
