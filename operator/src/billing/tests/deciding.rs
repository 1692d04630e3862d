//! Each state of the world with the decision it leads to.

use api::Limit;
use api::billing_run::Limits;
use store::billing::Rejection;

use super::*;

fn limited(percent: &str) -> BillingRun {
    let mut run = run();
    run.spec.limits =
        Some(Limits { max_quarantined: Some(Limit::Percent(percent.to_owned())), ..Limits::default() });
    run
}

fn manual() -> BillingRun {
    let mut run = run();
    run.spec.approval_policy = ApprovalPolicy::Manual;
    run
}

fn suspended(mut run: BillingRun) -> BillingRun {
    run.spec.suspend = true;
    run
}

fn unheld(mut run: BillingRun) -> BillingRun {
    run.metadata.finalizers = None;
    run
}

fn with_ttl(mut run: BillingRun, seconds: i64) -> BillingRun {
    run.spec.ttl_seconds_after_finished = Some(seconds);
    run
}

fn refused(refusal: Rejection) -> World {
    World { refused: Some(refusal), ..world(None) }
}

fn assert_decisions(table: &[(&str, BillingRun, World, &str)]) {
    for (name, run, world, expected) in table {
        assert_eq!(said(&decide::decide(run, world)), *expected, "{name}");
    }
}

#[test]
fn before_it_begins() {
    let month: domain::month::BillingMonth = "2026-10".parse().unwrap();
    let missing =
        |why: &str| World { price_book: Some(PriceBookFound::Missing(why.to_owned())), ..world(None) };
    let written = |text: String| World { price_book: Some(PriceBookFound::Text(text)), ..world(None) };
    let mut early = world(None);
    if let Ok(stored) = &mut early.database {
        stored.now = time("2026-10-31T14:59:59Z");
    }
    let locked = Rejection::MonthLocked { month, by: "billing/other".to_owned() };
    let billed = Rejection::MonthAlreadyBilled {
        month,
        revision: "1".parse().unwrap(),
        by: "billing/other".to_owned(),
    };
    let cutoff = Rejection::CutoffUnknown { asked: "9".parse().unwrap(), last: "3".parse().unwrap() };
    assert_decisions(&[
        ("new", unheld(run()), world(None), "Planning | hold | !Started:Planning"),
        ("held", run(), world(None), "Planning | Begin(month 2026-10) | !Started:Planning"),
        (
            "suspended",
            suspended(run()),
            world(None),
            "Pending | rest | !Started:Suspended Suspended:Suspended",
        ),
        ("month runs", run(), early, "Pending | wait | !Started:MonthNotOver"),
        (
            "no price book",
            run(),
            missing("there is no ConfigMap book"),
            "Pending | wait | !Started:PriceBookNotFound",
        ),
        (
            "not a price book",
            run(),
            written("version: 1".to_owned()),
            "Pending | wait | !Started:PriceBookInvalid",
        ),
        (
            "another currency",
            run(),
            written(PRICE_BOOK.replace("KRW", "USD")),
            "Pending | wait | !Started:PriceBookInvalid",
        ),
        (
            "another month",
            run(),
            written(PRICE_BOOK.replace("validFrom: 2026-07", "validFrom: 2026-11")),
            "Pending | wait | !Started:PriceBookInvalid",
        ),
        (
            "no database",
            run(),
            without_database(world(None)),
            "Pending | back off | !Started:DatabaseUnavailable",
        ),
        ("locked", run(), refused(locked), "Pending | wait | !Started:MonthLocked"),
        ("no data", run(), refused(Rejection::NoDataLoaded), "Pending | wait | !Started:NoDataLoaded"),
        ("unknown cut-off", run(), refused(cutoff), "Pending | wait | !Started:DataCutoffUnknown"),
        (
            "billed",
            run(),
            refused(billed),
            "Failed | rest | !Started:MonthAlreadyBilled Failed:MonthAlreadyBilled Finished:MonthAlreadyBilled",
        ),
    ]);
}

#[test]
fn while_its_revision_is_a_draft() {
    let stuck =
        World { stuck: Some("pod x can't start".to_owned()), ..with_job(world(Some(draft())), job()) };
    let foreign = World { job: JobFound::Foreign("BillingRun old".to_owned()), ..world(Some(draft())) };
    let with = |job: JobState| with_job(world(Some(draft())), job);
    let fenced = RunSnapshot { holds_lock: false, ..draft() };
    let failed = JobState { failed: Some("shard 2 failed".to_owned()), ..job() };
    assert_decisions(&[
        (
            "planned",
            run(),
            world(Some(draft())),
            "Running | CreateJob(october-bill) | Started:Planned Progressing:Billing",
        ),
        ("at work", run(), with(job()), "Running | wait | Started:Planned Progressing:Billing"),
        ("stuck", run(), stuck, "Running | wait | Started:Planned !Progressing:WorkersWaiting"),
        ("name taken", run(), foreign, "Running | wait | Started:Planned !Progressing:JobNameTaken"),
        (
            "other parallelism",
            run(),
            with(JobState { parallelism: 5, ..job() }),
            "Running | AdjustJob(october-bill: parallelism 2, suspend false) | Started:Planned Progressing:Billing",
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
            "Running | wait | Started:Planned Suspended:Suspended !Progressing:Suspended",
        ),
        (
            "suspended before its Job",
            suspended(run()),
            world(Some(draft())),
            "Running | wait | Started:Planned Suspended:Suspended !Progressing:Suspended",
        ),
        (
            "Job on its way out",
            run(),
            with(JobState { deleting: true, ..job() }),
            "Running | wait | Started:Planned Progressing:Billing",
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
            with_job(world(Some(all_done())), failed),
            "Verifying | Verify(revision 1) | Started:Planned Progressing:Verifying",
        ),
        (
            "chunks done",
            run(),
            with_job(world(Some(all_done())), job()),
            "Verifying | Verify(revision 1) | Started:Planned Progressing:Verifying",
        ),
        (
            "chunks done while suspended",
            suspended(in_phase(Phase::Running)),
            world(Some(all_done())),
            "Running | rest | Started:Planned Suspended:Suspended !Progressing:Suspended",
        ),
        (
            "a check failed",
            run(),
            world(Some(verified(false))),
            "Verifying | Reject(VerificationFailed: these checks failed: members (10 = 9 + 1)) | Started:Planned Progressing:Verifying",
        ),
        (
            "verified",
            run(),
            world(Some(verified(true))),
            "Issuing | Issue(revision 1) | Started:Planned Progressing:Issuing",
        ),
        (
            "fenced out",
            run(),
            world(Some(fenced)),
            "Running | back off | Started:Planned !Progressing:LockLost",
        ),
    ]);
}

#[test]
fn when_approval_is_needed() {
    let verified = || world(Some(verified(true)));
    assert_decisions(&[
        (
            "manual",
            manual(),
            verified(),
            "AwaitingApproval | rest | Started:Planned !Approved:ManualApproval",
        ),
        (
            "over the limit",
            limited("9.9%"),
            verified(),
            "AwaitingApproval | rest | Started:Planned !Approved:LimitExceeded",
        ),
        (
            "at the limit",
            limited("10%"),
            verified(),
            "Issuing | Issue(revision 1) | Started:Planned Progressing:Issuing",
        ),
        (
            "a limit that slipped past the API server",
            limited("lots"),
            verified(),
            "AwaitingApproval | rest | Started:Planned !Approved:LimitInvalid",
        ),
        (
            "approved",
            approving(manual(), DIGEST),
            verified(),
            "Issuing | Issue(revision 1) | Started:Planned Approved:Approved Progressing:Issuing",
        ),
        (
            "approved over the limit",
            approving(limited("1%"), DIGEST),
            verified(),
            "Issuing | Issue(revision 1) | Started:Planned Approved:Approved Progressing:Issuing",
        ),
        (
            "another draft approved",
            approving(manual(), &"b".repeat(64)),
            verified(),
            "AwaitingApproval | rest | Started:Planned !Approved:DigestMismatch",
        ),
        (
            "approval of what needs none",
            approving(run(), &"b".repeat(64)),
            verified(),
            "Issuing | Issue(revision 1) | Started:Planned Progressing:Issuing",
        ),
    ]);
}

#[test]
fn once_it_is_over() {
    let succeeded = |run: BillingRun| after(&run, &decide::decide(&run, &world(Some(live()))));
    assert_decisions(&[
        (
            "issued",
            run(),
            world(Some(live())),
            "Succeeded | rest | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "its workers failed",
            run(),
            world(Some(turned_down("WorkersFailed: shard 2 failed"))),
            "Failed | rest | Started:Planned Failed:WorkersFailed Finished:WorkersFailed",
        ),
        (
            "its checks failed",
            run(),
            world(Some(turned_down("VerificationFailed: members"))),
            "Failed | rest | Started:Planned Failed:VerificationFailed Finished:VerificationFailed",
        ),
        (
            "rejected by hand",
            run(),
            world(Some(turned_down("by the auditors"))),
            "Rejected | rest | Started:Planned Failed:Rejected Finished:Rejected",
        ),
        (
            "over for good, whatever the database says",
            succeeded(run()),
            without_database(world(None)),
            "Succeeded | rest | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "time to live left",
            with_ttl(succeeded(run()), 60),
            without_database(world(None)),
            "Succeeded | wait | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "time to live over",
            with_ttl(succeeded(run()), 3),
            without_database(world(None)),
            "Succeeded | delete run | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "a lost revision",
            in_phase(Phase::Running),
            world(None),
            "Running | back off | !Progressing:RevisionLost",
        ),
        (
            "no database in the middle",
            in_phase(Phase::Running),
            without_database(world(None)),
            "Running | back off | !Progressing:DatabaseUnavailable",
        ),
    ]);
}

#[test]
fn when_it_is_deleted() {
    let running = || deleted(in_phase(Phase::Running));
    let with = |job: JobState| with_job(world(Some(draft())), job);
    let workers_left = World { workers: 1, ..world(Some(draft())) };
    assert_decisions(&[
        ("never begun and not held", deleted(unheld(run())), world(None), "- | rest | "),
        ("never begun", deleted(run()), world(None), "- | let go | "),
        ("at work", running(), with(job()), "Running | DeleteJob(october-bill) | !Progressing:Deleting"),
        (
            "its Job on its way out",
            running(),
            with(JobState { deleting: true, ..job() }),
            "Running | wait | !Progressing:Deleting",
        ),
        ("a worker left", running(), workers_left, "Running | wait | !Progressing:Deleting"),
        (
            "workers gone",
            running(),
            world(Some(draft())),
            "Running | Reject(Deleted: the run was deleted before it was issued) | !Progressing:Deleting",
        ),
        (
            "waiting for approval",
            deleted(in_phase(Phase::AwaitingApproval)),
            world(Some(verified(true))),
            "AwaitingApproval | Reject(Deleted: the run was deleted before it was issued) | !Progressing:Deleting",
        ),
        (
            "draft rejected",
            running(),
            world(Some(turned_down("Deleted: the run was deleted before it was issued"))),
            "Rejected | let go | Started:Planned Failed:Deleted Finished:Deleted",
        ),
        (
            "issued meanwhile",
            running(),
            world(Some(live())),
            "Succeeded | let go | Started:Planned Complete:Issued Finished:Issued",
        ),
        (
            "no database",
            running(),
            without_database(world(None)),
            "Running | back off | !Progressing:DatabaseUnavailable",
        ),
        (
            "over, its Job still there",
            deleted(in_phase(Phase::Succeeded)),
            with_job(without_database(world(None)), job()),
            "Succeeded | DeleteJob(october-bill) | ",
        ),
        ("over", deleted(in_phase(Phase::Succeeded)), without_database(world(None)), "Succeeded | let go | "),
        (
            "somebody else's Job stays",
            deleted(in_phase(Phase::Failed)),
            World { job: JobFound::Foreign("nobody".to_owned()), ..without_database(world(None)) },
            "Failed | let go | ",
        ),
    ]);
}
