//! Runs that stand still say why, and runs of a name that was used change nothing.

use api::conditions::{ConditionUpdate, PROGRESSING};
use api::reconciled::ReconciledStatus as _;
use store::notification::EarlierRun;

use super::*;
use crate::notification::decide::progressing;

/// A run that works since [`NOW`]; `observed` reads this snapshot so many seconds later.
fn after_seconds(seconds: i64, phase: Phase, snapshot: Snapshot) -> (NotificationRun, Observed) {
    let mut run = in_phase(phase);
    let now = time(NOW);
    let update = ConditionUpdate::new(PROGRESSING, true, "Sending", "");
    run.status.as_mut().unwrap().set_conditions(conditions::replace(&[], &[update], None, &Time(now)));
    let later = jiff::SignedDuration::from_secs(seconds);
    let snapshot = Snapshot { now: snapshot.now + later, ended_recently: 0, ..snapshot };
    let workers = Workers { report: "pod a runs since X".to_owned(), ..Workers::default() };
    (run, Observed { now: now + later, workers, ..observed(Some(snapshot)) })
}

#[test]
fn a_run_without_an_outcome_for_three_minutes_says_what_is_known() {
    let sent = || Snapshot { last_ended_at: Some(time("2026-11-02T00:00:59Z")), ..sending() };
    let (run, observed) = after_seconds(179, Phase::Sending, sent());
    assert!(summary(&decide::decide(&run, &observed)).contains(" Progressing:Sending"));
    let (run, observed) = after_seconds(180, Phase::Sending, sent());
    let decision = decide::decide(&run, &observed);
    assert!(summary(&decision).contains("!Progressing:NoProgress"), "{}", summary(&decision));
    assert_eq!(
        message(&decision, PROGRESSING),
        "no bill got an outcome since 2026-11-02T00:01:00Z: 4 are open, of which consumers have claimed 1 and handed 1 over to \
         the mail server; 1 consumers have reported within 30 s; 0 messages wait on the topic; the consumers send through \
         smtp://mail:25"
    );
    // An outcome ends it.
    let still = after(&run, &decision);
    let (_, mut observed) = after_seconds(181, Phase::Sending, sent());
    if let Ok(DatabaseView { run: Some(snapshot), .. }) = &mut observed.database {
        snapshot.last_ended_at = Some(snapshot.now);
    }
    assert!(summary(&decide::decide(&still, &observed)).contains(" Progressing:Sending"));
}

#[test]
fn a_publisher_or_a_rehearsal_that_does_nothing_says_what_its_pod_does() {
    let rehearsed = rehearsing(left_over());
    for (mut run, observed, job) in [
        (after_seconds(180, Phase::Publishing, publishing()), publisher()),
        (after_seconds(180, Phase::Sending, rehearsed), job("october-rehearse")),
    ]
    .map(|((run, observed), job)| (run, observed, job))
    {
        run.spec.rehearsal = job.name.ends_with("rehearse");
        let decision = decide::decide(&run, &with_job(observed, job));
        assert!(summary(&decision).contains("!Progressing:NoProgress"), "{}", summary(&decision));
        let text = message(&decision, PROGRESSING);
        assert_eq!(text, "no bill got an outcome since 2026-11-02T00:01:00Z; pod a runs since X");
    }
}

#[test]
fn consumers_that_cannot_run_are_named_at_once() {
    let problem = "Deployment monthend-notify: pod x cannot start (ImagePullBackOff): no such image";
    let idle = Snapshot { ended_recently: 0, ..sending() };
    let observed = Observed { consumer_problem: Some(problem.to_owned()), ..observed(Some(idle.clone())) };
    let decision = decide::decide(&run(), &observed);
    assert!(summary(&decision).contains("!Progressing:NoConsumers"), "{}", summary(&decision));
    assert_eq!(message(&decision, PROGRESSING), problem);
    assert_eq!(message(&decision, conditions::STALLED), problem);

    // When their pods are worth a look: nothing gets an outcome, and none has reported or is ready.
    let none_ready =
        LagView { consumers: Some(Consumers { replicas: 2, ready: 0, desired: 2 }), ..lag(7, NOW) };
    let silent = Snapshot { consumers: Vec::new(), ..idle.clone() };
    assert!(progressing::may_lack_consumers(&silent, None));
    assert!(progressing::may_lack_consumers(&idle, Some(&none_ready)));
    assert!(!progressing::may_lack_consumers(&idle, Some(&lag(7, NOW))));
    assert!(!progressing::may_lack_consumers(&sending(), Some(&none_ready)));
    assert!(!progressing::may_lack_consumers(&rehearsing(silent), None));
}

#[test]
fn a_publisher_whose_pod_is_refused_is_reported_as_such() {
    let refused = WorkerProblem::Refused("Job october-publish-1: exceeded quota".to_owned());
    let workers = Workers { problem: Some(refused), ..Workers::default() };
    let observed = Observed { workers, ..with_job(observed(Some(publishing())), publisher()) };
    let decision = decide::decide(&run(), &observed);
    assert!(summary(&decision).contains("!Progressing:PodsRefused"), "{}", summary(&decision));
}

#[test]
fn a_run_that_lost_its_finalizer_gets_it_again_before_it_goes_on() {
    let mut run = in_phase(Phase::Sending);
    run.metadata.finalizers = None;
    assert_eq!(decide::decide(&run, &observed(Some(sending()))).next, Next::AddFinalizer);
}

#[test]
fn a_run_of_a_name_that_was_used_ends_without_doing_anything() {
    let at = time("2026-11-02T01:02:03.5Z");
    let earlier = EarlierRun { month: "2026-10".parse().unwrap(), targets: 10, succeeded: 9, at };
    let used = Observed { earlier: Some(earlier), templates: None, ..observed(None) };
    let mut new = run();
    new.metadata.finalizers = None;
    new.spec.ttl_seconds_after_finished = Some(0);
    for select in [Select::Ready, Select::Unknown] {
        new.spec.select = select;
        let decision = decide::decide(&new, &used);
        let expected = "Failed | AwaitChange | !Started:NameUsed Failed:NameUsed Finished:NameUsed";
        assert_eq!(summary(&decision), expected);
        let text = message(&decision, conditions::FAILED);
        let start = "an earlier run of this name ended at 2026-11-02T01:02:03Z: it had selected 10 bills of 2026-10, and 9 of \
                     them succeeded. ";
        assert!(text.starts_with(start), "{text}");
        // Its ttl does not delete it.
        assert_eq!(decide::decide(&after(&new, &decision), &observed(None)).next, Next::AwaitChange);
    }
}
