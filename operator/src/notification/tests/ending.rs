//! The decisions about a run that is over or is deleted.

use super::deciding::{assert_decisions, row, unheld};
use super::*;

fn with_ttl(mut run: NotificationRun, seconds: i64) -> NotificationRun {
    run.spec.ttl_seconds_after_finished = Some(seconds);
    run
}

#[test]
fn once_it_is_over() {
    let succeeded = |run: NotificationRun| after(&run, &decide::decide(&run, &world(Some(finished()))));
    let unknown = closed(
        Snapshot {
            counts: NotificationCounts { sent: 9, unknown: 1, ..NotificationCounts::default() },
            ..all_told()
        },
        NotificationState::Finished,
        None,
    );
    let failed = closed(left_over(), NotificationState::Failed, Some("WorkersFailed: exit code 4"));
    let unsettled = Snapshot { logged: false, ..failed.clone() };
    let ambiguous = Snapshot { handed_over: 1, ..unsettled.clone() };
    let cancelled = closed(left_over(), NotificationState::Cancelled, Some("by hand"));
    assert_decisions(vec![
        row(
            "all sent",
            run(),
            world(Some(finished())),
            "Succeeded | rest | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "one unknown",
            run(),
            world(Some(unknown)),
            "CompletedWithFailures | rest | Started:Started Complete:CompletedWithFailures \
             Finished:CompletedWithFailures",
        ),
        row(
            "its publisher failed",
            run(),
            world(Some(failed)),
            "Failed | rest | Started:Started Failed:WorkersFailed Finished:WorkersFailed",
        ),
        row(
            "its publisher failed with a bill at the mail server",
            in_phase(Phase::Sending),
            world(Some(ambiguous)),
            "Sending | wait | Started:Started !Progressing:Closing",
        ),
        row(
            "its publisher failed and its job log is open",
            in_phase(Phase::Sending),
            world(Some(unsettled)),
            "Sending | Fail(WorkersFailed: exit code 4) | Started:Started !Progressing:Closing",
        ),
        row(
            "called off by hand",
            run(),
            world(Some(cancelled)),
            "Failed | rest | Started:Started Failed:Cancelled Finished:Cancelled",
        ),
        row(
            "over for good, whatever the database says",
            succeeded(run()),
            without_database(world(None)),
            "Succeeded | rest | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "time to live left",
            with_ttl(succeeded(run()), 60),
            without_database(world(None)),
            "Succeeded | wait | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "time to live over",
            with_ttl(succeeded(run()), 9),
            without_database(world(None)),
            "Succeeded | delete run | Started:Started Complete:Sent Finished:Sent",
        ),
        row("lost", in_phase(Phase::Sending), world(None), "Sending | back off | !Progressing:RunLost"),
        row(
            "no database in the middle",
            in_phase(Phase::Sending),
            without_database(world(None)),
            "Sending | back off | !Progressing:DatabaseUnavailable",
        ),
    ]);
}

#[test]
fn when_it_is_deleted() {
    let going = || deleted(in_phase(Phase::Sending));
    let cancelled = closed(
        left_over(),
        NotificationState::Cancelled,
        Some("Deleted: the run was deleted before every bill had an outcome"),
    );
    let unsettled = Snapshot { logged: false, handed_over: 2, ..cancelled.clone() };
    let unlogged = Snapshot { logged: false, ..cancelled.clone() };
    let jobs = |world: World| World { others: vec![publisher()], ..world };
    assert_decisions(vec![
        row("never begun and not held", deleted(unheld(run())), world(None), "- | rest | "),
        row("never begun", deleted(run()), world(None), "- | let go | "),
        row(
            "sending",
            going(),
            jobs(world(Some(sending()))),
            "Sending | Cancel(Deleted: the run was deleted before every bill had an outcome) | !Progressing:Deleting",
        ),
        row(
            "called off, its publisher there",
            going(),
            jobs(world(Some(unsettled.clone()))),
            "Sending | DeleteJob(october-publish-1) | !Progressing:Deleting",
        ),
        row(
            "its publisher's pod left",
            going(),
            World { workers: 1, ..world(Some(unsettled.clone())) },
            "Sending | wait | !Progressing:Deleting",
        ),
        row(
            "bills at the mail server",
            going(),
            world(Some(unsettled)),
            "Sending | wait | Started:Started !Progressing:Closing",
        ),
        row(
            "its job log open",
            going(),
            world(Some(unlogged)),
            "Sending | Cancel(Deleted: the run was deleted before every bill had an outcome) | Started:Started !Progressing:Closing",
        ),
        row(
            "called off",
            going(),
            world(Some(cancelled)),
            "Failed | let go | Started:Started Failed:Deleted Finished:Deleted",
        ),
        row(
            "finished meanwhile",
            going(),
            world(Some(finished())),
            "Succeeded | let go | Started:Started Complete:Sent Finished:Sent",
        ),
        row(
            "no database",
            going(),
            without_database(world(None)),
            "Sending | back off | !Progressing:DatabaseUnavailable",
        ),
        row(
            "over, a Job still there",
            deleted(in_phase(Phase::Succeeded)),
            jobs(without_database(world(None))),
            "Succeeded | DeleteJob(october-publish-1) | ",
        ),
        row("over", deleted(in_phase(Phase::Failed)), without_database(world(None)), "Failed | let go | "),
    ]);
}
