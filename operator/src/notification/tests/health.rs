//! The conditions of kstatus in every phase and with every reason to wait.

use api::conditions::{READY, RECONCILING, STALLED};
use store::notification::Rejection;

use super::*;

/// The phase, and the condition of kstatus that is `True`, with its reason.
fn health(decision: &NotificationDecision) -> String {
    let phase = decision.status.phase.map_or("-", Phase::as_str);
    let find = |type_| conditions::find(&decision.status.conditions, type_);
    let ready = find(READY).expect("Ready is always there");
    let found: Vec<&str> = [READY, RECONCILING, STALLED]
        .into_iter()
        .filter(|type_| find(type_).is_some_and(|condition| condition.status == "True"))
        .collect();
    format!("{phase} {} {}", if found.is_empty() { "-".to_owned() } else { found.join("+") }, ready.reason)
}

#[test]
fn every_phase_and_every_reason_to_wait_has_its_health() {
    let month = "2026-10".parse().unwrap();
    let not_billed = Observed { rejection: Some(Rejection::MonthNotBilled { month }), ..observed(None) };
    let no_templates = TemplatesLookup::Missing("none".to_owned());
    let mut kafka = publishing();
    kafka.publication.as_mut().unwrap().waiting = Some("no broker answers".to_owned());
    let refusing = Snapshot { consumers: vec![consumer("a", Some("refused"))], ..sending() };
    let unknown = closed(
        Snapshot {
            counts: NotificationCounts { sent: 9, unknown: 1, ..NotificationCounts::default() },
            ..all_done()
        },
        NotificationState::Finished,
        None,
    );
    let failed = || closed(left_over(), NotificationState::Failed, Some("WorkersFailed: exit code 4"));
    let closing = Snapshot { logged: false, handed_over: 1, ..failed() };
    let table = [
        (run(), observed(None), "Pending Reconciling Starting"),
        (suspended(run()), observed(None), "Pending - Suspended"),
        (run(), not_billed, "Pending Reconciling MonthNotBilled"),
        (run(), without_database(observed(None)), "Pending Reconciling DatabaseUnavailable"),
        (
            run(),
            Observed { templates: Some(no_templates), ..observed(None) },
            "Pending Stalled TemplatesNotFound",
        ),
        (run(), with_job(observed(Some(publishing())), publisher()), "Publishing Reconciling Publishing"),
        (run(), with_job(observed(Some(kafka)), publisher()), "Publishing Reconciling KafkaUnavailable"),
        (
            run(),
            Observed { workers: waiting("no image"), ..with_job(observed(Some(publishing())), publisher()) },
            "Publishing Stalled WorkersWaiting",
        ),
        (run(), observed(Some(sending())), "Sending Reconciling Sending"),
        (run(), observed(Some(refusing)), "Sending Reconciling TransportUnavailable"),
        (
            run(),
            observed(Some(Snapshot { consumers: Vec::new(), ..sending() })),
            "Sending Stalled NoConsumers",
        ),
        (suspended(run()), observed(Some(sending())), "Sending - Suspended"),
        (in_phase(Phase::Sending), observed(Some(closing)), "Sending Reconciling Closing"),
        (in_phase(Phase::Sending), observed(None), "Sending Stalled RunLost"),
        (run(), observed(Some(finished())), "Succeeded Ready Sent"),
        (run(), observed(Some(unknown)), "CompletedWithFailures Stalled CompletedWithFailures"),
        (run(), observed(Some(failed())), "Failed Stalled WorkersFailed"),
    ];
    for (run, observed, expected) in table {
        assert_eq!(health(&decide::decide(&run, &observed)), expected);
    }
}
