//! What a decision makes of what was said before it: phases that stay, conditions that are answered, Events.

use super::*;
use store::billing::Rejection;

fn news(run: &BillingRun, decision: &BillingDecision) -> Vec<String> {
    news::between(run.conditions(), &decision.status.conditions)
        .into_iter()
        .map(|news| format!("{}{}", if news.warning { "Warning " } else { "" }, news.reason))
        .collect()
}

#[test]
fn a_run_that_asks_again_for_its_month_does_not_flicker() {
    let month = "2026-10".parse().unwrap();
    let refused = World {
        refused: Some(Rejection::MonthLocked { month, by: "billing/other".to_owned() }),
        ..world(None)
    };
    let run = run();
    let first = decide::decide(&run, &refused);
    let waiting = after(&run, &first);
    let again = decide::decide(&waiting, &world(None));
    assert!(matches!(again.next, Next::Do(Do::Begin(_))));
    assert_eq!(again.status, first.status);
    assert_eq!(
        message(&first, "Started"),
        "month 2026-10 is locked by the unfinished run billing/other; this run starts when that run has ended or is deleted"
    );
}

#[test]
fn a_resumed_run_says_so() {
    let mut run = in_phase(Phase::Running);
    run.spec.suspend = true;
    let job_suspended = with_job(world(Some(draft())), JobState { suspended: true, ..job() });
    let halted = after(&run, &decide::decide(&run, &job_suspended));

    let mut resumed = halted;
    resumed.spec.suspend = false;
    let decision = decide::decide(&resumed, &job_suspended);
    assert_eq!(
        said(&decision),
        "Running | AdjustJob(october-bill: parallelism 2, suspend false) | Started:Planned !Suspended:Resumed Progressing:Billing"
    );
    assert_eq!(news(&resumed, &decision), ["Resumed", "Billing"]);
}

#[test]
fn approval_waits_out_a_suspension() {
    let mut run = in_phase(Phase::AwaitingApproval);
    run.spec.approval_policy = ApprovalPolicy::Manual;
    let waiting = after(&run, &decide::decide(&run, &world(Some(verified(true)))));
    let mut suspended = approving(waiting, DIGEST);
    suspended.spec.suspend = true;
    assert_eq!(
        said(&decide::decide(&suspended, &world(Some(verified(true))))),
        "AwaitingApproval | rest | Started:Planned Suspended:Suspended !Approved:ManualApproval !Progressing:Suspended"
    );
}

#[test]
fn what_was_said_stays_while_the_database_is_away() {
    let mut run = in_phase(Phase::Running);
    run.spec.suspend = true;
    let halted = after(&run, &decide::decide(&run, &world(Some(draft()))));
    let decision = decide::decide(&halted, &without_database(world(None)));
    assert_eq!(
        said(&decision),
        "Running | back off | Started:Planned Suspended:Suspended !Progressing:DatabaseUnavailable"
    );
    assert_eq!(decision.status.counts, halted.status.as_ref().unwrap().counts);
    assert_eq!(news(&halted, &decision), ["Warning DatabaseUnavailable"]);
}

#[test]
fn a_run_tells_its_story_in_events() {
    let mut run = run();
    let mut story = Vec::new();
    for world in [
        without_database(world(None)),
        world(None),
        world(Some(draft())),
        world(Some(all_done())),
        world(Some(verified(true))),
        world(Some(live())),
    ] {
        let decision = decide::decide(&run, &world);
        story.extend(news(&run, &decision));
        run = after(&run, &decision);
        // The same look again is no news.
        assert_eq!(news(&run, &decide::decide(&run, &world)), Vec::<String>::new());
    }
    assert_eq!(
        story,
        ["Warning DatabaseUnavailable", "Planning", "Planned", "Billing", "Verifying", "Issuing", "Issued"]
    );
}

#[test]
fn messages_name_the_fix() {
    let look = |run: &BillingRun, world: &World| decide::decide(run, world);
    let mut early = world(None);
    if let Ok(stored) = &mut early.database {
        stored.now = time("2026-10-31T14:59:59Z");
    }
    assert_eq!(
        message(&look(&run(), &early), "Started"),
        "month 2026-10 ends at 2026-10-31T15:00:00Z (Asia/Seoul); the run starts by itself then"
    );
    let wrong =
        World { price_book: Some(PriceBookFound::Text(PRICE_BOOK.replace("33000", "-1"))), ..world(None) };
    let text = look(&run(), &wrong);
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
        message(&look(&manual, &world(Some(verified(true)))), "Approved"),
        format!(
            "approvalPolicy is Manual and the draft passed its checks; approve the draft with spec.approval: \
             {{digest: {DIGEST}, by: YOUR-NAME}}, or delete the run"
        )
    );
    let foreign = World { job: JobFound::Foreign("Deployment web".to_owned()), ..world(Some(draft())) };
    assert_eq!(
        message(&look(&run(), &foreign), "Progressing"),
        "Job october-bill is there already and belongs to Deployment web; delete it, or give this run another name"
    );
    assert_eq!(
        message(&look(&run(), &world(Some(turned_down("WorkersFailed: shard 2 failed")))), "Failed"),
        "shard 2 failed; the month is free for another run"
    );
    assert_eq!(
        message(&look(&run(), &world(Some(live()))), "Complete"),
        "revision 1 of 2026-10 is live: 9 billed, 1 in quarantine, total 1180591620717411303424"
    );
}
