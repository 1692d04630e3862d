//! Decisions that follow from the last status: reasons that stay, and Events.

use store::notification::Rejection;

use super::*;

fn events_of(run: &NotificationRun, decision: &NotificationDecision) -> Vec<String> {
    events::changes(run.conditions(), &decision.status.conditions)
        .into_iter()
        .map(|event| format!("{}{}", if event.warning { "Warning " } else { "" }, event.reason))
        .collect()
}

#[test]
fn a_retry_keeps_the_last_status() {
    let month = "2026-10".parse().unwrap();
    let not_billed = Observed { rejection: Some(Rejection::MonthNotBilled { month }), ..observed(None) };
    let run = run();
    let first = decide::decide(&run, &not_billed);
    let waiting = after(&run, &first);
    let again = decide::decide(&waiting, &observed(None));
    assert!(matches!(again.next, Next::Apply(Action::Begin(_))));
    assert_eq!(again.status, first.status);
    assert!(message(&first, "Started").contains("no live bills yet"), "{}", message(&first, "Started"));
}

#[test]
fn each_step_of_a_run_writes_one_event() {
    let waiting = |why: &str| {
        let mut snapshot = publishing();
        snapshot.publication.as_mut().unwrap().waiting = Some(why.to_owned());
        snapshot
    };
    let refusing = Snapshot { consumers: vec![consumer("a", Some("connection refused"))], ..sending() };
    let mut run = run();
    let mut events = Vec::new();
    for observed in [
        without_database(observed(None)),
        Observed { templates: Some(TemplatesLookup::Missing("none".to_owned())), ..observed(None) },
        observed(None),
        observed(Some(begun())),
        with_job(observed(Some(waiting("no broker answers"))), publisher()),
        with_job(observed(Some(publishing())), publisher()),
        observed(Some(sending())),
        observed(Some(refusing)),
        observed(Some(all_done())),
        observed(Some(finished())),
    ] {
        let decision = decide::decide(&run, &observed);
        events.extend(events_of(&run, &decision));
        run = after(&run, &decision);
        // The same observation again writes no Event.
        assert_eq!(events_of(&run, &decide::decide(&run, &observed)), Vec::<String>::new());
    }
    assert_eq!(
        events,
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
fn a_resumed_run_has_a_condition_and_an_event() {
    let suspended_snapshot = Snapshot {
        facts: RunFacts { state: NotificationState::Suspended, ..left_over().facts },
        ..left_over()
    };
    let run = suspended(in_phase(Phase::Sending));
    let mut resumed = after(&run, &decide::decide(&run, &observed(Some(suspended_snapshot))));
    resumed.spec.suspend = false;
    let decision = decide::decide(&resumed, &observed(Some(left_over())));
    assert_eq!(
        summary(&decision),
        "Sending | OpenRound(after 1) | Started:Started !Suspended:Resumed Progressing:Sending \
         TransportAvailable:TransportUsable"
    );
    assert_eq!(events_of(&resumed, &decision), ["Resumed", "Sending"]);
}

#[test]
fn the_last_status_stays_while_the_database_is_unavailable() {
    let run = in_phase(Phase::Sending);
    let sent = after(&run, &decide::decide(&run, &observed(Some(sending()))));
    let decision = decide::decide(&sent, &without_database(observed(None)));
    assert_eq!(
        summary(&decision),
        "Sending | BackOff | Started:Started !Progressing:DatabaseUnavailable TransportAvailable:TransportUsable"
    );
    assert_eq!(decision.status.counts, sent.status.as_ref().unwrap().counts);
    assert_eq!(events_of(&sent, &decision), ["Warning DatabaseUnavailable"]);
}

#[test]
fn the_transport_condition_stays_when_the_consumers_are_gone() {
    let run = in_phase(Phase::Sending);
    let refusing = Snapshot { consumers: vec![consumer("a", Some("connection refused"))], ..sending() };
    let unavailable = after(&run, &decide::decide(&run, &observed(Some(refusing))));
    let no_consumers = Snapshot { consumers: Vec::new(), ..sending() };
    let decision = decide::decide(&unavailable, &observed(Some(no_consumers)));
    assert_eq!(
        summary(&decision),
        "Sending | RequeueAfter | Started:Started !Progressing:NoConsumers !TransportAvailable:TransportUnavailable"
    );
}

#[test]
fn messages_name_the_problem_and_the_fix() {
    let decide = |snapshot: Snapshot| decide::decide(&run(), &observed(Some(snapshot)));
    let refusing =
        Snapshot { consumers: vec![consumer("a", Some("535 5.7.8 authentication failed"))], ..sending() };
    assert_eq!(
        message(&decide(refusing), "TransportAvailable"),
        "smtp://mail:25: 535 5.7.8 authentication failed; no bill fails because of this, the consumers try again"
    );
    assert_eq!(
        message(&decide(finished()), "Complete"),
        "10 bills: 9 sent, 0 of unknown outcome, 0 failed, 1 skipped"
    );
    let failed = closed(left_over(), NotificationState::Failed, Some("WorkersFailed: exit code 4"));
    assert_eq!(
        message(&decide(failed), "Failed"),
        "exit code 4; 10 bills: 4 sent, 0 of unknown outcome, 1 failed, 1 skipped, 4 open; another run can send the rest"
    );
    let foreign =
        Observed { job: JobLookup::Foreign("Deployment web".to_owned()), ..observed(Some(publishing())) };
    assert_eq!(
        message(&decide::decide(&run(), &foreign), "Progressing"),
        "Job october-publish-1 already exists and belongs to Deployment web; delete that Job, or give this run another name"
    );
}
