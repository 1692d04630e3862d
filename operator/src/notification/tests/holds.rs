//! The decisions about runs of a month whose e-mails are held since the database was restored.

use api::labels::SEND_AFTER_RESTORE;
use store::notification::HighWaterMark;

use super::decisions::{assert_decisions, row};
use super::*;
use crate::restore_hold::Hold;

const CLUSTER: &str = "2026-11-02T00:00:40.123456Z";
const HELD: &str = "Started:Started !Progressing:DatabaseRestored TransportAvailable:TransportUsable";

fn held(observed: Observed) -> Observed {
    let mark = HighWaterMark { mark: time("2026-11-01T12:00:00Z"), before: None };
    let hold = Hold::of("2026-10".parse().unwrap(), Ok(Some(time(CLUSTER))), Some(mark));
    assert!(hold.is_some());
    Observed { hold, ..observed }
}

fn in_state(state: NotificationState, snapshot: Snapshot) -> Snapshot {
    Snapshot { facts: RunFacts { state, ..snapshot.facts.clone() }, ..snapshot }
}

fn released(mut run: NotificationRun, mark: &str) -> NotificationRun {
    let annotations = [(SEND_AFTER_RESTORE.to_owned(), mark.to_owned())];
    run.metadata.annotations = Some(annotations.into());
    run
}

#[test]
fn a_held_month_begins_no_run_and_resumes_none_until_a_person_releases_it() {
    let open = |snapshot| held(observed(Some(in_state(NotificationState::Open, snapshot))));
    let suspended = |snapshot| held(observed(Some(in_state(NotificationState::Suspended, snapshot))));
    let unusable =
        Observed { hold: Some(Hold::Unusable("there is no ConfigMap".to_owned())), ..observed(None) };
    assert_decisions(vec![
        row("new", run(), held(observed(None)), "Pending | RequeueAfter | !Started:DatabaseRestored"),
        row(
            "new, released before an earlier restore",
            released(run(), "2026-10-01T00:00:00Z"),
            held(observed(None)),
            "Pending | RequeueAfter | !Started:DatabaseRestored",
        ),
        row("new, released", released(run(), CLUSTER), held(observed(None)), "- | Release(month 2026-10) | "),
        row("the marks cannot be read", run(), unusable, "Pending | RequeueAfter | !Started:MarksUnusable"),
        row(
            "sending",
            run(),
            open(sending()),
            format!("Sending | Adjust(suspended true, max per second none) | {HELD}"),
        ),
        row("no publisher", run(), suspended(publishing()), format!("Publishing | RequeueAfter | {HELD}")),
        row(
            "its publisher running",
            run(),
            with_job(suspended(publishing()), publisher()),
            format!("Publishing | AdjustJob(october-publish-1: parallelism 1, suspend true) | {HELD}"),
        ),
        row(
            "some open, the topic drained",
            run(),
            suspended(left_over()),
            format!("Sending | RequeueAfter | {HELD}"),
        ),
        row("every bill has an outcome", run(), suspended(all_done()), format!("Sending | Finish | {HELD}")),
        row(
            "sending, released",
            released(run(), CLUSTER),
            suspended(left_over()),
            format!("Sending | Release(month 2026-10) | {HELD}"),
        ),
        row(
            "begun, and not in the database",
            in_phase(Phase::Sending),
            held(observed(None)),
            "Sending | BackOff | !Progressing:RunLost",
        ),
        row(
            "being deleted",
            deleted(in_phase(Phase::Sending)),
            open(sending()),
            "Sending | Cancel(Deleted: the run was deleted before every bill had an outcome) | !Progressing:Deleting",
        ),
    ]);
}

#[test]
fn the_condition_names_what_is_missing_and_the_command_that_releases_the_month() {
    let decision = decide::decide(&run(), &held(observed(None)));
    let text = message(&decision, "Started");
    assert!(text.contains("of 2026-10 from 2026-11-01T12:00:00Z to 2026-11-02T00:00:40.123456Z:"), "{text}");
    let command =
        format!("kubectl -n billing annotate --overwrite nrun october {SEND_AFTER_RESTORE}={CLUSTER}");
    assert!(text.ends_with(&command), "{text}");
}
