//! What a decision makes of what was said before it: reasons that stay, Events.

use store::notification::Rejection;

use super::*;

fn news(run: &NotificationRun, decision: &NotificationDecision) -> Vec<String> {
    news::between(run.conditions(), &decision.status.conditions)
        .into_iter()
        .map(|news| format!("{}{}", if news.warning { "Warning " } else { "" }, news.reason))
        .collect()
}

#[test]
fn a_run_that_asks_again_for_its_bills_does_not_flicker() {
    let month = "2026-10".parse().unwrap();
    let refused = World { refused: Some(Rejection::MonthNotBilled { month }), ..world(None) };
    let run = run();
    let first = decide::decide(&run, &refused);
    let waiting = after(&run, &first);
    let again = decide::decide(&waiting, &world(None));
    assert!(matches!(again.next, Next::Do(Do::Begin(_))));
    assert_eq!(again.status, first.status);
    assert!(message(&first, "Started").contains("no live bills yet"), "{}", message(&first, "Started"));
}

#[test]
fn a_run_tells_its_story_in_events() {
    let waiting = |why: &str| {
        let mut snapshot = publishing();
        snapshot.publication.as_mut().unwrap().waiting = Some(why.to_owned());
        snapshot
    };
    let troubled = Snapshot { consumers: vec![consumer("a", Some("connection refused"))], ..sending() };
    let mut run = run();
    let mut story = Vec::new();
    for world in [
        without_database(world(None)),
        World { templates: Some(TemplatesFound::Missing("none".to_owned())), ..world(None) },
        world(None),
        world(Some(begun())),
        with_job(world(Some(waiting("no broker answers"))), publisher()),
        with_job(world(Some(publishing())), publisher()),
        world(Some(sending())),
        world(Some(troubled)),
        world(Some(all_told())),
        world(Some(finished())),
    ] {
        let decision = decide::decide(&run, &world);
        story.extend(news(&run, &decision));
        run = after(&run, &decision);
        // The same look again is no news.
        assert_eq!(news(&run, &decide::decide(&run, &world)), Vec::<String>::new());
    }
    assert_eq!(
        story,
        [
            "Warning DatabaseUnavailable",
            "Warning TemplatesNotFound",
            "Starting",
            "Started",
            "Publishing",
            "TransportUsable",
            "Warning KafkaUnavailable",
            "Publishing",
            "Sending",
            "Warning TransportUnavailable",
            "Sending",
            "TransportUsable",
            "Sent"
        ]
    );
}

#[test]
fn a_resumed_run_says_so() {
    let halted = Snapshot {
        facts: RunFacts { state: NotificationState::Suspended, ..left_over().facts },
        ..left_over()
    };
    let run = suspended(in_phase(Phase::Sending));
    let mut resumed = after(&run, &decide::decide(&run, &world(Some(halted))));
    resumed.spec.suspend = false;
    let decision = decide::decide(&resumed, &world(Some(left_over())));
    assert_eq!(
        said(&decision),
        "Sending | OpenRound(after 1) | Started:Started !Suspended:Resumed Progressing:Sending \
         TransportAvailable:TransportUsable"
    );
    assert_eq!(news(&resumed, &decision), ["Resumed", "Sending"]);
}

#[test]
fn what_was_said_stays_while_the_database_is_away() {
    let run = in_phase(Phase::Sending);
    let sent = after(&run, &decide::decide(&run, &world(Some(sending()))));
    let decision = decide::decide(&sent, &without_database(world(None)));
    assert_eq!(
        said(&decision),
        "Sending | back off | Started:Started !Progressing:DatabaseUnavailable TransportAvailable:TransportUsable"
    );
    assert_eq!(decision.status.counts, sent.status.as_ref().unwrap().counts);
    assert_eq!(news(&sent, &decision), ["Warning DatabaseUnavailable"]);
}

#[test]
fn the_transports_trouble_outlives_its_consumers() {
    let run = in_phase(Phase::Sending);
    let troubled = Snapshot { consumers: vec![consumer("a", Some("connection refused"))], ..sending() };
    let refused = after(&run, &decide::decide(&run, &world(Some(troubled))));
    let nobody = Snapshot { consumers: Vec::new(), ..sending() };
    let decision = decide::decide(&refused, &world(Some(nobody)));
    assert_eq!(
        said(&decision),
        "Sending | wait | Started:Started !Progressing:NoConsumers !TransportAvailable:TransportUnavailable"
    );
}

#[test]
fn messages_name_the_fix() {
    let look = |snapshot: Snapshot| decide::decide(&run(), &world(Some(snapshot)));
    let troubled =
        Snapshot { consumers: vec![consumer("a", Some("535 5.7.8 authentication failed"))], ..sending() };
    assert_eq!(
        message(&look(troubled), "TransportAvailable"),
        "smtp://mail:25: 535 5.7.8 authentication failed; nobody fails by it, the consumers try again"
    );
    assert_eq!(
        message(&look(finished()), "Complete"),
        "10 bills: 9 sent, 0 of unknown outcome, 0 failed, 1 skipped"
    );
    let failed = closed(left_over(), NotificationState::Failed, Some("WorkersFailed: exit code 4"));
    assert_eq!(
        message(&look(failed), "Failed"),
        "exit code 4; 10 bills: 4 sent, 0 of unknown outcome, 1 failed, 1 skipped, 4 open; another run can tell the rest"
    );
    let foreign = World { job: JobFound::Foreign("Deployment web".to_owned()), ..world(Some(publishing())) };
    assert_eq!(
        message(&decide::decide(&run(), &foreign), "Progressing"),
        "Job october-publish-1 is there already and belongs to Deployment web; delete it, or give this run another name"
    );
}
