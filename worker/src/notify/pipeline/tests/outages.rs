//! Breaks at every point, at both ends and in between.

use std::sync::atomic::Ordering;

use super::mail_server::{Act, Stage};
use super::*;
use crate::notify::pipeline::engine::Closed;
use crate::proxy::DatabaseProxy;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_a_while_fails_nobody() {
    let fixture = Fixture::new(120).await;
    fixture.server.play(|step| match step.stage {
        Stage::End => Act::Late(Duration::from_millis(5)),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    let engine = fixture.engine();
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    wait_until("some mails", || fixture.server.received().len() > 20).await;
    fixture.server.go_away();
    let trouble = "select count(*) from consumer where trouble like 'smtp://127.0.0.1:%: cannot connect%'";
    fixture.until(trouble, "1").await;
    fixture.server.come_back().await;
    tokio::time::timeout(LIMIT, done).await.unwrap().unwrap();
    fixture.ended(&run).await;
    fixture.until("select count(trouble) from consumer", "0").await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.one("select count(*) from notice_target where outcome = 'FAILED'").await, "0");
    let unknown: usize =
        fixture.one("select count(*) from delivery where state = 'UNKNOWN'").await.parse().unwrap();
    assert!(unknown <= 4, "{unknown} unknown with 4 sessions");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_before_the_dot_puts_off() {
    let fixture = Fixture::new(8).await;
    // The server closes as soon as DATA comes, and at RCPT.
    fixture.server.play(|step| match (step.stage, step.before) {
        (Stage::Data, 0) | (Stage::Rcpt, 0) => Act::Drop,
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 8");
    assert_eq!(fixture.one("select sum(tries) from delivery").await, "16");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_always_breaks_at_one_mail_fails_it_in_the_end() {
    let fixture = Fixture::new(3).await;
    fixture.server.play(|step| match step.stage {
        Stage::Data if step.to.contains("canary2@") => Act::Drop,
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "FAILED 1, SENT 2");
    let reason = fixture.outcome(&run, 2).await;
    assert!(reason.starts_with("FAILED the connection broke off at DATA"), "{reason}");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_dot_leaves_the_outcome_unknown() {
    let fixture = Fixture::new(8).await;
    fixture.server.play(|step| match step.stage {
        Stage::End if member_of(step.to) <= 3 => Act::Drop,
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 5, UNKNOWN 3");
    assert!(fixture.outcome(&run, 1).await.starts_with("UNKNOWN OUTCOME_UNKNOWN: the connection broke off"));
    assert_eq!(fixture.server.received().len(), 8, "the server has them all");
    fixture.check().await;

    fixture.server.play(|_| Act::Go);
    let recovery = fixture.run_with(2, Selection::Unknown, None).await;
    assert_eq!(recovery.targets, 3);
    fixture.send(&recovery).await;
    assert_eq!(fixture.counts(&recovery).await, "SENT 3");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_in_the_content_sends_nothing_twice() {
    let fixture = Fixture::new(40).await;
    // The first time nothing of the content is read, so that the client's writes fail or nobody answers them.
    fixture.server.play(|step| match (step.stage, step.before) {
        (Stage::Content, 0) => Act::Drop,
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    let outcomes = fixture.counts(&run).await;
    assert!(!outcomes.contains("FAILED") && !outcomes.contains("OPEN"), "{outcomes}");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_is_waited_for_well_within_the_lease() {
    let fixture = Fixture::new(4).await;
    fixture.server.play(|step| match (step.stage, step.to) {
        (Stage::End, to) if to.contains("canary1@") => Act::Hang,
        (Stage::Data, to) if to.contains("canary2@") && step.before == 0 => Act::Hang,
        (Stage::Rcpt, to) if to.contains("canary3@") && step.before == 0 => Act::Hang,
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    let engine = fixture.start(EngineConfig { lease: Duration::from_secs(4), ..fixture.config() });
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    tokio::time::timeout(LIMIT, done).await.unwrap().unwrap();
    fixture.ended(&run).await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 3, UNKNOWN 1");
    assert_eq!(fixture.outcome(&run, 1).await, "UNKNOWN OUTCOME_UNKNOWN: no answer to the content in time");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_waited_for() {
    let fixture = Fixture::new(24).await;
    fixture.server.play(|step| match step.stage {
        Stage::Greeting | Stage::Mail | Stage::Rcpt | Stage::Data => Act::Late(Duration::from_millis(60)),
        Stage::End => Act::Late(Duration::from_millis(250)),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    // Leases last for a fraction of what the batch takes: they are renewed meanwhile.
    let engine = fixture.start(EngineConfig { lease: Duration::from_millis(1500), ..fixture.config() });
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 24");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_at_most_one_unknown_outcome_for_each_session() {
    // Where the sessions are when the process dies, and how many of their mails nobody can know about.
    for (stage, unknown) in
        [(Stage::Mail, 0), (Stage::Rcpt, 0), (Stage::Data, 4), (Stage::Content, 4), (Stage::End, 4)]
    {
        let fixture = Fixture::new(40).await;
        fixture.server.play(
            move |step| {
                if step.stage == stage && step.mails >= 2 { Act::Hang } else { Act::Go }
            },
        );
        let run = fixture.run(1).await;
        let engine = fixture.engine();
        let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
        wait_until("all sessions hang", || fixture.server.reached(stage) == 12).await;
        // What was sent before is written by then.
        fixture.until("select count(*) from delivery where state = 'SENT'", "8").await;
        if unknown > 0 {
            fixture.until("select count(*) from delivery where state = 'HANDED_OVER'", "4").await;
        }
        drop(engine);
        assert!(done.await.is_err(), "nothing of it may be committed");
        fixture.expire().await;
        assert_eq!(
            fixture.one("select count(*) from delivery where state = 'UNKNOWN'").await,
            unknown.to_string()
        );
        fixture.server.play(|_| Act::Go);
        fixture.send(&run).await;
        fixture.check().await;
        let sent = 40 - unknown;
        let counts = fixture.counts(&run).await;
        assert_eq!(counts.trim_end_matches(", UNKNOWN 4"), format!("SENT {sent}"), "killed at {stage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_to_stop_ends_what_is_handed_over_and_gives_the_rest_back() {
    let fixture = Fixture::new(40).await;
    fixture.server.play(|step| match step.stage {
        Stage::End => Act::Late(Duration::from_millis(300)),
        Stage::Rcpt if step.to.contains("canary1@") => Act::Say("450 later"),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    let retries = Retries { first_delay: Duration::from_secs(60), ..Retries::default() };
    let engine = fixture.start(EngineConfig { retries, ..fixture.config() });
    let intake = engine.intake();
    let done = intake.submit(fixture.messages(&run).await).await.unwrap();
    wait_until("some mails", || fixture.server.reached(Stage::End) >= 6).await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(done.await.unwrap_err(), Closed);
    assert!(intake.submit(fixture.messages(&run).await).await.is_err());
    let sent = fixture.server.received().len();
    assert!(sent < 20, "{sent} were sent");
    assert_eq!(fixture.counts(&run).await, format!("OPEN {}, SENT {sent}", 40 - sent));
    assert_eq!(
        fixture.one("select count(*) from delivery where state = 'PENDING' and attempt <> 0").await,
        "0"
    );
    assert_eq!(fixture.one("select count(*) from consumer").await, "0");
    fixture.check().await;
    fixture.server.play(|_| Act::Go);
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 40");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_run_stops_at_once_and_goes_on_later() {
    let fixture = Fixture::new(60).await;
    fixture.server.play(|step| match step.stage {
        Stage::End => Act::Late(Duration::from_millis(50)),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    let engine = fixture.engine();
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    wait_until("some mails", || fixture.server.received().len() >= 8).await;
    notification::update_settings(&fixture.operator, run.id, true, None).await.unwrap();
    let before = fixture.server.received().len();
    // Its messages are committed unsent.
    tokio::time::timeout(LIMIT, done).await.unwrap().unwrap();
    let after = fixture.server.received().len();
    assert!(after <= before + 8 && after < 60, "{before} before, {after} after");
    let again = engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    assert_eq!(again.unusable, []);
    assert_eq!(fixture.server.received().len(), after);
    fixture.check().await;
    notification::update_settings(&fixture.operator, run.id, false, None).await.unwrap();
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 60");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_answers_get_lost_is_asked_again() {
    let fixture = Fixture::new(60).await;
    let run = fixture.run(1).await;
    let proxy = DatabaseProxy::start(&fixture.database.url, 6).await;
    let worker = as_role(&proxy.url, "monthend_worker");
    let config = EngineConfig { sessions: 2, ..fixture.config() };
    let engine = Engine::start(config, worker, fixture.keyring.clone());
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    assert_eq!(proxy.lost.load(Ordering::SeqCst), 6);
    engine.drain(LIMIT).await.unwrap();
    // A claim whose answer was lost is nobody's until it runs out.
    fixture.expire().await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 60");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_ends_its_connections_is_connected_to_again() {
    let fixture = Fixture::new(200).await;
    fixture.server.play(|step| match step.stage {
        Stage::End => Act::Late(Duration::from_millis(10)),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    let engine = fixture.engine();
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    for round in 1..=3 {
        wait_until("some mails", || fixture.server.received().len() >= 20 * round).await;
        fixture
            .sql(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where application_name = 'monthend notify' and datname = current_database()",
            )
            .await;
    }
    tokio::time::timeout(LIMIT, done).await.unwrap().unwrap();
    fixture.ended(&run).await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 200");
    fixture.check().await;
}
