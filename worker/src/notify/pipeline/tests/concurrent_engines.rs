//! Several engines and several batches at once.

use super::mail_server::{Act, MailServer, Stage};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_with_the_same_messages_send_each_once() {
    let fixture = Fixture::new(200).await;
    let run = fixture.run(1).await;
    let messages = fixture.messages(&run).await;
    let (one, two) = (fixture.engine(), fixture.engine());
    let mut batches = Vec::new();
    for part in messages.chunks(50) {
        for engine in [&one, &two] {
            let (intake, part) = (engine.intake(), part.to_vec());
            batches.push(tokio::spawn(async move { intake.submit(part).await.unwrap().await.unwrap() }));
        }
    }
    for batch in batches {
        assert_eq!(batch.await.unwrap().unusable, []);
    }
    fixture.ended(&run).await;
    one.drain(LIMIT).await.unwrap();
    two.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.server.received().len(), 200);
    assert_eq!(fixture.counts(&run).await, "SENT 200");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_recovery_runs_at_once_send_each_bill_once() {
    let fixture = Fixture::new(40).await;
    let first = fixture.run(1).await;
    fixture.server.script(|step| match step.stage {
        Stage::Rcpt => Act::Reply("550 5.1.1 no"),
        _ => Act::Accept,
    });
    fixture.send(&first).await;
    fixture.server.script(|_| Act::Accept);
    let (one, two) = (
        fixture.run_with(2, Selection::Failed, None).await,
        fixture.run_with(3, Selection::Failed, None).await,
    );
    let messages = (fixture.messages(&one).await, fixture.messages(&two).await);
    assert_eq!((messages.0.len(), messages.1.len()), (40, 40));
    let engine = fixture.engine();
    let mixed = messages.0.into_iter().zip(messages.1).flat_map(|(a, b)| [a, b]).collect();
    engine.intake().submit(mixed).await.unwrap().await.unwrap();
    // What the other run held is published again, and already has an outcome.
    for run in [&one, &two] {
        engine.intake().submit(fixture.messages(run).await).await.unwrap().await.unwrap();
        fixture.ended(run).await;
    }
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.server.received().len(), 40);
    assert_eq!(fixture.one("select count(*) from notice_target where outcome = 'SENT'").await, "40");
    assert_eq!(fixture.one("select count(distinct attempt) from delivery where attempt = 2").await, "1");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_lease_nothing_is_sent() {
    let fixture = Fixture::new(20).await;
    let run = fixture.run(1).await;
    let messages = fixture.messages(&run).await;
    // The first engine's server is down.
    let other_server = MailServer::start().await;
    other_server.shut_down();
    let transport = Transport::parse(&format!("smtp://127.0.0.1:{}", other_server.port), None).unwrap();
    let lease = Duration::from_secs(6);
    let first = fixture.start(EngineConfig { transport, lease, ..fixture.config() });
    let lost = first.intake().submit(messages.clone()).await.unwrap();
    fixture.until("select count(*) from delivery where state = 'CLAIMED'", "20").await;
    fixture.expire().await;
    let second = fixture.engine();
    second.intake().submit(messages).await.unwrap().await.unwrap();
    second.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 20");
    other_server.restart().await;
    tokio::time::timeout(LIMIT, lost).await.unwrap().unwrap();
    first.drain(LIMIT).await.unwrap();
    assert_eq!(other_server.received().len(), 0);
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_share_a_rate_limit() {
    let fixture = Fixture::new(60).await;
    let run = fixture.run_with(1, Selection::Ready, Some(25)).await;
    let messages = fixture.messages(&run).await;
    let (one, two) = (fixture.engine(), fixture.engine());
    let (half, rest) = messages.split_at(30);
    let (a, b) = (
        one.intake().submit(half.to_vec()).await.unwrap(),
        two.intake().submit(rest.to_vec()).await.unwrap(),
    );
    let (a, b) = tokio::join!(a, b);
    drop((a.unwrap(), b.unwrap()));
    one.drain(LIMIT).await.unwrap();
    two.drain(LIMIT).await.unwrap();
    let mut at: Vec<_> = fixture.server.received().iter().map(|email| email.at).collect();
    at.sort();
    let total = at[59] - at[0];
    assert!(total >= Duration::from_millis(59 * 40 - 200), "60 emails at 25 a second within {total:?}");
    assert!(total < Duration::from_secs(10), "60 emails at 25 a second took {total:?}");
    for window in at.windows(30) {
        let time = window[29] - window[0];
        assert!(time > Duration::from_millis(900), "30 emails within {time:?}");
    }
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_can_change_while_a_run_is_sent() {
    let fixture = Fixture::new(100).await;
    let run = fixture.run_with(1, Selection::Ready, Some(1)).await;
    let engine = fixture.engine();
    let done = engine.intake().submit(fixture.messages(&run).await).await.unwrap();
    wait_until("the first emails", || !fixture.server.received().is_empty()).await;
    notification::update_settings(&fixture.operator, run.id, false, None).await.unwrap();
    tokio::time::timeout(LIMIT, done).await.unwrap().unwrap();
    engine.drain(LIMIT).await.unwrap();
    assert_eq!(fixture.counts(&run).await, "SENT 100");
    fixture.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_batch_waits_for_room() {
    let fixture = Fixture::new(30).await;
    fixture.server.script(|step| if step.stage == Stage::End { Act::Hang } else { Act::Accept });
    let run = fixture.run(1).await;
    let messages = fixture.messages(&run).await;
    let engine = fixture.engine();
    let intake = engine.intake();
    let _one = intake.submit(messages[..10].to_vec()).await.unwrap();
    let _two = intake.submit(messages[10..20].to_vec()).await.unwrap();
    let third = intake.submit(messages[20..].to_vec());
    assert!(tokio::time::timeout(Duration::from_millis(500), third).await.is_err());
    assert_eq!(
        fixture.one("select count(*) from delivery").await,
        "20",
        "the second batch is prepared meanwhile"
    );
}
