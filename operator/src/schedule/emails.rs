//! Whether the e-mails of a month were sent, by the schedule's notification run and by the runs that a
//! person has created after it. Pure.

use api::notification_run::Select;
use domain::month::BillingMonth;

use super::observed::{Asked, ExistingRun, RunState};

/// The runs that e-mail something of the month, the first created first.
pub(super) fn of_month(runs: &[ExistingRun], month: BillingMonth) -> Vec<&ExistingRun> {
    let mut of_month: Vec<&ExistingRun> =
        runs.iter().filter(|run| run.month == Some(month) && run.asked.is_some()).collect();
    of_month.sort_by_key(|run| (run.created, &run.name));
    of_month
}

/// What is left to do after the schedule's own run has ended; None if nothing is, or if a later run is
/// at it. `runs` are those of its month, in their order.
pub(super) fn problem<'a>(own: &'a ExistingRun, runs: &[&'a ExistingRun]) -> Option<String> {
    let mut last = own;
    if !leaves_something(last.state) {
        return None;
    }
    let later = runs.iter().copied().filter(|run| run.created >= own.created);
    for run in later {
        if !goes_on(last, run) {
            continue;
        }
        if !leaves_something(run.state) {
            return None;
        }
        // What a failed run has left is left as before.
        if run.state == RunState::Partly {
            last = run;
        }
    }
    Some(words(last))
}

/// The bills are issued, and no run has ever been made for their e-mails.
pub(super) fn missing(month: BillingMonth, runs: &[&ExistingRun]) -> Option<String> {
    let sends = |asked: &Asked| !asked.rehearsal && asked.scope.is_none() && asked.select == Select::Ready;
    let is_sent = runs.iter().any(|run| run.asked.as_ref().is_some_and(sends));
    (!is_sent).then(|| {
        format!(
            "{month} is not e-mailed and has no NotificationRun: create one (kubectl monthend notify {month})"
        )
    })
}

fn leaves_something(state: RunState) -> bool {
    matches!(state, RunState::Failed | RunState::Partly)
}

/// Whether a run does what another one has left.
fn goes_on(left: &ExistingRun, run: &ExistingRun) -> bool {
    let (Some(of_left), Some(asked)) = (&left.asked, &run.asked) else { return false };
    let same =
        asked.rehearsal == of_left.rehearsal && (asked.scope.is_none() || asked.scope == of_left.scope);
    same && match left.state {
        // A rehearsal attempts no bill, so that another one has them all again.
        RunState::Partly if !asked.rehearsal => matches!(asked.select, Select::Failed | Select::Unknown),
        _ => asked.select == Select::Ready,
    }
}

/// What a run has left, and how to go on.
fn words(left: &ExistingRun) -> String {
    let name = &left.name;
    let month = left.month.map(|month| month.to_string()).unwrap_or_default();
    let asked = left.asked.as_ref();
    // The plugin's commands are for all members.
    let command = |command: &str| match asked {
        Some(Asked { scope: None, .. }) => format!(" (kubectl monthend {command} {month})"),
        _ => String::new(),
    };
    let rehearsal = asked.is_some_and(|asked| asked.rehearsal);
    match (left.state, rehearsal) {
        (RunState::Partly, true) => format!(
            "{month} has e-mails that cannot be rendered: see NotificationRun {name}, and rehearse again with a \
             NotificationRun of another name{}",
            command("rehearse")
        ),
        (_, true) => format!(
            "{month} is not rehearsed: see NotificationRun {name}, and rehearse again with one of another name{}",
            command("rehearse")
        ),
        (RunState::Partly, false) => format!(
            "{month} has e-mails that failed or whose outcome is unknown: see NotificationRun {name}, and send \
             them again with one of another name{}",
            command("retry")
        ),
        (_, false) => format!(
            "{month} is not e-mailed to everybody: see NotificationRun {name}, and send the rest with one of another \
             name{}",
            command("notify")
        ),
    }
}
