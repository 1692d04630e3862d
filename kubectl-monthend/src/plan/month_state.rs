//! What the runs of a month say about it: which revision is live, as far as the runs are still
//! there. The operator has the last word: a run over a revision that is not live fails.

use api::BillingRun;
use api::billing_run::Phase;
use api::run::Run as _;
use kube::ResourceExt as _;
use serde::Deserialize;

use crate::exit::{Problem, Result};

/// The live revision, and the run that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) revision: i32,
    pub(crate) run: String,
}

/// The highest revision that a run of the month issued and none took back. None: no finished run
/// says that the month is live.
pub(crate) fn live(runs: &[BillingRun], month: &str) -> Option<Live> {
    let succeeded = |run: &&BillingRun| run.spec.month == month && run.phase() == Some(Phase::Succeeded);
    let revision = |run: &BillingRun| run.status.as_ref().and_then(|status| status.revision);
    let taken_back: Vec<i32> = runs
        .iter()
        .filter(succeeded)
        .filter_map(|run| run.spec.rollback.as_ref())
        .map(|rollback| rollback.of_revision)
        .collect();
    runs.iter()
        .filter(succeeded)
        .filter(|run| run.spec.rollback.is_none())
        .filter_map(|run| Some(Live { revision: revision(run)?, run: run.name_any() }))
        .filter(|live| !taken_back.contains(&live.revision))
        .max_by_key(|live| live.revision)
}

/// The highest live revision in what `monthend status MONTH -o json` prints; none: no revision is live.
///
/// # Errors
/// The text is of another program.
pub(crate) fn live_in_database(answer: &str) -> Result<Option<i32>> {
    #[derive(Deserialize)]
    struct Status {
        live: Option<LiveRevision>,
    }
    #[derive(Deserialize)]
    struct LiveRevision {
        revision: i32,
    }
    let status: Status = serde_json::from_str(answer).map_err(|error| {
        Problem::failed(format!("the answer of `monthend status` is not understood: {error}"))
    })?;
    Ok(status.live.map(|live| live.revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{billing_run, rollback_run};

    #[test]
    fn the_highest_revision_that_was_not_taken_back_is_live() {
        let first = billing_run("first", "2026-10", Phase::Succeeded, Some(1));
        let second = billing_run("second", "2026-10", Phase::Succeeded, Some(3));
        let draft = billing_run("draft", "2026-10", Phase::AwaitingApproval, Some(4));
        let other = billing_run("other", "2026-09", Phase::Succeeded, Some(9));
        let back = rollback_run("back", "2026-10", Phase::Succeeded, 3);
        let tried = rollback_run("tried", "2026-10", Phase::Failed, 1);
        let live_of = |runs: &[&BillingRun]| {
            let runs: Vec<BillingRun> = runs.iter().map(|run| (*run).clone()).collect();
            live(&runs, "2026-10").map(|live| (live.revision, live.run))
        };
        assert_eq!(live_of(&[&draft, &other]), None);
        assert_eq!(live_of(&[&first, &draft]), Some((1, "first".to_owned())));
        assert_eq!(live_of(&[&second, &first]), Some((3, "second".to_owned())));
        assert_eq!(live_of(&[&first, &second, &back]), Some((1, "first".to_owned())));
        assert_eq!(live_of(&[&first, &tried]), Some((1, "first".to_owned())));
    }

    #[test]
    fn the_databases_answer_is_read() {
        let answer =
            r#"{"month": "2026-10", "revisions": [], "live": {"revision": 2, "billed": 9}, "draft": null}"#;
        assert_eq!(live_in_database(answer), Ok(Some(2)));
        assert_eq!(live_in_database(r#"{"month": "2026-10", "live": null}"#), Ok(None));
        let problem = live_in_database("no JSON").unwrap_err();
        assert!(problem.text.starts_with("the answer of `monthend status` is not understood: "), "{problem}");
    }
}
