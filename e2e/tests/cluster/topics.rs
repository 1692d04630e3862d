//! What befalls Kafka and those who use it. Whatever is lost or comes twice, every bill is told once.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    data::{self, Slice},
    database::Lock,
    installation::{CONSUMERS, Installation},
    kafka::{self, Record},
    notices::count,
    runs::{LIMIT, phase},
    suite::Suite,
    wait,
};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("kafka_killed_while_notices_are_published_and_consumed", kafka_killed);
    suite.scenario("a_publisher_killed_in_the_middle_publishes_again", publisher_killed);
    suite.scenario("a_notification_waits_for_kafka", waits_for_kafka);
    suite.scenario("a_topic_deleted_in_the_middle_is_published_again", topic_deleted);
    suite.scenario("duplicates_garbage_and_a_full_replay_send_nothing_again", replayed);
}

/// The publisher's next checkpoint finds the table held, in the middle of its first round.
async fn publisher_held(on: &Installation, run: &str) -> Result<Lock> {
    let name = format!("{}/{run}", on.namespace);
    let (lock, done) = Lock::when(&on.pool, "publication", "a publication to be under way", async |connection| {
        Ok(sqlx::query_scalar::<_, bool>(
            "select p.done_at is not null from publication p join notification n on n.id = p.notification where n.run = $1",
        )
        .bind(&name)
        .fetch_optional(connection)
        .await?)
    })
    .await?;
    ensure!(!done, "{run} was published before it could be held");
    lock.holds(&on.pool, 1).await?;
    Ok(lock)
}

async fn kafka_killed(on: &Installation) -> Result<()> {
    let slice = Slice::of(7);
    on.mail.behave(&[json!({"at": "MAIL", "hold": true})]).await?;
    on.notify("without-broker", &slice, json!({})).await?;
    let lock = publisher_held(on, "without-broker").await?;
    on.kill_kafka().await?;
    lock.let_go().await?;
    on.kafka.is_back().await?;

    on.mail.behave(&[json!({"at": "REPLY", "hold": true})]).await?;
    on.mail.holds("REPLY", 1).await?;
    on.kill_kafka().await?;
    on.mail.behave(&[]).await?;
    on.kafka.is_back().await?;
    on.all_sent("without-broker").await.map(drop)
}

async fn publisher_killed(on: &Installation) -> Result<()> {
    let slice = Slice::of(8);
    on.notify("publisher-killed", &slice, json!({})).await?;
    let lock = publisher_held(on, "publisher-killed").await?;
    on.kill_workers("publisher-killed").await?;
    lock.let_go().await?;
    on.all_sent("publisher-killed").await.map(drop)
}

async fn waits_for_kafka(on: &Installation) -> Result<()> {
    let slice = Slice::of(9);
    on.billed(&slice.month).await?;
    on.scale_kafka(0).await?;
    on.notify("patient", &slice, json!({})).await?;
    let message = on.notices().says("patient", "Progressing", "False", "KafkaUnavailable").await?;
    ensure!(!message.is_empty(), "it does not say what it waits for");
    let run = on.notices().get("patient").await?;
    ensure!(phase(&run) == "Publishing", "it is {}", phase(&run));
    on.scale_kafka(1).await?;
    on.all_sent("patient").await.map(drop)
}

async fn topic_deleted(on: &Installation) -> Result<()> {
    let slice = Slice::of(10);
    // A topic that has seen its leader change differs from its successor in more than what is on it.
    on.kill_kafka().await?;
    on.kafka.is_back().await?;
    on.mail.behave(&[json!({"at": "MAIL", "hold": true})]).await?;
    on.notify("topic-deleted", &slice, json!({})).await?;
    let run = on
        .notices()
        .until("topic-deleted", "published", |run| {
            phase(run) == "Sending"
                && count(run, "published") == count(run, "targets")
                && count(run, "targets") > 0
        })
        .await?;
    on.mail.holds("MAIL", 1).await?;
    ensure!(count(&run, "open") > 100, "most of it is done already: {}", run.data["status"]);
    on.kafka.delete_topic(kafka::TOPIC).await?;
    on.mail.behave(&[]).await?;
    let run = on.all_sent("topic-deleted").await?;
    ensure!(
        run.data["status"]["round"].as_i64() >= Some(2),
        "it was not published again: {}",
        run.data["status"]
    );
    let partitions = on.kafka.partitions(kafka::TOPIC).await?;
    ensure!(partitions == kafka::PARTITIONS, "the topic came back with {partitions} partitions");
    Ok(())
}

async fn replayed(on: &Installation) -> Result<()> {
    let slice = Slice::of(11);
    // Every message twice while the run goes on.
    on.mail.behave(&[json!({"at": "MAIL", "hold": true})]).await?;
    on.notify("doubled", &slice, json!({})).await?;
    on.mail.holds("MAIL", 1).await?;
    on.notices()
        .until("doubled", "published", |run| {
            count(run, "targets") > 0 && count(run, "published") == count(run, "targets")
        })
        .await?;
    let run = format!("{}/doubled", on.namespace);
    let mut records = on.kafka.read_all(kafka::TOPIC).await?;
    records.retain(|record| String::from_utf8_lossy(&record.payload).contains(&run));
    ensure!(!records.is_empty(), "nothing was published");
    on.kafka.put(kafka::TOPIC, records.clone()).await?;
    on.mail.behave(&[]).await?;
    on.all_sent("doubled").await?;
    let sent = on.mail.state().await?.messages;

    // Every message that ever was, once more, and things that are no messages.
    let before = on.kafka.read_all(kafka::DLQ).await.map_or(0, |letters| letters.len());
    on.kafka.put(kafka::TOPIC, on.kafka.read_all(kafka::TOPIC).await?).await?;
    let garbage = garbage(&slice, &run);
    let kinds = garbage.len();
    on.kafka.put(kafka::TOPIC, garbage.clone()).await?;
    on.kafka.drained(kafka::GROUP, kafka::TOPIC).await?;
    let letters = wait::until("the dead letters", LIMIT, async || {
        let letters = on.kafka.read_all(kafka::DLQ).await?;
        ensure!(letters.len() >= before + kinds, "{} of {kinds} came", letters.len() - before);
        Ok(Some(letters))
    })
    .await?;
    for record in &garbage {
        let letter =
            letters.iter().find(|letter| letter.payload == record.payload && letter.key == record.key);
        let letter = letter
            .with_context(|| format!("no dead letter of {:?}", String::from_utf8_lossy(&record.payload)))?;
        let reason = letter.header("monthend-reason").unwrap_or_default();
        ensure!(
            reason.len() > 10,
            "dead letter {:?} says {reason:?}",
            String::from_utf8_lossy(&record.payload)
        );
    }

    // The group has never read anything: all of it comes again.
    on.scale_operator(0).await?;
    on.set_consumers(0).await?;
    on.kafka.delete_group(kafka::GROUP).await?;
    ensure!(
        on.kafka.knows_no_offset(kafka::GROUP, kafka::TOPIC).await?,
        "the group still knows where it was"
    );
    on.set_consumers(i32::try_from(CONSUMERS)?).await?;
    on.kafka.drained(kafka::GROUP, kafka::TOPIC).await?;
    on.scale_operator(1).await?;
    let now = on.mail.state().await?.messages;
    ensure!(now == sent, "{} messages were sent again", now - sent);
    Ok(())
}

/// What nobody can use. No two are alike.
fn garbage(slice: &Slice, run: &str) -> Vec<Record> {
    let member = data::member_id(slice.members.start).to_string();
    let good = json!({"v": 1, "month": slice.month, "memberId": member, "revision": 1, "run": run});
    let with = |field: &str, value: serde_json::Value| {
        let mut message = good.clone();
        message[field] = value;
        message.to_string()
    };
    [
        String::new(),
        "not JSON".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        with("v", json!(2)),
        with("month", json!("2026-13")),
        with("memberId", json!(7)),
        with("memberId", json!("0")),
        with("revision", json!(0)),
        with("run", json!("nowhere")),
        with("run", json!(format!("{}/nobody", run.split('/').next().unwrap_or_default()))),
    ]
    .into_iter()
    .map(|payload| Record {
        key: Some(member.clone().into_bytes()),
        payload: payload.into_bytes(),
        headers: Vec::new(),
    })
    .collect()
}
