//! Events: what a new status says that the old one didn't. Pure.

use api::conditions::{self, status_text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::run_loop::News;

/// Reasons of a wait that somebody wanted, or that only takes its time.
const EXPECTED: [&str; 8] =
    ["Planning", "Starting", "MonthNotOver", "Suspended", "Resumed", "Deleting", "Deleted", "ManualApproval"];

pub(crate) fn between(before: &[Condition], after: &[Condition]) -> Vec<News> {
    let mut news: Vec<News> = Vec::new();
    for new in after {
        let same = |old: &Condition| (&old.status, &old.reason) == (&new.status, &new.reason);
        // Several conditions may have one reason: Finished repeats what Complete and Failed say.
        if conditions::find(before, &new.type_).is_some_and(same)
            || news.iter().any(|told| told.reason == new.reason)
        {
            continue;
        }
        let bad = if new.type_ == conditions::FAILED { status_text(true) } else { status_text(false) };
        let warning = new.status == bad && !EXPECTED.contains(&new.reason.as_str());
        news.push(News { warning, reason: new.reason.clone(), note: new.message.clone() });
    }
    news
}
