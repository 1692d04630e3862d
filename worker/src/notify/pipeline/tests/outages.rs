//! Outages of the mail server and of the database, broken connections, kills and stops.

use std::sync::atomic::Ordering;

use store::testing::DatabaseProxy;

use super::mail_server::{Act, Stage};
use super::*;
use crate::exit::{CommandError, ExitStatus};
use crate::notify::pipeline::{EngineClosed, EngineError};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_mail_server_is_down_no_delivery_fails() {
    let fixture = Fixture::new(120).await;
    fixture.server.script(|step| match step.stage {
        Stage::End => Act::Delay(Duration::from_millis(5)),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    let engine = fixture.engine();
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    wait_until("some emails", || fixture.server.received().len() > 20).await;
    fixture.server.shut_down();
    let trouble = "select count(*) from consumer where trouble like 'smtp://127.0.0.1:%: cannot connect%'";
    fixture.until(trouble, "1").await;
    fixture.server.restart().await;
    tokio::time::timeout(LIMIT, done).await.unwrap().unwrap();
    fixture.ended(&run).await;
    fixture.until("select count(trouble) from consumer", "0").await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.one("select count(*) from notice_target where outcome = 'FAILED'").await, "0");
    let unknown: usize =
        fixture.one("select count(*) from delivery where state = 'UNKNOWN'").await.parse().unwrap();
    assert!(unknown <= 4, "{unknown} unknown with 4 connections");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_before_the_dot_defers_the_email() {
    let fixture = Fixture::new(8).await;
    // The server closes as soon as DATA comes, and at RCPT.
    fixture.server.script(|step| match (step.stage, step.before) {
        (Stage::Data, 0) | (Stage::Rcpt, 0) => Act::Drop,
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 8");
    assert_eq!(fixture.one("select sum(tries) from delivery").await, "16");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_whose_connection_always_breaks_fails_in_the_end() {
    let fixture = Fixture::new(3).await;
    fixture.server.script(|step| match step.stage {
        Stage::Data if step.to.contains("canary2@") => Act::Drop,
        _ => Act::Accept,
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
    fixture.server.script(|step| match step.stage {
        Stage::End if member_of(step.to) <= 3 => Act::Drop,
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 5, UNKNOWN 3");
    assert!(fixture.outcome(&run, 1).await.starts_with("UNKNOWN OUTCOME_UNKNOWN: the connection broke off"));
    assert_eq!(fixture.server.received().len(), 8, "the server received all of them");
    fixture.check().await;

    fixture.server.script(|_| Act::Accept);
    let recovery = fixture.run_with(2, Selection::Unknown, None).await;
    assert_eq!(recovery.targets, 3);
    fixture.send(&recovery).await;
    assert_eq!(fixture.counts(&recovery).await, "SENT 3");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_connection_lost_in_the_content_no_email_is_sent_twice() {
    let fixture = Fixture::new(40).await;
    // The first time, nothing of the content is read: the client's writes fail or get no reply.
    fixture.server.script(|step| match (step.stage, step.before) {
        (Stage::Content, 0) => Act::Drop,
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    let outcomes = fixture.counts(&run).await;
    assert!(!outcomes.contains("FAILED") && !outcomes.contains("OPEN"), "{outcomes}");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_a_missing_reply_ends_within_the_lease() {
    let fixture = Fixture::new(4).await;
    fixture.server.script(|step| match (step.stage, step.to) {
        (Stage::End, to) if to.contains("canary1@") => Act::Hang,
        (Stage::Data, to) if to.contains("canary2@") && step.before == 0 => Act::Hang,
        (Stage::Rcpt, to) if to.contains("canary3@") && step.before == 0 => Act::Hang,
        _ => Act::Accept,
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
async fn leases_are_renewed_while_the_mail_server_is_slow() {
    let fixture = Fixture::new(24).await;
    fixture.server.script(|step| match step.stage {
        Stage::Greeting | Stage::Mail | Stage::Rcpt | Stage::Data => Act::Delay(Duration::from_millis(60)),
        Stage::End => Act::Delay(Duration::from_millis(250)),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    // A lease is much shorter than the batch takes.
    let engine = fixture.start(EngineConfig { lease: Duration::from_millis(1500), ..fixture.config() });
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 24");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_leaves_at_most_one_unknown_outcome_per_connection() {
    // The stage of all connections when the process dies, and how many outcomes are unknown.
    for (stage, unknown) in
        [(Stage::Mail, 0), (Stage::Rcpt, 0), (Stage::Data, 4), (Stage::Content, 4), (Stage::End, 4)]
    {
        let fixture = Fixture::new(40).await;
        fixture.server.script(
            move |step| {
                if step.stage == stage && step.emails >= 2 { Act::Hang } else { Act::Accept }
            },
        );
        let run = fixture.run(1).await;
        let engine = fixture.engine();
        let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
        wait_until("all connections hang", || fixture.server.times_reached(stage) == 12).await;
        // The outcomes of the emails before are recorded by then.
        fixture.until("select count(*) from delivery where state = 'SENT'", "8").await;
        if unknown > 0 {
            fixture.until("select count(*) from delivery where state = 'HANDED_OVER'", "4").await;
        }
        drop(engine);
        assert!(done.await.is_err(), "nothing of the batch may be committed");
        fixture.expire().await;
        assert_eq!(
            fixture.one("select count(*) from delivery where state = 'UNKNOWN'").await,
            unknown.to_string()
        );
        fixture.server.script(|_| Act::Accept);
        fixture.send(&run).await;
        fixture.check().await;
        let sent = 40 - unknown;
        let counts = fixture.counts(&run).await;
        assert_eq!(counts.trim_end_matches(", UNKNOWN 4"), format!("SENT {sent}"), "killed at {stage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_handed_over_and_releases_the_rest() {
    let fixture = Fixture::new(40).await;
    fixture.server.script(|step| match step.stage {
        Stage::End => Act::Delay(Duration::from_millis(300)),
        Stage::Rcpt if step.to.contains("canary1@") => Act::Reply("450 later"),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    let retry_policy = RetryPolicy { first_delay: Duration::from_secs(60), ..RetryPolicy::default() };
    let engine = fixture.start(EngineConfig { retry_policy, ..fixture.config() });
    let intake = engine.intake();
    let done = intake.submit(fixture.messages(&run).await).await.unwrap();
    wait_until("some emails", || fixture.server.times_reached(Stage::End) >= 6).await;
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(done.await.unwrap_err(), EngineClosed);
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
    fixture.server.script(|_| Act::Accept);
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 40");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_run_stops_at_once_and_continues_when_resumed() {
    let fixture = Fixture::new(60).await;
    fixture.server.script(|step| match step.stage {
        Stage::End => Act::Delay(Duration::from_millis(50)),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    let engine = fixture.engine();
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    wait_until("some emails", || fixture.server.received().len() >= 8).await;
    notification::update_settings(&fixture.operator, run.id, true, None).await.unwrap();
    let before = fixture.server.received().len();
    // Its messages are committed without being sent.
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
async fn a_statement_is_repeated_when_its_answer_is_lost() {
    let fixture = Fixture::new(60).await;
    let run = fixture.run(1).await;
    let proxy = DatabaseProxy::start(&fixture.database.url, 6).await;
    let worker = store::testing::with_role(&proxy.url, "monthend_worker");
    let config = EngineConfig { connections: 2, ..fixture.config() };
    let engine = Engine::start(config, worker, fixture.keyring.clone());
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    assert_eq!(proxy.lost.load(Ordering::SeqCst), 6);
    engine.drain(LIMIT).await.unwrap();
    // A claim whose answer was lost blocks its deliveries until it expires.
    fixture.expire().await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 60");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_reconnects_when_the_database_closes_its_connections() {
    let fixture = Fixture::new(200).await;
    fixture.server.script(|step| match step.stage {
        Stage::End => Act::Delay(Duration::from_millis(10)),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    let engine = fixture.engine();
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    for round in 1..=3 {
        wait_until("some emails", || fixture.server.received().len() >= 20 * round).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn after_a_migration_what_is_handed_over_is_recorded_and_the_rest_released() {
    let fixture = Fixture::new(40).await;
    // Longer than the time between two heartbeats, which is a sixth of the lease.
    fixture.server.script(|step| match step.stage {
        Stage::End => Act::Delay(Duration::from_millis(1500)),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    let lease = Duration::from_secs(6);
    let mut engine = fixture.start(EngineConfig { lease, ..fixture.config() });
    let ready = engine.ready();
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    fixture.until("select count(*) > 0 from delivery where state = 'HANDED_OVER'", "true").await;
    fixture.database.shift_schema_version(1).await;
    let error = tokio::time::timeout(LIMIT, engine.failed()).await.expect("it ends in time");
    assert!(matches!(&error, EngineError::Store(error) if error.is_other_schema()), "{error:?}");
    assert_eq!(CommandError::from(error).status, ExitStatus::OtherSchema);
    assert!(!*ready.borrow());
    assert_eq!(done.await.unwrap_err(), EngineClosed);
    let sent = fixture.server.received().len();
    assert!((1..40).contains(&sent), "{sent} were sent");
    assert_eq!(fixture.counts(&run).await, format!("OPEN {}, SENT {sent}", 40 - sent));
    assert_eq!(fixture.one("select count(*) from consumer").await, "0");
    fixture.check().await;
}
