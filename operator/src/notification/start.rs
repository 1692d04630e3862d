//! A run that the database does not know yet: what it waits for, and how it begins.

use std::time::Duration;

use api::{
    NotificationRun,
    conditions::{self, STARTED, Said},
    notification_run::{NotificationScope, Phase, Select},
    run::Run as _,
};
use domain::{ids::MemberId, month::BillingMonth};
use email::Templates;
use store::notification::{Rejection, Scope, Selection, TemplateSet};

use super::{Do, NotificationDecision, Plan, TemplatesFound, World, observe};
use crate::{
    run_loop::{Decision, Next},
    runs::{lifecycle, report::Report},
};

/// Its cause may go at any moment.
const LOOK_SOON: Duration = Duration::from_secs(2);
/// A watch tells when it changes; this is in case the watch missed it.
const LOOK_LATER: Duration = Duration::from_secs(15);
/// Longer explanations are cut; their beginning matters.
const LONGEST_MESSAGE: usize = 2000;

const MONTH_NOT_BILLED: &str = "MonthNotBilled";

pub(super) fn decide(run: &NotificationRun, world: &World) -> NotificationDecision {
    if run.spec.suspend {
        let message = "the run is suspended; set spec.suspend to false to start it";
        let said = Said::new(STARTED, false, "Suspended", message);
        return Decision { status: report(run, world).saying(said).status(), next: Next::Rest };
    }
    let plan = match plan(run, world) {
        Ok(plan) => plan,
        Err((reason, message)) => return pending(run, world, reason, message, LOOK_LATER),
    };
    if let Some(refusal @ Rejection::MonthNotBilled { .. }) = &world.refused {
        return pending(run, world, MONTH_NOT_BILLED, refusal.to_string(), LOOK_SOON);
    }
    let next = if lifecycle::is_held(run) { Next::Do(Do::Begin(Box::new(plan))) } else { Next::Hold };
    if waits_for_bills(run) {
        // A run that keeps asking whether the month's bills are out does not flicker between reasons.
        return Decision { status: run.status.clone().unwrap_or_default(), next };
    }
    let said = Said::new(STARTED, false, "Starting", "the month's bills are looked for");
    Decision { status: report(run, world).saying(said).status(), next }
}

/// What every status of a run that has not begun says.
fn report<'a>(run: &'a NotificationRun, world: &World) -> Report<'a, NotificationRun> {
    Report::unchanged(run, world.now, Phase::Pending).saying_whether_suspended()
}

fn plan(run: &NotificationRun, world: &World) -> Result<Plan, (&'static str, String)> {
    let invalid = |message: String| ("InvalidSpec", message);
    let month: BillingMonth =
        run.spec.month.parse().map_err(|error| invalid(format!("spec.month: {error}")))?;
    let selection = match run.spec.select {
        Select::Ready => Selection::Ready,
        Select::Failed => Selection::Failed,
        Select::Unknown => Selection::Unknown,
        Select::Corrected => {
            return Err(invalid("spec.select: Corrected is not available in this version".to_owned()));
        }
    };
    let scope = scope(run.spec.scope.as_ref()).map_err(invalid)?;
    let files = match &world.templates {
        Some(TemplatesFound::Files(files)) => files,
        Some(TemplatesFound::Missing(message)) => return Err(("TemplatesNotFound", message.clone())),
        None => return Err(("TemplatesNotFound", "the templates were not looked for".to_owned())),
    };
    let templates = Templates::parse(files).map_err(|error| {
        let name = observe::templates_of(run, &world.parts.notify);
        ("TemplatesInvalid", format!("ConfigMap {name}: {error}"))
    })?;
    let templates = TemplateSet { sha256: templates.sha256().to_owned(), files: files.clone() };
    Ok(Plan { month, selection, scope, templates })
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

fn waits_for_bills(run: &NotificationRun) -> bool {
    conditions::find(run.conditions(), STARTED).is_some_and(|started| started.reason == MONTH_NOT_BILLED)
}

fn pending(
    run: &NotificationRun,
    world: &World,
    reason: &'static str,
    message: String,
    look_again: Duration,
) -> NotificationDecision {
    let message: String = message.chars().take(LONGEST_MESSAGE).collect();
    let status = report(run, world).saying(Said::new(STARTED, false, reason, message)).status();
    Decision { status, next: Next::Wait(look_again) }
}
