//! Each observation with the decision that follows.

use api::billing_run::{AfterSent, Rebill};
use api::conditions::{ConditionUpdate, PROGRESSING};
use store::billing::Rejection;

use super::*;

fn rebilling(of_revision: i32, after_sent: AfterSent) -> BillingRun {
    let mut run = run();
    run.spec.rebill = Some(Rebill { of_revision, reason: "wrong price".to_owned(), after_sent });
    run
}

fn without_finalizer(mut run: BillingRun) -> BillingRun {
    run.metadata.finalizers = None;
    run
}

fn with_ttl(mut run: BillingRun, seconds: i64) -> BillingRun {
    run.spec.ttl_seconds_after_finished = Some(seconds);
    run
}

fn begin_rejected(rejection: Rejection) -> Observed {
    Observed { rejection: Some(rejection), ..observed(None) }
}

#[test]
fn decisions_before_the_run_begins() {
    let month: domain::month::BillingMonth = "2026-10".parse().unwrap();
    let missing =
        |why: &str| Observed { price_book: Some(PriceBookLookup::Missing(why.to_owned())), ..observed(None) };
    let written =
        |text: String| Observed { price_book: Some(PriceBookLookup::Found(text)), ..observed(None) };
    let mut early = observed(None);
    if let Ok(view) = &mut early.database {
        view.now = time("2026-10-31T14:59:59Z");
    }
    let locked = Rejection::MonthLocked { month, by: "billing/other".to_owned() };
    let billed = Rejection::MonthAlreadyBilled {
        month,
        revision: "1".parse().unwrap(),
        by: "billing/other".to_owned(),
    };
    let conflict = Rejection::RevisionConflict {
        month,
        asked: "1".parse().unwrap(),
        live: Some(("2".parse().unwrap(), "billing/other".to_owned())),
    };
    let incomplete = Rejection::InputsIncomplete { month, missing: "source a: nothing is loaded".to_owned() };
    let cutoff = Rejection::CutoffUnknown { asked: "9".parse().unwrap(), last: "3".parse().unwrap() };
    assert_decisions(&[
        ("new", without_finalizer(run()), observed(None), "Planning | AddFinalizer | !Started:Planning"),
        ("with the finalizer", run(), observed(None), "Planning | Begin(month 2026-10) | !Started:Planning"),
        (
            "suspended",
            suspended(run()),
            observed(None),
            "Pending | AwaitChange | !Started:Suspended Suspended:Suspended",
        ),
        ("the month is not over", run(), early, "Pending | RequeueAfter | !Started:MonthNotOver"),
        (
            "no price book",
            run(),
            missing("there is no ConfigMap book"),
            "Pending | RequeueAfter | !Started:PriceBookNotFound",
        ),
        (
            "an incomplete price book",
            run(),
            written("version: 1".to_owned()),
            "Pending | RequeueAfter | !Started:PriceBookInvalid",
        ),
        (
            "a price book in another currency",
            run(),
            written(PRICE_BOOK.replace("KRW", "USD")),
            "Pending | RequeueAfter | !Started:PriceBookInvalid",
        ),
        (
            "a price book that is not valid yet",
            run(),
            written(PRICE_BOOK.replace("validFrom: 2026-07", "validFrom: 2026-11")),
            "Pending | RequeueAfter | !Started:PriceBookInvalid",
        ),
        (
            "no database",
            run(),
            without_database(observed(None)),
            "Pending | BackOff | !Started:DatabaseUnavailable",
        ),
        ("locked", run(), begin_rejected(locked), "Pending | RequeueAfter | !Started:MonthLocked"),
        (
            "no data",
            run(),
            begin_rejected(Rejection::NoDataLoaded),
            "Pending | RequeueAfter | !Started:NoDataLoaded",
        ),
        (
            "unknown cut-off",
            run(),
            begin_rejected(cutoff),
            "Pending | RequeueAfter | !Started:DataCutoffUnknown",
        ),
        (
            "input is missing",
            run(),
            begin_rejected(incomplete),
            "Pending | RequeueAfter | !Started:InputsIncomplete",
        ),
        (
            "already billed",
            run(),
            begin_rejected(billed),
            "Failed | RemoveFinalizer | !Started:MonthAlreadyBilled Failed:MonthAlreadyBilled Finished:MonthAlreadyBilled",
        ),
        (
            "a month to be billed again",
            rebilling(1, AfterSent::Revise),
            observed(None),
            "Planning | Begin(month 2026-10, over revision 1) | !Started:Planning",
        ),
        (
            "a revision to bill again that cannot be",
            rebilling(0, AfterSent::Revise),
            observed(None),
            "Pending | RequeueAfter | !Started:InvalidSpec",
        ),
        (
            "a month to be billed again, without the bills that were sent",
            rebilling(1, AfterSent::Adjust),
            observed(None),
            "Planning | Begin(month 2026-10, over revision 1, adjusting) | !Started:Planning",
        ),
        (
            "another revision is live",
            rebilling(1, AfterSent::Revise),
            begin_rejected(conflict),
            "Failed | RemoveFinalizer | !Started:RevisionConflict Failed:RevisionConflict Finished:RevisionConflict",
        ),
    ]);
}

#[test]
fn decisions_while_the_revision_is_a_draft() {
    let pod_problem =
        Observed { workers: waiting("pod x cannot start"), ..with_job(observed(Some(draft())), job()) };
    let foreign =
        Observed { job: JobLookup::Foreign("BillingRun old".to_owned()), ..observed(Some(draft())) };
    let with = |job: JobState| with_job(observed(Some(draft())), job);
    let fenced = RunSnapshot { holds_lock: false, ..draft() };
    let failed = JobState { failed: Some("shard 2 failed".to_owned()), ..job() };
    assert_decisions(&[
        (
            "planned",
            run(),
            observed(Some(draft())),
            "Running | CreateJob(october-bill) | Started:Planned Progressing:Billing",
        ),
        (
            "workers running",
            run(),
            with(job()),
            "Running | RequeueAfter | Started:Planned Progressing:Billing",
        ),
        (
            "a pod cannot start",
            run(),
            pod_problem,
            "Running | RequeueAfter | Started:Planned !Progressing:WorkersWaiting",
        ),
        ("name taken", run(), foreign, "Running | RequeueAfter | Started:Planned !Progressing:JobNameTaken"),
        (
            "other parallelism",
            run(),
            with(JobState { parallelism: 5, ..job() }),
            "Running | AdjustJob(october-bill: parallelism 2, suspend false) | Started:Planned Progressing:Billing",
        ),
        (
            "workers of another version",
            run(),
            with(JobState { image: "monthend:0".to_owned(), ..job() }),
            "Running | DeleteJob(october-bill) | Started:Planned Progressing:Billing",
        ),
        (
            "failed workers of another version",
            run(),
            with(JobState { image: "monthend:0".to_owned(), ..failed.clone() }),
            "Running | DeleteJob(october-bill) | Started:Planned Progressing:Billing",
        ),
        (
            "to be suspended",
            suspended(run()),
            with(job()),
            "Running | AdjustJob(october-bill: parallelism 2, suspend true) | Started:Planned Suspended:Suspended !Progressing:Suspended",
        ),
        (
            "suspended",
            suspended(run()),
            with(JobState { suspended: true, ..job() }),
            "Running | RequeueAfter | Started:Planned Suspended:Suspended !Progressing:Suspended",
        ),
        (
            "suspended before its Job",
            suspended(run()),
            observed(Some(draft())),
            "Running | RequeueAfter | Started:Planned Suspended:Suspended !Progressing:Suspended",
        ),
        (
            "Job terminating",
            run(),
            with(JobState { deleting: true, ..job() }),
            "Running | RequeueAfter | Started:Planned Progressing:Billing",
        ),
        (
            "Job done, chunks not",
            run(),
            with(JobState { complete: true, ..job() }),
            "Running | DeleteJob(october-bill) | Started:Planned Progressing:Billing",
        ),
        (
            "Job failed",
            run(),
            with(failed.clone()),
            "Running | Reject(WorkersFailed: shard 2 failed) | Started:Planned Progressing:WorkersFailed",
        ),
        (
            "Job failed after its last chunk",
            run(),
            with_job(observed(Some(all_done())), failed),
            "Verifying | Verify(revision 1) | Started:Planned Progressing:Verifying",
        ),
        (
            "chunks done",
            run(),
            with_job(observed(Some(all_done())), job()),
            "Verifying | Verify(revision 1) | Started:Planned Progressing:Verifying",
        ),
        (
            "chunks done while suspended",
            suspended(in_phase(Phase::Running)),
            observed(Some(all_done())),
            "Running | AwaitChange | Started:Planned Suspended:Suspended !Progressing:Suspended",
        ),
        (
            "a check failed",
            run(),
            observed(Some(verified(false))),
            "Verifying | Reject(VerificationFailed: these checks failed: members (10 = 9 + 1)) | Started:Planned Progressing:Verifying",
        ),
        (
            "verified",
            run(),
            observed(Some(verified(true))),
            "Issuing | Issue(revision 1) | Started:Planned Progressing:Issuing",
        ),
        (
            "lock taken over",
            run(),
            observed(Some(fenced)),
            "Running | BackOff | Started:Planned !Progressing:LockLost",
        ),
    ]);
}

#[test]
fn decisions_once_the_run_is_over() {
    let succeeded =
        |run: BillingRun| without_finalizer(after(&run, &decide::decide(&run, &observed(Some(live())))));
    assert_decisions(&[
        (
            "issued",
            run(),
            observed(Some(live())),
            "Succeeded | RemoveFinalizer | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "its workers failed",
            run(),
            observed(Some(rejected("WorkersFailed: shard 2 failed"))),
            "Failed | RemoveFinalizer | Started:Planned Failed:WorkersFailed Finished:WorkersFailed",
        ),
        (
            "its checks failed",
            run(),
            observed(Some(rejected("VerificationFailed: members"))),
            "Failed | RemoveFinalizer | Started:Planned Failed:VerificationFailed Finished:VerificationFailed",
        ),
        (
            "rejected by a person",
            run(),
            observed(Some(rejected("by the auditors"))),
            "Rejected | RemoveFinalizer | Started:Planned Failed:Rejected Finished:Rejected",
        ),
        (
            "over, with the finalizer of an earlier version, its time to live over",
            with_ttl(after(&run(), &decide::decide(&run(), &observed(Some(live())))), 3),
            without_database(observed(None)),
            "Succeeded | RemoveFinalizer | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "over, without a database",
            succeeded(run()),
            without_database(observed(None)),
            "Succeeded | AwaitChange | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "time to live left",
            with_ttl(succeeded(run()), 60),
            without_database(observed(None)),
            "Succeeded | RequeueAfter | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "time to live over",
            with_ttl(succeeded(run()), 3),
            without_database(observed(None)),
            "Succeeded | DeleteRun | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "revision not in the database",
            in_phase(Phase::Running),
            observed(None),
            "Running | BackOff | !Progressing:RevisionLost",
        ),
        (
            "no database during the run",
            in_phase(Phase::Running),
            without_database(observed(None)),
            "Running | BackOff | !Progressing:DatabaseUnavailable",
        ),
    ]);
}

#[test]
fn decisions_while_the_run_is_deleted() {
    let running = || deleted(in_phase(Phase::Running));
    let with = |job: JobState| Observed { jobs_left: vec![job], ..observed(Some(draft())) };
    let lately = |observed: Observed| Observed { now: time("2026-11-02T00:02:00Z"), ..observed };
    let failing = |reason: &str| {
        let mut run = running();
        let update = ConditionUpdate::new(PROGRESSING, false, reason, "no");
        let status = run.status.as_mut().unwrap();
        status.conditions = conditions::replace(&[], &[update], None, &Time(time("2026-11-02T00:01:00Z")));
        run
    };
    let workers_left = Observed { pods_left: 1, ..observed(Some(draft())) };
    assert_decisions(&[
        (
            "never begun, without the finalizer",
            deleted(without_finalizer(run())),
            observed(None),
            "- | AwaitChange | ",
        ),
        ("never begun", deleted(run()), observed(None), "- | RemoveFinalizer | "),
        (
            "workers running",
            running(),
            with(job()),
            "Running | DeleteJob(october-bill) | !Progressing:Deleting",
        ),
        (
            "its Job terminating",
            running(),
            with(JobState { deleting: true, ..job() }),
            "Running | RequeueAfter | !Progressing:Deleting",
        ),
        ("a pod left", running(), workers_left, "Running | RequeueAfter | !Progressing:Deleting"),
        (
            "no worker left",
            running(),
            observed(Some(draft())),
            "Running | Reject(Deleted: the run was deleted before it was issued) | !Progressing:Deleting",
        ),
        (
            "waiting for approval",
            deleted(in_phase(Phase::AwaitingApproval)),
            observed(Some(verified(true))),
            "AwaitingApproval | Reject(Deleted: the run was deleted before it was issued) | !Progressing:Deleting",
        ),
        (
            "draft rejected",
            running(),
            observed(Some(rejected("Deleted: the run was deleted before it was issued"))),
            "Rejected | RemoveFinalizer | Started:Planned Failed:Deleted Finished:Deleted",
        ),
        (
            "issued before the deletion",
            running(),
            observed(Some(live())),
            "Succeeded | RemoveFinalizer | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "no database",
            running(),
            without_database(observed(None)),
            "Running | BackOff | !Progressing:DatabaseUnavailable",
        ),
        (
            "no database for two minutes",
            running(),
            lately(without_database(observed(None))),
            "Running | RemoveFinalizer | ",
        ),
        (
            "a pod that never ends, no database for two minutes",
            running(),
            lately(Observed { pods_left: 1, ..without_database(with(job())) }),
            "Running | RemoveFinalizer | ",
        ),
        (
            "a pod that has not ended for two minutes",
            running(),
            lately(Observed { pods_left: 1, ..with(JobState { deleting: true, ..job() }) }),
            "Running | Reject(Deleted: the run was deleted before it was issued) | !Progressing:Deleting",
        ),
        (
            "a draft that cannot be rejected",
            failing("ActionFailed"),
            observed(Some(draft())),
            "Running | Reject(Deleted: the run was deleted before it was issued) | !Progressing:Deleting",
        ),
        (
            "a draft that could not be rejected for two minutes",
            failing("ActionFailed"),
            lately(observed(Some(draft()))),
            "Running | RemoveFinalizer | !Progressing:ActionFailed",
        ),
        (
            "over",
            deleted(in_phase(Phase::Succeeded)),
            without_database(observed(None)),
            "Succeeded | RemoveFinalizer | ",
        ),
    ]);
}
