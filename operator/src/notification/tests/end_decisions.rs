//! Each observation of a run that is over, or is being deleted, with the decision that follows.

use super::decisions::{assert_decisions, row, without_finalizer};
use super::*;

fn with_ttl(mut run: NotificationRun, seconds: i64) -> NotificationRun {
    run.spec.ttl_seconds_after_finished = Some(seconds);
    run
}

#[test]
fn decisions_once_the_run_is_over() {
    let succeeded = |run: NotificationRun| {
        without_finalizer(after(&run, &decide::decide(&run, &observed(Some(finished())))))
    };
    let unknown = closed(
        Snapshot {
            counts: NotificationCounts { sent: 9, unknown: 1, ..NotificationCounts::default() },
            ..all_done()
        },
        NotificationState::Finished,
        None,
    );
    let failed = closed(left_over(), NotificationState::Failed, Some("WorkersFailed: exit code 4"));
    let handed_over = Snapshot { logged: false, ..failed.clone() };
    let ambiguous = Snapshot { handed_over: 1, ..handed_over.clone() };
    let cancelled = closed(left_over(), NotificationState::Cancelled, Some("by hand"));
    assert_decisions(vec![
        row(
            "all sent",
            run(),
            observed(Some(finished())),
            "Succeeded | RemoveFinalizer | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "one unknown",
            run(),
            observed(Some(unknown)),
            "CompletedWithFailures | RemoveFinalizer | Started:Started Complete:CompletedWithFailures \
             Finished:CompletedWithFailures",
        ),
        row(
            "its publisher failed",
            run(),
            observed(Some(failed)),
            "Failed | RemoveFinalizer | Started:Started Failed:WorkersFailed Finished:WorkersFailed",
        ),
        row(
            "its publisher failed, a bill handed over",
            in_phase(Phase::Sending),
            observed(Some(ambiguous)),
            "Sending | RequeueAfter | Started:Started !Progressing:Closing",
        ),
        row(
            "its publisher failed, its job_log row open",
            in_phase(Phase::Sending),
            observed(Some(handed_over)),
            "Sending | Fail(WorkersFailed: exit code 4) | Started:Started !Progressing:Closing",
        ),
        row(
            "cancelled by a person",
            run(),
            observed(Some(cancelled)),
            "Failed | RemoveFinalizer | Started:Started Failed:Cancelled Finished:Cancelled",
        ),
        row(
            "over, without a database",
            succeeded(run()),
            without_database(observed(None)),
            "Succeeded | AwaitChange | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "time to live left",
            with_ttl(succeeded(run()), 60),
            without_database(observed(None)),
            "Succeeded | RequeueAfter | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "time to live over",
            with_ttl(succeeded(run()), 9),
            without_database(observed(None)),
            "Succeeded | DeleteRun | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "not in the database",
            in_phase(Phase::Sending),
            observed(None),
            "Sending | BackOff | !Progressing:RunLost",
        ),
        row(
            "no database during the run",
            in_phase(Phase::Sending),
            without_database(observed(None)),
            "Sending | BackOff | !Progressing:DatabaseUnavailable",
        ),
    ]);
}

#[test]
fn decisions_while_the_run_is_deleted() {
    let deleting = || deleted(in_phase(Phase::Sending));
    let cancelled = closed(
        left_over(),
        NotificationState::Cancelled,
        Some("Deleted: the run was deleted before every bill had an outcome"),
    );
    let handed_over = Snapshot { logged: false, handed_over: 2, ..cancelled.clone() };
    let unlogged = Snapshot { logged: false, ..cancelled.clone() };
    let jobs = |observed: Observed| Observed { other_jobs: vec![publisher()], ..observed };
    let lately = |observed: Observed| Observed { now: time("2026-11-02T00:03:00Z"), ..observed };
    let cancelled_again = cancelled.clone();
    assert_decisions(vec![
        row(
            "never begun, without the finalizer",
            deleted(without_finalizer(run())),
            observed(None),
            "- | AwaitChange | ",
        ),
        row("never begun", deleted(run()), observed(None), "- | RemoveFinalizer | "),
        row(
            "sending",
            deleting(),
            jobs(observed(Some(sending()))),
            "Sending | Cancel(Deleted: the run was deleted before every bill had an outcome) | !Progressing:Deleting",
        ),
        row(
            "cancelled, its publisher left",
            deleting(),
            jobs(observed(Some(handed_over.clone()))),
            "Sending | DeleteJob(october-publish-1) | !Progressing:Deleting",
        ),
        row(
            "its publisher's pod left",
            deleting(),
            Observed { pods_left: 1, ..observed(Some(handed_over.clone())) },
            "Sending | RequeueAfter | !Progressing:Deleting",
        ),
        row(
            "bills handed over",
            deleting(),
            observed(Some(handed_over)),
            "Sending | RequeueAfter | Started:Started !Progressing:Closing",
        ),
        row(
            "its job_log row open",
            deleting(),
            observed(Some(unlogged)),
            "Sending | Cancel(Deleted: the run was deleted before every bill had an outcome) | Started:Started !Progressing:Closing",
        ),
        row(
            "cancelled",
            deleting(),
            observed(Some(cancelled)),
            "Failed | RemoveFinalizer | Started:Started Failed:Deleted Finished:Deleted",
        ),
        row(
            "finished before the deletion",
            deleting(),
            observed(Some(finished())),
            "Succeeded | RemoveFinalizer | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "no database",
            deleting(),
            without_database(observed(None)),
            "Sending | BackOff | !Progressing:DatabaseUnavailable",
        ),
        row(
            "no database for two minutes",
            deleting(),
            lately(without_database(observed(None))),
            "Sending | RemoveFinalizer | ",
        ),
        row(
            "its publisher's pod left for two minutes",
            deleting(),
            lately(Observed { pods_left: 1, ..jobs(observed(Some(cancelled_again))) }),
            "Failed | RemoveFinalizer | Started:Started Failed:Deleted Finished:Deleted",
        ),
        row(
            "over",
            deleted(in_phase(Phase::Failed)),
            without_database(observed(None)),
            "Failed | RemoveFinalizer | ",
        ),
    ]);
}
