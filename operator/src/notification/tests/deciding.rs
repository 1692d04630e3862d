//! Each state of the world with the decision it leads to.

use api::{
    MemberRange,
    notification_run::{NotificationScope, TemplateRef},
};
use store::notification::Rejection;

use super::*;

const SENDS: &str = "Started:Started Progressing:Sending TransportAvailable:TransportUsable";
const PUBLISHES: &str = "Started:Started Progressing:Publishing TransportAvailable:TransportUsable";
const HALTED: &str =
    "Started:Started Suspended:Suspended !Progressing:Suspended TransportAvailable:TransportUsable";

pub(super) fn unheld(mut run: NotificationRun) -> NotificationRun {
    run.metadata.finalizers = None;
    run
}

fn at_most(mut run: NotificationRun, per_second: i32) -> NotificationRun {
    run.spec.max_per_second = Some(per_second);
    run
}

fn with(change: impl FnOnce(&mut NotificationRunSpec)) -> NotificationRun {
    let mut run = run();
    change(&mut run.spec);
    run
}

fn halted(snapshot: Snapshot) -> Snapshot {
    Snapshot { facts: RunFacts { state: NotificationState::Suspended, ..snapshot.facts.clone() }, ..snapshot }
}

pub(super) fn assert_decisions(table: Vec<(&str, NotificationRun, World, String)>) {
    for (name, run, world, expected) in table {
        assert_eq!(said(&decide::decide(&run, &world)), expected, "{name}");
    }
}

pub(super) fn row(
    name: &'static str,
    run: NotificationRun,
    world: World,
    expected: impl Into<String>,
) -> (&'static str, NotificationRun, World, String) {
    (name, run, world, expected.into())
}

#[test]
fn before_it_begins() {
    let missing = World { templates: Some(TemplatesFound::Missing("none".to_owned())), ..world(None) };
    let mut files = default_templates();
    files.insert("ko.subject.hbs".to_owned(), "{{nobody}}".to_owned());
    let invalid = World { templates: Some(TemplatesFound::Files(files)), ..world(None) };
    let month = "2026-10".parse().unwrap();
    let refused = World { refused: Some(Rejection::MonthNotBilled { month }), ..world(None) };
    let range = MemberRange { from: 0, to: 3 };
    let scope = NotificationScope { member_range: Some(range), member_ids: None };
    assert_decisions(vec![
        row("new", unheld(run()), world(None), "Pending | hold | !Started:Starting"),
        row("held", run(), world(None), "Pending | Begin(month 2026-10, READY) | !Started:Starting"),
        row(
            "of failed ones",
            with(|spec| spec.select = Select::Failed),
            world(None),
            "Pending | Begin(month 2026-10, FAILED) | !Started:Starting",
        ),
        row(
            "suspended",
            suspended(run()),
            world(None),
            "Pending | rest | !Started:Suspended Suspended:Suspended",
        ),
        row("no templates", run(), missing, "Pending | wait | !Started:TemplatesNotFound"),
        row("templates that can't be used", run(), invalid, "Pending | wait | !Started:TemplatesInvalid"),
        row("no bills", run(), refused, "Pending | wait | !Started:MonthNotBilled"),
        row(
            "a scope that slipped past the API server",
            with(|spec| spec.scope = Some(scope)),
            world(None),
            "Pending | wait | !Started:InvalidSpec",
        ),
        row(
            "a selection that slipped past the API server",
            with(|spec| spec.select = Select::Corrected),
            world(None),
            "Pending | wait | !Started:InvalidSpec",
        ),
        row(
            "no database",
            run(),
            without_database(world(None)),
            "Pending | back off | !Started:DatabaseUnavailable",
        ),
    ]);
}

#[test]
fn while_it_publishes() {
    let waiting = |why: &str| {
        let mut snapshot = publishing();
        snapshot.publication.as_mut().unwrap().waiting = Some(why.to_owned());
        snapshot
    };
    let failed = JobState { failed: Some("exit code 4: no such topic".to_owned()), ..publisher() };
    let taken = World { job: JobFound::Foreign("Job x".to_owned()), ..world(Some(publishing())) };
    let stuck =
        World { stuck: Some("no image".to_owned()), ..with_job(world(Some(publishing())), publisher()) };
    assert_decisions(vec![
        row("begun", run(), world(Some(begun())), format!("Publishing | OpenRound(after 0) | {PUBLISHES}")),
        row(
            "its first round",
            run(),
            world(Some(publishing())),
            format!("Publishing | CreateJob(october-publish-1) | {PUBLISHES}"),
        ),
        row(
            "its publisher at work",
            run(),
            with_job(world(Some(publishing())), publisher()),
            format!("Publishing | wait | {PUBLISHES}"),
        ),
        row(
            "Kafka is away",
            run(),
            with_job(world(Some(waiting("no broker answers"))), publisher()),
            "Publishing | wait | Started:Started !Progressing:KafkaUnavailable TransportAvailable:TransportUsable",
        ),
        row(
            "its pod can't start",
            run(),
            stuck,
            "Publishing | wait | Started:Started !Progressing:WorkersWaiting TransportAvailable:TransportUsable",
        ),
        row(
            "its Job's name is taken",
            run(),
            taken,
            "Publishing | wait | Started:Started !Progressing:JobNameTaken TransportAvailable:TransportUsable",
        ),
        row(
            "its publisher failed",
            run(),
            with_job(world(Some(publishing())), failed),
            "Publishing | Fail(WorkersFailed: exit code 4: no such topic) | Started:Started \
             !Progressing:WorkersFailed TransportAvailable:TransportUsable",
        ),
        row(
            "its publisher says it is done, though it isn't",
            run(),
            with_job(world(Some(publishing())), JobState { complete: true, ..publisher() }),
            format!("Publishing | DeleteJob(october-publish-1) | {PUBLISHES}"),
        ),
        row(
            "its publisher is to stop",
            suspended(run()),
            with_job(world(Some(halted(publishing()))), publisher()),
            format!("Publishing | AdjustJob(october-publish-1: parallelism 1, suspend true) | {HALTED}"),
        ),
    ]);
}

#[test]
fn while_it_sends() {
    let drained_before = World { lag: Some(lag(0, "2026-11-02T00:00:29Z")), ..world(Some(left_over())) };
    let lagging = World { lag: Some(lag(7, "2026-11-02T00:00:58Z")), ..world(Some(left_over())) };
    let unknown_lag = World { lag: None, ..world(Some(left_over())) };
    let unreadable = LagView {
        lag: None,
        unreadable: Some("no broker answers".to_owned()),
        drained: false,
        ..lag(0, "2026-11-02T00:00:58Z")
    };
    let unreadable = World { lag: Some(unreadable), ..world(Some(left_over())) };
    let old = World { others: vec![publisher()], ..world(Some(sending())) };
    let old_going =
        World { others: vec![JobState { deleting: true, ..publisher() }], ..world(Some(sending())) };
    let nobody = Snapshot { consumers: Vec::new(), ..sending() };
    let mut nobody_yet = Snapshot { consumers: Vec::new(), ..sending() };
    nobody_yet.publication.as_mut().unwrap().opened_at = time("2026-11-02T00:00:30Z");
    let refusing = |name| consumer(name, Some("535 5.7.8 authentication failed"));
    let troubled = Snapshot { consumers: vec![refusing("a"), refusing("b")], ..sending() };
    let one_fine = Snapshot { consumers: vec![refusing("a"), consumer("b", None)], ..sending() };
    let paced = Snapshot { facts: RunFacts { max_per_second: Some(50), ..sending().facts }, ..sending() };
    assert_decisions(vec![
        row("bills in hand", run(), world(Some(sending())), format!("Sending | wait | {SENDS}")),
        row("every bill told", run(), world(Some(all_told())), format!("Sending | Finish | {SENDS}")),
        row(
            "nothing to tell",
            run(),
            world(Some(Snapshot {
                counts: NotificationCounts::default(),
                facts: RunFacts { targets: 0, ..all_told().facts },
                ..all_told()
            })),
            format!("Sending | Finish | {SENDS}"),
        ),
        row(
            "some open, the topic drained",
            run(),
            world(Some(left_over())),
            format!("Sending | OpenRound(after 1) | {SENDS}"),
        ),
        row(
            "some open, the topic drained before they were on it",
            run(),
            drained_before,
            format!("Sending | wait | {SENDS}"),
        ),
        row("some open on the topic", run(), lagging, format!("Sending | wait | {SENDS}")),
        row(
            "some open, the topic not looked at yet",
            run(),
            unknown_lag,
            format!("Sending | wait | {SENDS}"),
        ),
        row(
            "the lag can't be read",
            run(),
            unreadable,
            "Sending | wait | Started:Started !Progressing:KafkaUnavailable TransportAvailable:TransportUsable",
        ),
        row(
            "an earlier round's Job",
            run(),
            old,
            format!("Sending | DeleteJob(october-publish-1) | {SENDS}"),
        ),
        row("an earlier round's Job on its way out", run(), old_going, format!("Sending | wait | {SENDS}")),
        row(
            "nobody sends",
            run(),
            world(Some(nobody)),
            "Sending | wait | Started:Started !Progressing:NoConsumers",
        ),
        row(
            "nobody sends yet",
            run(),
            world(Some(nobody_yet)),
            "Sending | wait | Started:Started Progressing:Sending",
        ),
        row(
            "the mail server refuses",
            run(),
            world(Some(troubled)),
            "Sending | wait | Started:Started !Progressing:TransportUnavailable !TransportAvailable:TransportUnavailable",
        ),
        row("it refuses one of two", run(), world(Some(one_fine)), format!("Sending | wait | {SENDS}")),
        row(
            "to be slower",
            at_most(run(), 50),
            world(Some(sending())),
            format!("Sending | Adjust(suspended false, max per second 50) | {SENDS}"),
        ),
        row("slower", at_most(run(), 50), world(Some(paced.clone())), format!("Sending | wait | {SENDS}")),
        row(
            "as fast as it goes again",
            run(),
            world(Some(paced)),
            format!("Sending | Adjust(suspended false, max per second none) | {SENDS}"),
        ),
        row(
            "to be suspended",
            suspended(run()),
            world(Some(sending())),
            format!("Sending | Adjust(suspended true, max per second none) | {HALTED}"),
        ),
        row(
            "suspended",
            suspended(run()),
            world(Some(halted(left_over()))),
            format!("Sending | wait | {HALTED}"),
        ),
        row(
            "suspended when every bill was told",
            suspended(run()),
            world(Some(halted(all_told()))),
            format!("Sending | Finish | {HALTED}"),
        ),
        row(
            "to go on",
            run(),
            world(Some(halted(left_over()))),
            format!("Sending | Adjust(suspended false, max per second none) | {SENDS}"),
        ),
    ]);
}

#[test]
fn while_it_rehearses() {
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
            world(Some(none_yet)),
            format!("Publishing | CreateJob(october-rehearse) | {rehearses}"),
        ),
        row(
            "at work",
            rehearsal(),
            with_job(world(Some(some.clone())), job("october-rehearse")),
            format!("Sending | wait | {rehearses}"),
        ),
        row(
            "its Job done though bills are left",
            rehearsal(),
            with_job(world(Some(some)), JobState { complete: true, ..job("october-rehearse") }),
            format!("Sending | DeleteJob(october-rehearse) | {rehearses}"),
        ),
        row("all rendered", rehearsal(), world(Some(all.clone())), format!("Sending | Finish | {rehearses}")),
        row(
            "over",
            rehearsal(),
            world(Some(closed(all, NotificationState::Finished, None))),
            "CompletedWithFailures | rest | Started:Started Complete:CompletedWithFailures \
             Finished:CompletedWithFailures",
        ),
    ]);
}

#[test]
fn each_round_waits_longer_up_to_a_minute() {
    let opens = |round: i32, seconds: i64| {
        let mut snapshot = left_over();
        snapshot.facts.round = round;
        let done_at = time(NOW) - jiff::SignedDuration::from_secs(seconds);
        let last = snapshot.publication.as_mut().unwrap();
        (last.round, last.done_at) = (round, Some(done_at));
        let decision = decide::decide(&run(), &World { lag: Some(lag(0, NOW)), ..world(Some(snapshot)) });
        matches!(decision.next, Next::Do(Do::OpenRound { after, .. }) if after == round)
    };
    for (round, pause) in [(1, 2), (2, 4), (3, 8), (4, 16), (5, 32), (6, 60), (7, 60), (90, 60)] {
        assert!(!opens(round, pause - 1), "round {round}");
        assert!(opens(round, pause), "round {round}");
    }
}

#[test]
fn a_template_of_its_own_is_named() {
    let own = with(|spec| spec.template_ref = Some(TemplateRef { name: "mine".to_owned() }));
    let mut files = default_templates();
    files.insert("en.body.txt.hbs".to_owned(), "hello\n{{nobody}}\n".to_owned());
    let decision =
        decide::decide(&own, &World { templates: Some(TemplatesFound::Files(files)), ..world(None) });
    let text = message(&decision, "Started");
    assert!(text.starts_with("ConfigMap mine: en.body.txt.hbs, line 2: there is no `nobody` here"), "{text}");
}
