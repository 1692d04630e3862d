//! The outcome of a delivery by the mail server's replies.

use super::mail_server::{Act, Stage};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_member_gets_one_email() {
    let fixture = Fixture::new(30).await;
    fixture.sql("update member set email = null where member_id = 7").await;
    let run = fixture.run(1).await;
    let messages = fixture.messages(&run).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 29, SKIPPED 1");
    assert_eq!(fixture.outcome(&run, 7).await, "SKIPPED NO_ADDRESS");
    let received = fixture.server.received();
    assert_eq!(received.len(), 29);
    assert!(received[0].content.contains("Auto-Submitted: auto-generated"));
    assert_eq!(fixture.server.times_reached(Stage::Greeting), 4, "one connection for each sender");
    fixture.check().await;

    // The same messages again, as after the loss of all offsets.
    let engine = fixture.engine();
    let again = engine.intake().submit(messages).await.unwrap().await.unwrap();
    assert_eq!(again.unusable, []);
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.server.received().len(), 29);
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_run_can_use_is_reported_with_its_reason() {
    let fixture = Fixture::new(3).await;
    let run = fixture.run(1).await;
    let good = fixture.messages(&run).await;
    let mut messages = good.clone();
    messages.push(NotificationMessage { run: "test/nobody".to_owned(), ..good[0].clone() });
    messages.push(NotificationMessage { month: "2026-09".parse().unwrap(), ..good[0].clone() });
    messages.push(NotificationMessage { member: 4.try_into().unwrap(), ..good[0].clone() });
    messages.push(good[1].clone());
    let engine = fixture.engine();
    let mut unusable = engine.intake().submit(messages).await.unwrap().await.unwrap().unusable;
    unusable.sort();
    let reasons: Vec<(usize, &str)> =
        unusable.iter().map(|(index, reason)| (*index, reason.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (3, "there is no run of this name"),
            (4, "the run is for another month"),
            (5, "the bill is no target of the run"),
        ]
    );
    fixture.ended(&run).await;
    assert_eq!(fixture.server.received().len(), 3);
    assert!(engine.intake().submit(Vec::new()).await.unwrap().await.unwrap().unusable.is_empty());
    engine.drain(LIMIT).await.unwrap();
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_email_is_sent_later() {
    let fixture = Fixture::new(6).await;
    fixture.server.script(|step| match (step.stage, member_of(step.to)) {
        (Stage::Rcpt, 1 | 2) if step.before < 2 => Act::Reply("450 4.2.0 greylisted, come again"),
        (Stage::Data, 3) if step.before < 1 => Act::Reply("451 not now"),
        (Stage::End, 4) if step.before < 3 => Act::Reply("452 4.3.1 the disk is full"),
        (Stage::Rcpt, 5) if step.before < 1 => Act::Reply("421 closing"),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 6");
    let tries = fixture
        .one("select string_agg(tries::text, ' ' order by member_id) from delivery where attempt = 1")
        .await;
    assert_eq!(tries, "2 2 1 3 1 0");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_that_is_deferred_five_times_has_failed() {
    let fixture = Fixture::new(2).await;
    fixture.server.script(|step| match (step.stage, member_of(step.to)) {
        (Stage::Rcpt, 1) => {
            Act::Reply("450 4.2.0 <haneul.canary1@secret.example.net> is busy, ask kim@example.com")
        }
        (Stage::End, 2) => Act::Reply("451 4.7.1 again later"),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.outcome(&run, 1).await, "FAILED 450 4.2.0 <***> is busy, ask k***@e***.com");
    assert_eq!(fixture.outcome(&run, 2).await, "FAILED 451 4.7.1 again later");
    assert_eq!(fixture.server.times_reached(Stage::Rcpt), 10);
    assert_eq!(fixture.server.times_reached(Stage::End), 5);
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_email_fails_at_once_and_no_other() {
    let fixture = Fixture::new(6).await;
    fixture.server.script(|step| match (step.stage, member_of(step.to)) {
        (Stage::Rcpt, 1) => Act::Reply("550 5.1.1 no such user"),
        (Stage::Data, 2) => Act::Reply("554 5.5.1 no"),
        (Stage::End, 3) => Act::Reply("550-5.7.1 this is\r\n550 5.7.1 spam"),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    let engine = fixture.start(EngineConfig { connections: 1, ..fixture.config() });
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "FAILED 3, SENT 3");
    assert_eq!(fixture.outcome(&run, 1).await, "FAILED 550 5.1.1 no such user");
    assert_eq!(fixture.outcome(&run, 2).await, "FAILED 554 5.5.1 no");
    assert_eq!(fixture.outcome(&run, 3).await, "FAILED 550 5.7.1 this is spam");
    assert_eq!(fixture.server.times_reached(Stage::Greeting), 1, "all emails went over one connection");
    fixture.check().await;

    // A second run selects only the failed ones, for their second attempt.
    fixture.server.script(|_| Act::Accept);
    let recovery = fixture.run_with(2, Selection::Failed, None).await;
    assert_eq!(recovery.targets, 3);
    fixture.send(&recovery).await;
    assert_eq!(fixture.counts(&recovery).await, "SENT 3");
    let attempts =
        fixture.one("select string_agg(attempt::text, ' ' order by member_id) from delivery").await;
    assert_eq!(attempts, "2 2 2 1 1 1");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_before_rcpt_fails_no_delivery() {
    for (stage, reply, expected) in [
        (Stage::Greeting, "554 5.3.2 go away", "the greeting: 554 5.3.2 go away"),
        (Stage::Ehlo, "550 not you", "the greeting: 550 not you"),
        (Stage::Mail, "530 5.7.0 log in first", "530 5.7.0 log in first"),
        (Stage::Mail, "421 4.3.2 closing", "421 4.3.2 closing"),
    ] {
        let fixture = Fixture::new(10).await;
        fixture.server.script(move |step| if step.stage == stage { Act::Reply(reply) } else { Act::Accept });
        let run = fixture.run(1).await;
        let engine = fixture.engine();
        let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
        let trouble = "select string_agg(trouble, ' ') from consumer";
        for _ in 0..400 {
            if fixture.one(trouble).await.contains(expected) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(fixture.one(trouble).await.contains(expected), "{}", fixture.one(trouble).await);
        assert_eq!(fixture.counts(&run).await, "OPEN 10");
        fixture.server.script(|_| Act::Accept);
        tokio::time::timeout(LIMIT, done).await.unwrap().unwrap();
        assert_eq!(fixture.counts(&run).await, "SENT 10");
        assert_eq!(fixture.one("select count(*) from delivery where tries > 0").await, "0");
        fixture.until(trouble, "").await;
        engine.drain(LIMIT).await.unwrap();
        fixture.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_without_a_connection_does_not_affect_the_others() {
    let fixture = Fixture::new(40).await;
    let greeted = std::sync::atomic::AtomicUsize::new(0);
    fixture.server.script(move |step| match step.stage {
        Stage::Greeting if greeted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 2 => {
            Act::Reply("421 4.7.0 too many connections")
        }
        Stage::End => Act::Delay(Duration::from_millis(10)),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 40");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_emails_per_connection_leads_to_more_connections() {
    let fixture = Fixture::new(30).await;
    fixture.server.script(|step| match step.stage {
        Stage::Mail if step.emails >= 3 => Act::Reply("421 4.7.0 enough for one connection"),
        _ => Act::Accept,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 30");
    assert_eq!(fixture.one("select count(*) from delivery where tries > 0").await, "0");
    assert!(fixture.server.times_reached(Stage::Greeting) >= 10);
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_that_the_server_does_not_support_fails_unsent() {
    let fixture = Fixture::new(2).await;
    fixture.server.set_extensions(&["SIZE 1000"]);
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "FAILED 2");
    assert!(fixture.outcome(&run, 1).await.ends_with("bytes, and the server takes 1000"));

    let mut sealer = fixture.keyring.sealer();
    let envelope = sealer.seal(store::crypto::Column::Email, 1.try_into().unwrap(), "하늘@example.com");
    sqlx::query("update member set email = $1 where member_id = 1")
        .bind(envelope)
        .execute(&fixture.database.pool)
        .await
        .unwrap();
    fixture.server.set_extensions(&["8BITMIME"]);
    let recovery = fixture.run_with(2, Selection::Failed, None).await;
    fixture.send(&recovery).await;
    assert_eq!(fixture.counts(&recovery).await, "FAILED 1, SENT 1");
    assert!(fixture.outcome(&recovery, 1).await.contains("no SMTPUTF8"));
    fixture.server.set_extensions(&["8BITMIME", "SMTPUTF8"]);
    let recovery = fixture.run_with(3, Selection::Failed, None).await;
    fixture.send(&recovery).await;
    assert_eq!(fixture.counts(&recovery).await, "SENT 1");
    let commands = fixture.server.commands();
    assert!(commands.iter().any(|line| line.starts_with("MAIL FROM") && line.contains("SMTPUTF8")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_decrypted_fails_alone() {
    let fixture = Fixture::new(3).await;
    // A ciphertext in another member's row.
    fixture
        .sql("update member set email = (select email from member where member_id = 2) where member_id = 1")
        .await;
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "FAILED 1, SENT 2");
    let reason = fixture.outcome(&run, 1).await;
    assert!(reason.starts_with("FAILED DECRYPT: the email of member 1 cannot be decrypted"), "{reason}");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_transport_fails_the_configured_share() {
    let fixture = Fixture::new(400).await;
    let mock = || Transport::parse("mock://?failPerMillion=50000", None).unwrap();
    let fails = |attempt| {
        let month = MONTH.parse().unwrap();
        (1..=400)
            .filter(|id| {
                let member = domain::ids::MemberId::try_from(*id).unwrap();
                email::mock::fails(50_000, month, member, domain::ids::Revision::FIRST, attempt)
            })
            .collect::<Vec<i64>>()
    };
    let failed =
        "select string_agg(member_id::text, ' ' order by member_id) from delivery where state = 'FAILED'";
    let list = |ids: &[i64]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let first = fails(1);
    assert!(!first.is_empty());
    let run = fixture.run(1).await;
    let engine = fixture.start(EngineConfig { transport: mock(), ..fixture.config() });
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    assert_eq!(fixture.one(failed).await, list(&first));

    let recovery = fixture.run_with(2, Selection::Failed, None).await;
    assert_eq!(usize::try_from(recovery.targets).unwrap(), first.len());
    engine.intake().submit(fixture.messages(&recovery).await).await.unwrap().await.unwrap();
    let second: Vec<i64> = fails(2).into_iter().filter(|id| first.contains(id)).collect();
    assert_eq!(fixture.one(failed).await, list(&second));
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.server.received().len(), 0);
}
