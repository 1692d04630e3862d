//! The conditions of kstatus in every phase and with every reason to wait.

use api::conditions::{READY, RECONCILING, STALLED};
use store::billing::Rejection;

use super::*;

/// The phase, and the conditions of kstatus that are `True`, with their reason; `Ready=False` without
/// another is `InProgress`.
fn health(decision: &BillingDecision) -> String {
    let phase = decision.status.phase.map_or("-", Phase::as_str);
    let find = |type_| conditions::find(&decision.status.conditions, type_);
    let ready = find(READY).expect("Ready is always there");
    let found: Vec<&str> = [READY, RECONCILING, STALLED]
        .into_iter()
        .filter(|type_| find(type_).is_some_and(|condition| condition.status == "True"))
        .collect();
    for type_ in [RECONCILING, STALLED] {
        assert!(find(type_).is_none_or(|condition| condition.status == "True"), "{type_} is False");
    }
    assert_eq!(decision.status.observed_generation, Some(1));
    format!("{phase} {} {}", if found.is_empty() { "-".to_owned() } else { found.join("+") }, ready.reason)
}

#[test]
fn every_phase_and_every_reason_to_wait_has_its_health() {
    let month: domain::month::BillingMonth = "2026-10".parse().unwrap();
    let rejected_begin = |rejection| Observed { rejection: Some(rejection), ..observed(None) };
    let mut early = observed(None);
    if let Ok(view) = &mut early.database {
        view.now = time("2026-10-31T14:59:59Z");
    }
    let missing = PriceBookLookup::Missing("none".to_owned());
    let invalid = PriceBookLookup::Found("version: 1".to_owned());
    let manual = || {
        let mut run = run();
        run.spec.approval_policy = ApprovalPolicy::Manual;
        run
    };
    let locked = Rejection::MonthLocked { month, by: "billing/other".to_owned() };
    let incomplete = Rejection::InputsIncomplete { month, missing: "a".to_owned() };
    let cutoff = Rejection::CutoffUnknown { asked: "9".parse().unwrap(), last: "3".parse().unwrap() };
    let billed = Rejection::MonthAlreadyBilled { month, revision: "1".parse().unwrap(), by: String::new() };
    let foreign = JobLookup::Foreign("BillingRun old".to_owned());
    let refused =
        Workers { problem: Some(WorkerProblem::Refused("exceeded quota".to_owned())), ..Workers::default() };
    let awaiting = after(&manual(), &decide::decide(&manual(), &observed(Some(verified(true)))));
    let table = [
        // Before it begins.
        (run(), observed(None), "Planning Reconciling Planning"),
        (suspended(run()), observed(None), "Pending - Suspended"),
        (run(), early, "Pending Reconciling MonthNotOver"),
        (run(), without_database(observed(None)), "Pending Reconciling DatabaseUnavailable"),
        (
            run(),
            Observed { price_book: Some(missing), ..observed(None) },
            "Pending Stalled PriceBookNotFound",
        ),
        (run(), Observed { price_book: Some(invalid), ..observed(None) }, "Pending Stalled PriceBookInvalid"),
        (run(), rejected_begin(locked), "Pending Reconciling MonthLocked"),
        (run(), rejected_begin(Rejection::NoDataLoaded), "Pending Reconciling NoDataLoaded"),
        (run(), rejected_begin(incomplete), "Pending Reconciling InputsIncomplete"),
        (run(), rejected_begin(cutoff), "Pending Stalled DataCutoffUnknown"),
        // While its revision is a draft.
        (run(), with_job(observed(Some(draft())), job()), "Running Reconciling Billing"),
        (suspended(run()), with_job(observed(Some(draft())), job()), "Running - Suspended"),
        (
            run(),
            Observed { workers: waiting("no image"), ..with_job(observed(Some(draft())), job()) },
            "Running Stalled WorkersWaiting",
        ),
        (
            run(),
            Observed { workers: refused, ..with_job(observed(Some(draft())), job()) },
            "Running Stalled PodsRefused",
        ),
        (run(), Observed { job: foreign, ..observed(Some(draft())) }, "Running Stalled JobNameTaken"),
        (run(), observed(Some(RunSnapshot { holds_lock: false, ..draft() })), "Running Stalled LockLost"),
        (run(), observed(Some(all_done())), "Verifying Reconciling Verifying"),
        (run(), observed(Some(verified(true))), "Issuing Reconciling Issuing"),
        (manual(), observed(Some(verified(true))), "AwaitingApproval Stalled ManualApproval"),
        (
            approving(manual(), &"b".repeat(64)),
            observed(Some(verified(true))),
            "AwaitingApproval Stalled DigestMismatch",
        ),
        (awaiting, without_database(observed(None)), "AwaitingApproval Reconciling DatabaseUnavailable"),
        (in_phase(Phase::Running), observed(None), "Running Stalled RevisionLost"),
        (deleted(in_phase(Phase::Running)), observed(Some(draft())), "Running Reconciling Deleting"),
        // Once it is over.
        (run(), observed(Some(live())), "Succeeded Ready Issued"),
        (run(), observed(Some(rejected("WorkersFailed: no"))), "Failed Stalled WorkersFailed"),
        (run(), observed(Some(rejected("by the auditors"))), "Rejected Stalled Rejected"),
        (run(), rejected_begin(billed), "Failed Stalled MonthAlreadyBilled"),
    ];
    for (run, observed, expected) in table {
        assert_eq!(health(&decide::decide(&run, &observed)), expected);
    }
}

#[test]
fn a_run_that_an_earlier_version_finished_gets_the_conditions_and_keeps_the_others() {
    let over = after(&run(), &decide::decide(&run(), &observed(Some(live()))));
    let mut old = over.clone();
    let status = old.status.as_mut().unwrap();
    status.conditions.retain(|condition| !conditions::HEALTH.contains(&condition.type_.as_str()));
    assert_eq!(status.conditions.len(), 3);
    let later = Observed { now: time("2027-01-01T00:00:00Z"), ..without_database(observed(None)) };
    let decision = decide::decide(&old, &later);
    assert_eq!(health(&decision), "Succeeded Ready Issued");
    assert_eq!(decision.status.conditions[..3], over.status.as_ref().unwrap().conditions[..3]);
    assert_eq!(events_of(&old, &decision), Vec::<String>::new());
    // And once: the next decision changes nothing.
    let updated = after(&old, &decision);
    assert_eq!(decide::decide(&updated, &later).status, decision.status);
}

#[test]
fn the_health_of_a_run_writes_no_event_of_its_own() {
    let run = run();
    let decision = decide::decide(&run, &observed(Some(live())));
    assert_eq!(events_of(&run, &decision), ["Planned", "Issued"]);
}
