//! Each observation of a run that is not over with the decision that follows.

use api::MemberRange;
use api::notification_run::{NotificationScope, TemplateRef};
use store::notification::Rejection;

use super::*;

const SENDS: &str = "Started:Started Progressing:Sending TransportAvailable:TransportUsable";
const PUBLISHES: &str = "Started:Started Progressing:Publishing TransportAvailable:TransportUsable";
const SUSPENDED: &str =
    "Started:Started Suspended:Suspended !Progressing:Suspended TransportAvailable:TransportUsable";

pub(super) fn without_finalizer(mut run: NotificationRun) -> NotificationRun {
    run.metadata.finalizers = None;
    run
}

fn with_rate(mut run: NotificationRun, per_second: i32) -> NotificationRun {
    run.spec.max_per_second = Some(per_second);
    run
}

fn with(change: impl FnOnce(&mut NotificationRunSpec)) -> NotificationRun {
    let mut run = run();
    change(&mut run.spec);
    run
}

fn suspended_in_database(snapshot: Snapshot) -> Snapshot {
    Snapshot { facts: RunFacts { state: NotificationState::Suspended, ..snapshot.facts.clone() }, ..snapshot }
}

pub(super) fn assert_decisions(table: Vec<(&str, NotificationRun, Observed, String)>) {
    for (name, run, observed, expected) in table {
        assert_eq!(summary(&decide::decide(&run, &observed)), expected, "{name}");
    }
}

pub(super) fn row(
    name: &'static str,
    run: NotificationRun,
    observed: Observed,
    expected: impl Into<String>,
) -> (&'static str, NotificationRun, Observed, String) {
    (name, run, observed, expected.into())
}

#[test]
fn decisions_before_the_run_begins() {
    let missing = Observed { templates: Some(TemplatesLookup::Missing("none".to_owned())), ..observed(None) };
    let mut files = default_templates();
    files.insert("ko.subject.hbs".to_owned(), "{{nobody}}".to_owned());
    let invalid = Observed { templates: Some(TemplatesLookup::Found(files)), ..observed(None) };
    let mut other_language = observed(None);
    other_language.database.as_mut().unwrap().installation.locale = "de".parse().unwrap();
    let mut bills_only = default_templates();
    bills_only.retain(|file, _| !file.contains(".correction."));
    let without_corrections =
        Observed { templates: Some(TemplatesLookup::Found(bills_only)), ..observed(None) };
    let month = "2026-10".parse().unwrap();
    let not_billed = Observed { rejection: Some(Rejection::MonthNotBilled { month }), ..observed(None) };
    let range = MemberRange { from: 0, to: 3 };
    let scope = NotificationScope { member_range: Some(range), member_ids: None };
    assert_decisions(vec![
        row("new", without_finalizer(run()), observed(None), "Pending | AddFinalizer | !Started:Starting"),
        row(
            "with the finalizer",
            run(),
            observed(None),
            "Pending | Begin(month 2026-10, READY) | !Started:Starting",
        ),
        row(
            "failed bills selected",
            with(|spec| spec.select = Select::Failed),
            observed(None),
            "Pending | Begin(month 2026-10, FAILED) | !Started:Starting",
        ),
        row(
            "suspended",
            suspended(run()),
            observed(None),
            "Pending | AwaitChange | !Started:Suspended Suspended:Suspended",
        ),
        row("no templates", run(), missing, "Pending | RequeueAfter | !Started:TemplatesNotFound"),
        row("invalid templates", run(), invalid, "Pending | RequeueAfter | !Started:TemplatesInvalid"),
        row(
            "no templates of the installation's language",
            run(),
            other_language,
            "Pending | RequeueAfter | !Started:TemplatesInvalid",
        ),
        row("no bills", run(), not_billed, "Pending | RequeueAfter | !Started:MonthNotBilled"),
        row(
            "an invalid scope",
            with(|spec| spec.scope = Some(scope)),
            observed(None),
            "Pending | RequeueAfter | !Started:InvalidSpec",
        ),
        row(
            "corrections",
            with(|spec| spec.select = Select::Corrected),
            observed(None),
            "Pending | Begin(month 2026-10, CORRECTED) | !Started:Starting",
        ),
        row(
            "a rehearsal of corrections",
            with(|spec| (spec.select, spec.rehearsal) = (Select::Corrected, true)),
            observed(None),
            "Pending | Begin(month 2026-10, CORRECTED) | !Started:Starting",
        ),
        row(
            "corrections without their templates",
            with(|spec| spec.select = Select::Corrected),
            without_corrections.clone(),
            "Pending | RequeueAfter | !Started:TemplatesInvalid",
        ),
        row(
            "skipped bills, without templates of corrections",
            with(|spec| spec.select = Select::Skipped),
            without_corrections,
            "Pending | Begin(month 2026-10, SKIPPED) | !Started:Starting",
        ),
        row(
            "no database",
            run(),
            without_database(observed(None)),
            "Pending | BackOff | !Started:DatabaseUnavailable",
        ),
    ]);
}

#[test]
fn decisions_while_publishing() {
    let waiting = |why: &str| {
        let mut snapshot = publishing();
        snapshot.publication.as_mut().unwrap().waiting = Some(why.to_owned());
        snapshot
    };
    let failed = JobState { failed: Some("exit code 4: no such topic".to_owned()), ..publisher() };
    let taken = Observed { job: JobLookup::Foreign("Job x".to_owned()), ..observed(Some(publishing())) };
    let pod_problem = Observed {
        workers: super::waiting("no image"),
        ..with_job(observed(Some(publishing())), publisher())
    };
    assert_decisions(vec![
        row(
            "begun",
            run(),
            observed(Some(begun())),
            format!("Publishing | OpenRound(after 0) | {PUBLISHES}"),
        ),
        row(
            "its first round",
            run(),
            observed(Some(publishing())),
            format!("Publishing | CreateJob(october-publish-1) | {PUBLISHES}"),
        ),
        row(
            "its publisher running",
            run(),
            with_job(observed(Some(publishing())), publisher()),
            format!("Publishing | RequeueAfter | {PUBLISHES}"),
        ),
        row(
            "Kafka is unavailable",
            run(),
            with_job(observed(Some(waiting("no broker answers"))), publisher()),
            "Publishing | RequeueAfter | Started:Started !Progressing:KafkaUnavailable TransportAvailable:TransportUsable",
        ),
        row(
            "its pod cannot start",
            run(),
            pod_problem,
            "Publishing | RequeueAfter | Started:Started !Progressing:WorkersWaiting TransportAvailable:TransportUsable",
        ),
        row(
            "its Job's name is taken",
            run(),
            taken,
            "Publishing | RequeueAfter | Started:Started !Progressing:JobNameTaken TransportAvailable:TransportUsable",
        ),
        row(
            "its publisher failed",
            run(),
            with_job(observed(Some(publishing())), failed.clone()),
            "Publishing | Fail(WorkersFailed: exit code 4: no such topic) | Started:Started \
             !Progressing:WorkersFailed TransportAvailable:TransportUsable",
        ),
        row(
            "its publisher is of another version, and failed",
            run(),
            with_job(
                observed(Some(publishing())),
                JobState { image: "monthend:0".to_owned(), ..failed.clone() },
            ),
            format!("Publishing | DeleteJob(october-publish-1) | {PUBLISHES}"),
        ),
        row(
            "its Job complete, its work not",
            run(),
            with_job(observed(Some(publishing())), JobState { complete: true, ..publisher() }),
            format!("Publishing | DeleteJob(october-publish-1) | {PUBLISHES}"),
        ),
        row(
            "its publisher is to be suspended",
            suspended(run()),
            with_job(observed(Some(suspended_in_database(publishing()))), publisher()),
            format!("Publishing | AdjustJob(october-publish-1: parallelism 1, suspend true) | {SUSPENDED}"),
        ),
    ]);
}

#[test]
fn decisions_while_sending() {
    let drained_before =
        Observed { lag: Some(lag(0, "2026-11-02T00:00:29Z")), ..observed(Some(left_over())) };
    let lagging = Observed { lag: Some(lag(7, "2026-11-02T00:00:58Z")), ..observed(Some(left_over())) };
    let unknown_lag = Observed { lag: None, ..observed(Some(left_over())) };
    let unreadable = LagView {
        lag: None,
        unreadable: Some("no broker answers".to_owned()),
        drained: false,
        ..lag(0, "2026-11-02T00:00:58Z")
    };
    let unreadable = Observed { lag: Some(unreadable), ..observed(Some(left_over())) };
    let old = Observed { other_jobs: vec![publisher()], ..observed(Some(sending())) };
    let old_going = Observed {
        other_jobs: vec![JobState { deleting: true, ..publisher() }],
        ..observed(Some(sending()))
    };
    let no_consumers = Snapshot { consumers: Vec::new(), ..sending() };
    let mut no_consumers_yet = Snapshot { consumers: Vec::new(), ..sending() };
    no_consumers_yet.publication.as_mut().unwrap().opened_at = time("2026-11-02T00:00:30Z");
    let refusing = |name| consumer(name, Some("535 5.7.8 authentication failed"));
    let both_refused = Snapshot { consumers: vec![refusing("a"), refusing("b")], ..sending() };
    let one_refused = Snapshot { consumers: vec![refusing("a"), consumer("b", None)], ..sending() };
    let rate_limited =
        Snapshot { facts: RunFacts { max_per_second: Some(50), ..sending().facts }, ..sending() };
    assert_decisions(vec![
        row("bills in flight", run(), observed(Some(sending())), format!("Sending | RequeueAfter | {SENDS}")),
        row(
            "every bill has an outcome",
            run(),
            observed(Some(all_done())),
            format!("Sending | Finish | {SENDS}"),
        ),
        row(
            "no bills",
            run(),
            observed(Some(Snapshot {
                counts: NotificationCounts::default(),
                facts: RunFacts { targets: 0, ..all_done().facts },
                ..all_done()
            })),
            format!("Sending | Finish | {SENDS}"),
        ),
        row(
            "some open, the topic drained",
            run(),
            observed(Some(left_over())),
            format!("Sending | OpenRound(after 1) | {SENDS}"),
        ),
        row(
            "some open, the topic drained before the round ended",
            run(),
            drained_before,
            format!("Sending | RequeueAfter | {SENDS}"),
        ),
        row("some open on the topic", run(), lagging, format!("Sending | RequeueAfter | {SENDS}")),
        row(
            "some open, the lag not read yet",
            run(),
            unknown_lag,
            format!("Sending | RequeueAfter | {SENDS}"),
        ),
        row(
            "the lag cannot be read",
            run(),
            unreadable,
            "Sending | RequeueAfter | Started:Started !Progressing:KafkaUnavailable TransportAvailable:TransportUsable",
        ),
        row(
            "an earlier round's Job",
            run(),
            old,
            format!("Sending | DeleteJob(october-publish-1) | {SENDS}"),
        ),
        row(
            "an earlier round's Job terminating",
            run(),
            old_going,
            format!("Sending | RequeueAfter | {SENDS}"),
        ),
        row(
            "no consumers",
            run(),
            observed(Some(no_consumers)),
            "Sending | RequeueAfter | Started:Started !Progressing:NoConsumers",
        ),
        row(
            "no consumers yet",
            run(),
            observed(Some(no_consumers_yet)),
            "Sending | RequeueAfter | Started:Started Progressing:Sending",
        ),
        row(
            "the mail server refuses",
            run(),
            observed(Some(both_refused)),
            "Sending | RequeueAfter | Started:Started !Progressing:TransportUnavailable !TransportAvailable:TransportUnavailable",
        ),
        row(
            "the mail server refuses one of two consumers",
            run(),
            observed(Some(one_refused)),
            format!("Sending | RequeueAfter | {SENDS}"),
        ),
        row(
            "a new rate limit",
            with_rate(run(), 50),
            observed(Some(sending())),
            format!("Sending | Adjust(suspended false, max per second 50) | {SENDS}"),
        ),
        row(
            "the rate limit applied",
            with_rate(run(), 50),
            observed(Some(rate_limited.clone())),
            format!("Sending | RequeueAfter | {SENDS}"),
        ),
        row(
            "the rate limit removed",
            run(),
            observed(Some(rate_limited)),
            format!("Sending | Adjust(suspended false, max per second none) | {SENDS}"),
        ),
        row(
            "to be suspended",
            suspended(run()),
            observed(Some(sending())),
            format!("Sending | Adjust(suspended true, max per second none) | {SUSPENDED}"),
        ),
        row(
            "suspended",
            suspended(run()),
            observed(Some(suspended_in_database(left_over()))),
            format!("Sending | RequeueAfter | {SUSPENDED}"),
        ),
        row(
            "suspended after every bill had an outcome",
            suspended(run()),
            observed(Some(suspended_in_database(all_done()))),
            format!("Sending | Finish | {SUSPENDED}"),
        ),
        row(
            "to be resumed",
            run(),
            observed(Some(suspended_in_database(left_over()))),
            format!("Sending | Adjust(suspended false, max per second none) | {SENDS}"),
        ),
    ]);
}

#[test]
fn decisions_while_rehearsing() {
    let none_yet = rehearsing(Snapshot { facts: begun().facts, ..begun() });
    let some = rehearsing(Snapshot {
        counts: NotificationCounts { rendered: 6, ..NotificationCounts::default() },
        ..left_over()
    });
    let all = rehearsing(Snapshot {
        counts: NotificationCounts { rendered: 9, failed: 1, ..NotificationCounts::default() },
        open: 0,
        ..left_over()
    });
    let rehearses = "Started:Started Progressing:Rehearsing";
    assert_decisions(vec![
        row(
            "begun",
            rehearsal(),
            observed(Some(none_yet)),
            format!("Publishing | CreateJob(october-rehearse) | {rehearses}"),
        ),
        row(
            "running",
            rehearsal(),
            with_job(observed(Some(some.clone())), job("october-rehearse")),
            format!("Sending | RequeueAfter | {rehearses}"),
        ),
        row(
            "its Job complete, bills left",
            rehearsal(),
            with_job(observed(Some(some)), JobState { complete: true, ..job("october-rehearse") }),
            format!("Sending | DeleteJob(october-rehearse) | {rehearses}"),
        ),
        row(
            "all rendered",
            rehearsal(),
            observed(Some(all.clone())),
            format!("Sending | Finish | {rehearses}"),
        ),
        row(
            "over",
            rehearsal(),
            observed(Some(closed(all, NotificationState::Finished, None))),
            "CompletedWithFailures | RemoveFinalizer | Started:Started Complete:CompletedWithFailures \
             Finished:CompletedWithFailures",
        ),
    ]);
}

#[test]
fn the_delay_before_a_round_doubles_up_to_a_minute() {
    let opens_round = |round: i32, seconds: i64| {
        let mut snapshot = left_over();
        snapshot.facts.round = round;
        let done_at = time(NOW) - jiff::SignedDuration::from_secs(seconds);
        let last = snapshot.publication.as_mut().unwrap();
        (last.round, last.done_at) = (round, Some(done_at));
        let decision =
            decide::decide(&run(), &Observed { lag: Some(lag(0, NOW)), ..observed(Some(snapshot)) });
        matches!(decision.next, Next::Apply(Action::OpenRound { after, .. }) if after == round)
    };
    for (round, delay) in [(1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (7, 60), (90, 60)] {
        assert!(!opens_round(round, delay - 1), "round {round}");
        assert!(opens_round(round, delay), "round {round}");
    }
}

#[test]
fn an_invalid_template_is_named_with_its_configmap() {
    let own = with(|spec| spec.template_ref = Some(TemplateRef { name: "mine".to_owned() }));
    let mut files = default_templates();
    files.insert("en.body.txt.hbs".to_owned(), "hello\n{{nobody}}\n".to_owned());
    let decision =
        decide::decide(&own, &Observed { templates: Some(TemplatesLookup::Found(files)), ..observed(None) });
    let text = message(&decision, "Started");
    assert!(text.starts_with("ConfigMap mine: en.body.txt.hbs, line 2: there is no `nobody` here"), "{text}");
}
