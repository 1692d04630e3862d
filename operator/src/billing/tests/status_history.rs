//! Decisions that follow from the last status: phases and conditions that stay, and Events.

use store::billing::Rejection;

use super::*;

#[test]
fn a_retry_keeps_the_last_status() {
    let month = "2026-10".parse().unwrap();
    let locked = Observed {
        rejection: Some(Rejection::MonthLocked { month, by: "billing/other".to_owned() }),
        ..observed(None)
    };
    let run = run();
    let first = decide::decide(&run, &locked);
    let waiting = after(&run, &first);
    let again = decide::decide(&waiting, &observed(None));
    assert!(matches!(again.next, Next::Apply(Action::Begin(_))));
    assert_eq!(again.status, first.status);
    assert_eq!(
        message(&first, "Started"),
        "month 2026-10 is locked by the unfinished run billing/other; this run starts when that run has ended or is deleted"
    );
}

#[test]
fn a_resumed_run_has_a_condition_and_an_event() {
    let mut run = in_phase(Phase::Running);
    run.spec.suspend = true;
    let job_suspended = with_job(observed(Some(draft())), JobState { suspended: true, ..job() });
    let suspended = after(&run, &decide::decide(&run, &job_suspended));

    let mut resumed = suspended;
    resumed.spec.suspend = false;
    let decision = decide::decide(&resumed, &job_suspended);
    assert_eq!(
        summary(&decision),
        "Running | AdjustJob(october-bill: parallelism 2, suspend false) | Started:Planned !Suspended:Resumed Progressing:Billing"
    );
    assert_eq!(events_of(&resumed, &decision), ["Resumed", "Billing"]);
}

#[test]
fn a_suspended_run_is_not_issued_although_it_is_approved() {
    let mut run = in_phase(Phase::AwaitingApproval);
    run.spec.approval_policy = ApprovalPolicy::Manual;
    let waiting = after(&run, &decide::decide(&run, &observed(Some(verified(true)))));
    let mut suspended = approving(waiting, DIGEST);
    suspended.spec.suspend = true;
    assert_eq!(
        summary(&decide::decide(&suspended, &observed(Some(verified(true))))),
        "AwaitingApproval | AwaitChange | Started:Planned Suspended:Suspended !Approved:ManualApproval !Progressing:Suspended"
    );
}

#[test]
fn the_last_status_stays_while_the_database_is_unavailable() {
    let mut run = in_phase(Phase::Running);
    run.spec.suspend = true;
    let suspended = after(&run, &decide::decide(&run, &observed(Some(draft()))));
    let decision = decide::decide(&suspended, &without_database(observed(None)));
    assert_eq!(
        summary(&decision),
        "Running | BackOff | Started:Planned Suspended:Suspended !Progressing:DatabaseUnavailable"
    );
    assert_eq!(decision.status.counts, suspended.status.as_ref().unwrap().counts);
    assert_eq!(events_of(&suspended, &decision), ["Warning DatabaseUnavailable"]);
}

#[test]
fn each_step_of_a_run_writes_one_event() {
    let mut run = run();
    let mut events = Vec::new();
    for observed in [
        without_database(observed(None)),
        observed(None),
        observed(Some(draft())),
        observed(Some(all_done())),
        observed(Some(verified(true))),
        observed(Some(live())),
    ] {
        let decision = decide::decide(&run, &observed);
        events.extend(events_of(&run, &decision));
        run = after(&run, &decision);
        // The same observation again writes no Event.
        assert_eq!(events_of(&run, &decide::decide(&run, &observed)), Vec::<String>::new());
    }
    assert_eq!(
        events,
        ["Warning DatabaseUnavailable", "Planning", "Planned", "Billing", "Verifying", "Issuing", "Issued"]
    );
}

#[test]
fn messages_name_the_problem_and_the_fix() {
    let decide = |run: &BillingRun, observed: &Observed| decide::decide(run, observed);
    let mut early = observed(None);
    if let Ok(view) = &mut early.database {
        view.now = time("2026-10-31T14:59:59Z");
    }
    assert_eq!(
        message(&decide(&run(), &early), "Started"),
        "month 2026-10 ends at 2026-10-31T15:00:00Z (Asia/Seoul); the run starts automatically then"
    );
    let wrong = Observed {
        price_book: Some(PriceBookLookup::Found(PRICE_BOOK.replace("33000", "-1"))),
        ..observed(None)
    };
    let text = decide(&run(), &wrong);
    let text = message(&text, "Started");
    assert!(
        text.starts_with(
            "ConfigMap book, entry pricebook.yaml: the price book is invalid: plans[0].baseFee:"
        ),
        "{text}"
    );

    let mut manual = run();
    manual.spec.approval_policy = ApprovalPolicy::Manual;
    assert_eq!(
        message(&decide(&manual, &observed(Some(verified(true)))), "Approved"),
        format!(
            "approvalPolicy is Manual; the draft passed its checks; approve the draft with spec.approval: \
             {{digest: {DIGEST}, by: YOUR-NAME}}, or delete the run"
        )
    );
    let foreign =
        Observed { job: JobLookup::Foreign("Deployment web".to_owned()), ..observed(Some(draft())) };
    assert_eq!(
        message(&decide(&run(), &foreign), "Progressing"),
        "Job october-bill already exists and belongs to Deployment web; delete that Job, or give this run another name"
    );
    assert_eq!(
        message(&decide(&run(), &observed(Some(rejected("WorkersFailed: shard 2 failed")))), "Failed"),
        "shard 2 failed; nothing of the month has changed, and another run can begin"
    );
    assert_eq!(
        message(&decide(&run(), &observed(Some(live()))), "Complete"),
        "revision 1 of 2026-10 was issued: 9 billed, 1 in quarantine, total 1180591620717411303424"
    );
}
