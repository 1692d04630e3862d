//! What the server says, and what becomes of a mail by it.

use super::mail_server::{Act, Stage};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_one_mail() {
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
    assert_eq!(fixture.server.reached(Stage::Greeting), 4, "a connection for each session");
    fixture.check().await;

    // Everything once more, as after the loss of all offsets.
    let engine = fixture.engine();
    let again = engine.intake().submit(messages).await.unwrap().await.unwrap();
    assert_eq!(again.unusable, []);
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.server.received().len(), 29);
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_run_can_use_is_told_with_its_reason() {
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
    let told: Vec<(usize, &str)> = unusable.iter().map(|(place, why)| (*place, why.as_str())).collect();
    assert_eq!(
        told,
        [
            (3, "no run of this name is known"),
            (4, "the run is about another month"),
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
async fn what_is_put_off_goes_later() {
    let fixture = Fixture::new(6).await;
    fixture.server.play(|step| match (step.stage, member_of_step(step.to)) {
        (Stage::Rcpt, 1 | 2) if step.before < 2 => Act::Say("450 4.2.0 greylisted, come again"),
        (Stage::Data, 3) if step.before < 1 => Act::Say("451 not now"),
        (Stage::End, 4) if step.before < 3 => Act::Say("452 4.3.1 the disk is full"),
        (Stage::Rcpt, 5) if step.before < 1 => Act::Say("421 closing"),
        _ => Act::Go,
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
async fn who_is_put_off_five_times_has_failed() {
    let fixture = Fixture::new(2).await;
    fixture.server.play(|step| match (step.stage, member_of_step(step.to)) {
        (Stage::Rcpt, 1) => {
            Act::Say("450 4.2.0 <haneul.canary1@secret.example.net> is busy, ask kim@example.com")
        }
        (Stage::End, 2) => Act::Say("451 4.7.1 again later"),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.outcome(&run, 1).await, "FAILED 450 4.2.0 <***> is busy, ask k***@e***.com");
    assert_eq!(fixture.outcome(&run, 2).await, "FAILED 451 4.7.1 again later");
    assert_eq!(fixture.server.reached(Stage::Rcpt), 10);
    assert_eq!(fixture.server.reached(Stage::End), 5);
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_has_failed_at_once_and_alone() {
    let fixture = Fixture::new(6).await;
    fixture.server.play(|step| match (step.stage, member_of_step(step.to)) {
        (Stage::Rcpt, 1) => Act::Say("550 5.1.1 no such user"),
        (Stage::Data, 2) => Act::Say("554 5.5.1 no"),
        (Stage::End, 3) => Act::Say("550-5.7.1 this is\r\n550 5.7.1 spam"),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    let engine = fixture.start(EngineConfig { sessions: 1, ..fixture.config() });
    engine.intake().submit(fixture.messages(&run).await).await.unwrap().await.unwrap();
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "FAILED 3, SENT 3");
    assert_eq!(fixture.outcome(&run, 1).await, "FAILED 550 5.1.1 no such user");
    assert_eq!(fixture.outcome(&run, 2).await, "FAILED 554 5.5.1 no");
    assert_eq!(fixture.outcome(&run, 3).await, "FAILED 550 5.7.1 this is spam");
    assert_eq!(fixture.server.reached(Stage::Greeting), 1, "all over one connection");
    fixture.check().await;

    // Those and nobody else, at their second attempt.
    fixture.server.play(|_| Act::Go);
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
async fn a_server_that_refuses_before_the_recipient_fails_nobody() {
    for (stage, refusal, told) in [
        (Stage::Greeting, "554 5.3.2 go away", "the greeting: 554 5.3.2 go away"),
        (Stage::Ehlo, "550 not you", "the greeting: 550 not you"),
        (Stage::Mail, "530 5.7.0 log in first", "530 5.7.0 log in first"),
        (Stage::Mail, "421 4.3.2 closing", "421 4.3.2 closing"),
    ] {
        let fixture = Fixture::new(10).await;
        fixture.server.play(move |step| if step.stage == stage { Act::Say(refusal) } else { Act::Go });
        let run = fixture.run(1).await;
        let engine = fixture.engine();
        let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
        let trouble = "select string_agg(trouble, ' ') from consumer";
        for _ in 0..400 {
            if fixture.one(trouble).await.contains(told) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(fixture.one(trouble).await.contains(told), "{}", fixture.one(trouble).await);
        assert_eq!(fixture.counts(&run).await, "OPEN 10");
        fixture.server.play(|_| Act::Go);
        tokio::time::timeout(LIMIT, done).await.unwrap().unwrap();
        assert_eq!(fixture.counts(&run).await, "SENT 10");
        assert_eq!(fixture.one("select count(*) from delivery where tries > 0").await, "0");
        fixture.until(trouble, "").await;
        engine.drain(LIMIT).await.unwrap();
        fixture.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_alone_gets_no_connection_leaves_the_others_alone() {
    let fixture = Fixture::new(40).await;
    let greeted = std::sync::atomic::AtomicUsize::new(0);
    fixture.server.play(move |step| match step.stage {
        Stage::Greeting if greeted.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 2 => {
            Act::Say("421 4.7.0 too many connections")
        }
        Stage::End => Act::Late(Duration::from_millis(10)),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 40");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_mails_for_each_connection_costs_nothing_but_connections() {
    let fixture = Fixture::new(30).await;
    fixture.server.play(|step| match step.stage {
        Stage::Mail if step.mails >= 3 => Act::Say("421 4.7.0 enough for one connection"),
        _ => Act::Go,
    });
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "SENT 30");
    assert_eq!(fixture.one("select count(*) from delivery where tries > 0").await, "0");
    assert!(fixture.server.reached(Stage::Greeting) >= 10);
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_cannot_take_has_failed_without_asking() {
    let fixture = Fixture::new(2).await;
    fixture.server.offer(&["SIZE 1000"]);
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "FAILED 2");
    assert!(fixture.outcome(&run, 1).await.ends_with("bytes, and the server takes 1000"));

    let mut sealer = fixture.keyring.sealer();
    let envelope = sealer.seal(Column::Email, 1.try_into().unwrap(), "하늘@example.com");
    sqlx::query("update member set email = $1 where member_id = 1")
        .bind(envelope)
        .execute(&fixture.database.pool)
        .await
        .unwrap();
    fixture.server.offer(&["8BITMIME"]);
    let recovery = fixture.run_with(2, Selection::Failed, None).await;
    fixture.send(&recovery).await;
    assert_eq!(fixture.counts(&recovery).await, "FAILED 1, SENT 1");
    assert!(fixture.outcome(&recovery, 1).await.contains("no SMTPUTF8"));
    fixture.server.offer(&["8BITMIME", "SMTPUTF8"]);
    let recovery = fixture.run_with(3, Selection::Failed, None).await;
    fixture.send(&recovery).await;
    assert_eq!(fixture.counts(&recovery).await, "SENT 1");
    let heard = fixture.server.heard();
    assert!(heard.iter().any(|line| line.starts_with("MAIL FROM") && line.contains("SMTPUTF8")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_fails_alone() {
    let fixture = Fixture::new(3).await;
    // A ciphertext in another member's row.
    fixture
        .sql("update member set email = (select email from member where member_id = 2) where member_id = 1")
        .await;
    let run = fixture.run(1).await;
    fixture.send(&run).await;
    assert_eq!(fixture.counts(&run).await, "FAILED 1, SENT 2");
    let reason = fixture.outcome(&run, 1).await;
    assert!(reason.starts_with("FAILED DECRYPT: the email of member 1 does not open"), "{reason}");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_fails_those_that_it_says_it_fails() {
    let fixture = Fixture::new(400).await;
    let mock = || Transport::parse("mock://?failPerMillion=50000", None).unwrap();
    let fails = |attempt| {
        let month = MONTH.parse().unwrap();
        (1..=400)
            .filter(|id| {
                let member = MemberId::try_from(*id).unwrap();
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

fn member_of_step(to: &str) -> i64 {
    if to.is_empty() { 0 } else { member_of(to) }
}
