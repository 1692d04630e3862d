//! Runs that stand still say why, and runs of a name that was used change nothing.

use api::conditions::{ConditionUpdate, PROGRESSING};
use api::reconciled::ReconciledStatus as _;
use store::billing::{EarlierRun, Effect};

use super::*;

/// A run that is billing since the snapshot's time; `observed` reads it this many seconds later, and
/// nothing was done meanwhile.
fn after_seconds(seconds: i64, job: JobState) -> (BillingRun, Observed) {
    let mut run = in_phase(Phase::Running);
    let now = time("2026-11-02T00:00:20Z");
    let update = ConditionUpdate::new(PROGRESSING, true, "Billing", "");
    run.status.as_mut().unwrap().set_conditions(conditions::replace(&[], &[update], None, &Time(now)));
    let later = jiff::SignedDuration::from_secs(seconds);
    let draft = RunSnapshot { now: draft().now + later, members_done_recently: 0, ..draft() };
    let workers = Workers { report: "pod a runs since X".to_owned(), ..Workers::default() };
    (run, Observed { now: now + later, workers, ..with_job(observed(Some(draft)), job) })
}

#[test]
fn a_run_without_a_finished_chunk_for_a_minute_says_what_its_workers_do() {
    let (run, observed) = after_seconds(59, job());
    assert!(summary(&decide::decide(&run, &observed)).ends_with("Progressing:Billing"));
    let (run, mut observed) = after_seconds(60, job());
    observed.lock_waits = Some("2 sessions wait for session 7".to_owned());
    let decision = decide::decide(&run, &observed);
    assert_eq!(summary(&decision), "Running | RequeueAfter | Started:Planned !Progressing:NoProgress");
    assert_eq!(
        message(&decision, PROGRESSING),
        "no chunk was done since 2026-11-02T00:00:12Z; pod a runs since X; 2 sessions wait for session 7"
    );
    assert_eq!(events_of(&run, &decision), ["Planned", "Warning NoProgress"]);
    // What keeps the pods from running comes first.
    observed.workers = waiting("no image");
    assert!(summary(&decide::decide(&run, &observed)).ends_with("!Progressing:WorkersWaiting"));
    // A Job that is being replaced is not at work.
    let (run, observed) = after_seconds(60, JobState { deleting: true, ..job() });
    assert!(summary(&decide::decide(&run, &observed)).ends_with(" Progressing:Billing"));
}

#[test]
fn large_chunks_are_given_the_time_of_ten_of_them() {
    let slow = |seconds: i64| {
        let (run, mut observed) = after_seconds(seconds, job());
        if let Ok(DatabaseView { run: Some(RunRecord::Revision(revision)), .. }) = &mut observed.database {
            // Two chunks in 30 s.
            revision.chunks_done = 2;
            revision.first_claim_at = Some(time("2026-11-01T23:59:41Z"));
            revision.last_done_at = Some(time("2026-11-02T00:00:11Z"));
        }
        summary(&decide::decide(&run, &observed))
    };
    assert!(slow(149).ends_with(" Progressing:Billing"), "{}", slow(149));
    assert!(slow(150).ends_with("!Progressing:NoProgress"), "{}", slow(150));
}

#[test]
fn pods_that_are_refused_are_reported_as_such() {
    let refused = WorkerProblem::Refused("Job october-bill: exceeded quota".to_owned());
    let workers = Workers { problem: Some(refused), ..Workers::default() };
    let observed = Observed { workers, ..with_job(observed(Some(draft())), job()) };
    let decision = decide::decide(&run(), &observed);
    assert_eq!(summary(&decision), "Running | RequeueAfter | Started:Planned !Progressing:PodsRefused");
    assert_eq!(message(&decision, PROGRESSING), "Job october-bill: exceeded quota");
}

#[test]
fn a_run_that_lost_its_finalizer_gets_it_again_before_it_goes_on() {
    let mut run = in_phase(Phase::Running);
    run.metadata.finalizers = None;
    for observed in [observed(Some(draft())), with_job(observed(Some(all_done())), job())] {
        assert_eq!(decide::decide(&run, &observed).next, Next::AddFinalizer);
    }
}

#[test]
fn a_run_of_a_name_that_was_used_ends_without_doing_anything() {
    let earlier = |effect| EarlierRun {
        month: "2026-10".parse().unwrap(),
        revision: "3".parse().unwrap(),
        effect,
        at: time("2026-11-02T01:02:03.5Z"),
    };
    let used = |effect| Observed { earlier: Some(earlier(effect)), price_book: None, ..observed(None) };
    let mut new = run();
    new.metadata.finalizers = None;
    new.spec.ttl_seconds_after_finished = Some(0);
    for (effect, words) in [
        (Effect::Issued, "it issued revision 3 of 2026-10, which is live"),
        (Effect::IssuedAndRolledBack, "it issued revision 3 of 2026-10, which was rolled back since"),
        (Effect::RolledBack, "it rolled revision 3 of 2026-10 back"),
    ] {
        // Neither a missing price book nor a suspension comes first; the ttl does not delete it.
        for run in [new.clone(), suspended(new.clone())] {
            let decision = decide::decide(&run, &used(effect));
            let expected = "Failed | AwaitChange | !Started:NameUsed Failed:NameUsed Finished:NameUsed";
            assert_eq!(summary(&decision), expected);
            let text = message(&decision, conditions::FAILED);
            let start = format!("an earlier run of this name ended at 2026-11-02T01:02:03Z: {words}. ");
            assert!(text.starts_with(&start), "{text}");
            assert_eq!(message(&decision, conditions::STALLED), text);
        }
    }
    let ended = after(&new, &decide::decide(&new, &used(Effect::Issued)));
    let much_later = Observed { now: time("2027-11-02T00:00:00Z"), ..observed(None) };
    assert_eq!(decide::decide(&ended, &much_later).next, Next::AwaitChange);
}
