//! Runs with `spec.rollback`: each observation with the decision that follows.

use api::billing_run::OverRevision;
use store::billing::{Rejection, Rollback};

use super::*;

const SUCCEEDED: &str =
    "Succeeded | AwaitChange | Started:RolledBack Complete:RolledBack Finished:RolledBack";

/// A run that rolls revision 2 back. It has no price book and no finalizer.
fn rollback() -> BillingRun {
    let mut run = run();
    run.metadata.finalizers = None;
    run.spec.price_book_ref = None;
    run.spec.rollback = Some(OverRevision { of_revision: 2, reason: "wrong price book".to_owned() });
    run
}

fn nothing_yet() -> Observed {
    Observed { price_book: None, ..observed(None) }
}

fn refused(rejection: Rejection) -> Observed {
    Observed { rejection: Some(rejection), ..nothing_yet() }
}

fn locked() -> Rejection {
    Rejection::MonthLocked { month: "2026-10".parse().unwrap(), by: "billing/other".to_owned() }
}

fn conflict(live: Option<&str>) -> Rejection {
    let live = live.map(|revision| (revision.parse().unwrap(), "billing/other".to_owned()));
    Rejection::RevisionConflict { month: "2026-10".parse().unwrap(), asked: "2".parse().unwrap(), live }
}

fn billed() -> Rejection {
    Rejection::DifferencesBilled {
        month: "2026-10".parse().unwrap(),
        revision: "2".parse().unwrap(),
        posts_to: "2026-11".parse().unwrap(),
        by_revision: "1".parse().unwrap(),
        by: "billing/november".to_owned(),
    }
}

fn rolled_back(live_again: Option<&str>) -> Observed {
    let mut observed = nothing_yet();
    if let Ok(view) = &mut observed.database {
        view.run = Some(RunRecord::Rollback(Rollback {
            month: "2026-10".parse().unwrap(),
            revision: "2".parse().unwrap(),
            outcomes: 9,
            live_again: live_again.map(|revision| revision.parse().unwrap()),
            rolled_back_at: time("2026-11-02T00:00:18.7Z"),
            now: time("2026-11-02T00:00:19Z"),
        }));
    }
    observed
}

#[test]
fn a_rollback_goes_from_pending_over_issuing() {
    let succeeded = |run: BillingRun| after(&run, &decide::decide(&run, &rolled_back(None)));
    let mut no_such_number = rollback();
    no_such_number.spec.rollback = Some(OverRevision { of_revision: 0, reason: "x".to_owned() });
    assert_decisions(&[
        (
            "new",
            rollback(),
            nothing_yet(),
            "Issuing | RollBack(revision 2 of 2026-10) | !Started:RollingBack",
        ),
        (
            "suspended",
            suspended(rollback()),
            nothing_yet(),
            "Pending | AwaitChange | !Started:Suspended Suspended:Suspended",
        ),
        (
            "a revision that cannot be",
            no_such_number,
            nothing_yet(),
            "Pending | RequeueAfter | !Started:InvalidSpec",
        ),
        (
            "no database",
            rollback(),
            without_database(nothing_yet()),
            "Pending | BackOff | !Started:DatabaseUnavailable",
        ),
        ("locked", rollback(), refused(locked()), "Pending | RequeueAfter | !Started:MonthLocked"),
        (
            "another revision is live",
            rollback(),
            refused(conflict(Some("3"))),
            "Failed | AwaitChange | !Started:RevisionConflict Failed:RevisionConflict Finished:RevisionConflict",
        ),
        (
            "a later month has billed what it has posted",
            rollback(),
            refused(billed()),
            "Failed | AwaitChange | !Started:DifferencesBilled Failed:DifferencesBilled Finished:DifferencesBilled",
        ),
        ("rolled back", rollback(), rolled_back(None), SUCCEEDED),
        ("suspended too late", suspended(rollback()), rolled_back(None), SUCCEEDED),
        ("over, without a database", succeeded(rollback()), without_database(nothing_yet()), SUCCEEDED),
    ]);
}

#[test]
fn a_rollback_that_is_deleted_changes_nothing() {
    let mut with_finalizer = rollback();
    with_finalizer.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    assert_decisions(&[
        ("before it began", deleted(rollback()), nothing_yet(), "- | AwaitChange | "),
        (
            "after it was over",
            deleted(in_phase(Phase::Succeeded)),
            nothing_yet(),
            "Succeeded | RemoveFinalizer | ",
        ),
        ("with a finalizer", deleted(with_finalizer.clone()), nothing_yet(), "- | RemoveFinalizer | "),
        (
            "with a finalizer, rolled back",
            deleted(with_finalizer),
            rolled_back(None),
            "- | RemoveFinalizer | ",
        ),
    ]);
}

#[test]
fn the_status_says_what_was_rolled_back_and_what_is_live_now() {
    let decide = |observed: &Observed| decide::decide(&rollback(), observed);
    let decision = decide(&rolled_back(None));
    let status = &decision.status;
    assert_eq!((status.revision, status.observed_generation), (Some(2), Some(1)));
    assert_eq!(status.completion_time.as_ref().unwrap().0, time("2026-11-02T00:00:18Z"));
    assert!(status.counts.is_none() && status.digest.is_none() && status.price_book.is_none());
    assert_eq!(
        message(&decision, "Complete"),
        "revision 2 of 2026-10 is rolled back: its outcomes of 9 members are no longer live; no revision of the month is live, so that \
         another run can bill it"
    );
    assert_eq!(
        message(&decide(&rolled_back(Some("1"))), "Complete"),
        "revision 2 of 2026-10 is rolled back: its outcomes of 9 members are no longer live; revision 1 is live again"
    );
    assert_eq!(
        message(&decide(&refused(conflict(Some("3")))), "Failed"),
        "revision 2 of month 2026-10 is not the month's highest live revision: revision 3 of run billing/other is; to change \
         that one, create a run with ofRevision: 3"
    );
    assert_eq!(
        message(&decide(&refused(conflict(None))), "Failed"),
        "revision 2 of month 2026-10 is not the month's highest live revision: no revision is live; to bill the month, create \
         a run without rebill and rollback"
    );
}

#[test]
fn each_step_of_a_rollback_writes_one_event() {
    let mut run = rollback();
    let mut events = Vec::new();
    let mut phases = Vec::new();
    for observed in [refused(locked()), nothing_yet(), refused(locked()), rolled_back(None)] {
        let decision = decide::decide(&run, &observed);
        events.extend(events_of(&run, &decision));
        run = after(&run, &decision);
        phases.push(run.phase().unwrap().as_str());
    }
    // A retry keeps the last status.
    assert_eq!(phases, ["Pending", "Pending", "Pending", "Succeeded"]);
    assert_eq!(events, ["Warning MonthLocked", "RolledBack"]);

    let new = rollback();
    assert_eq!(events_of(&new, &decide::decide(&new, &nothing_yet())), ["RollingBack"]);
}
