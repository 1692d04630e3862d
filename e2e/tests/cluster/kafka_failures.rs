//! Failures of Kafka, of the publisher, and of messages. Whatever is lost or duplicated, each bill
//! is sent once.

use anyhow::{Context as _, Result, ensure};
use e2e::data::{self, Cohort};
use e2e::database::TableLock;
use e2e::installation::{CONSUMERS, Installation};
use e2e::kafka::{self, Record};
use e2e::notifications::count;
use e2e::runs::{LIMIT, phase};
use e2e::suite::Suite;
use e2e::wait;
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("kafka_killed_while_messages_are_published_and_consumed", kafka_killed);
    suite.scenario("a_killed_publisher_publishes_the_rest_after_its_restart", publisher_killed);
    suite.scenario("a_notification_run_waits_for_kafka", waits_for_kafka);
    suite.scenario("a_topic_deleted_while_sending_is_published_again", topic_deleted);
    suite.scenario("duplicates_unusable_messages_and_a_replay_send_nothing_again", replayed);
}

/// Locks the table of publications, so that the publisher blocks at its next checkpoint, before its
/// first round is done.
async fn block_publisher(installation: &Installation, run: &str) -> Result<TableLock> {
    let name = format!("{}/{run}", installation.namespace);
    let (lock, done) = TableLock::acquire_when(&installation.pool, "publication", "a publication to be in progress", async |connection| {
        Ok(sqlx::query_scalar::<_, bool>(
            "select p.done_at is not null from publication p join notification n on n.id = p.notification where n.run = $1",
        )
        .bind(&name)
        .fetch_optional(connection)
        .await?)
    })
    .await?;
    ensure!(!done, "{run} was published before the publisher could be blocked");
    lock.wait_until_blocking(&installation.pool, 1).await?;
    Ok(lock)
}

async fn kafka_killed(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(7);
    installation.mail.set_rules(&[json!({"at": "MAIL", "hold": true})]).await?;
    installation.notify("kafka-killed", &cohort, json!({})).await?;
    let lock = block_publisher(installation, "kafka-killed").await?;
    installation.kill_kafka().await?;
    lock.release().await?;
    installation.kafka.wait_until_available().await?;

    installation.mail.set_rules(&[json!({"at": "REPLY", "hold": true})]).await?;
    installation.mail.wait_until_held("REPLY", 1).await?;
    installation.kill_kafka().await?;
    installation.mail.set_rules(&[]).await?;
    installation.kafka.wait_until_available().await?;
    installation.wait_until_all_sent("kafka-killed").await.map(drop)
}

async fn publisher_killed(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(8);
    installation.notify("publisher-killed", &cohort, json!({})).await?;
    let lock = block_publisher(installation, "publisher-killed").await?;
    installation.kill_workers("publisher-killed").await?;
    lock.release().await?;
    installation.wait_until_all_sent("publisher-killed").await.map(drop)
}

async fn waits_for_kafka(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(9);
    installation.ensure_billed(&cohort.month).await?;
    installation.scale_kafka(0).await?;
    installation.notify("waits-for-kafka", &cohort, json!({})).await?;
    let message = installation
        .notification_runs()
        .wait_for_condition("waits-for-kafka", "Progressing", "False", "KafkaUnavailable")
        .await?;
    ensure!(!message.is_empty(), "the condition has no message");
    let run = installation.notification_runs().get("waits-for-kafka").await?;
    ensure!(phase(&run) == "Publishing", "the run is {}", phase(&run));
    installation.scale_kafka(1).await?;
    installation.wait_until_all_sent("waits-for-kafka").await.map(drop)
}

async fn topic_deleted(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(10);
    // After a leader change the topic has a higher leader epoch than the topic that replaces it.
    installation.kill_kafka().await?;
    installation.kafka.wait_until_available().await?;
    installation.mail.set_rules(&[json!({"at": "MAIL", "hold": true})]).await?;
    installation.notify("topic-deleted", &cohort, json!({})).await?;
    let run = installation
        .notification_runs()
        .until("topic-deleted", "published", |run| {
            phase(run) == "Sending"
                && count(run, "published") == count(run, "targets")
                && count(run, "targets") > 0
        })
        .await?;
    installation.mail.wait_until_held("MAIL", 1).await?;
    ensure!(count(&run, "open") > 100, "most targets have an outcome already: {}", run.data["status"]);
    installation.kafka.delete_topic(kafka::TOPIC).await?;
    installation.mail.set_rules(&[]).await?;
    let run = installation.wait_until_all_sent("topic-deleted").await?;
    ensure!(
        run.data["status"]["round"].as_i64() >= Some(2),
        "the targets were not published again: {}",
        run.data["status"]
    );
    let partitions = installation.kafka.partitions(kafka::TOPIC).await?;
    ensure!(partitions == kafka::PARTITIONS, "the topic was created again with {partitions} partitions");
    Ok(())
}

async fn replayed(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(11);
    // Each message is on the topic twice while the run sends.
    installation.mail.set_rules(&[json!({"at": "MAIL", "hold": true})]).await?;
    installation.notify("duplicates", &cohort, json!({})).await?;
    installation.mail.wait_until_held("MAIL", 1).await?;
    installation
        .notification_runs()
        .until("duplicates", "published", |run| {
            count(run, "targets") > 0 && count(run, "published") == count(run, "targets")
        })
        .await?;
    let run = format!("{}/duplicates", installation.namespace);
    let mut records = installation.kafka.read_all(kafka::TOPIC).await?;
    records.retain(|record| String::from_utf8_lossy(&record.payload).contains(&run));
    ensure!(!records.is_empty(), "nothing was published");
    installation.kafka.produce(kafka::TOPIC, records.clone()).await?;
    installation.mail.set_rules(&[]).await?;
    installation.wait_until_all_sent("duplicates").await?;
    let sent = installation.mail.state().await?.messages;

    // All earlier messages once more, and unusable messages.
    let before = installation.kafka.read_all(kafka::DLQ).await.map_or(0, |letters| letters.len());
    installation.kafka.produce(kafka::TOPIC, installation.kafka.read_all(kafka::TOPIC).await?).await?;
    let unusable = unusable_messages(&cohort, &run);
    let kinds = unusable.len();
    installation.kafka.produce(kafka::TOPIC, unusable.clone()).await?;
    installation.kafka.wait_until_drained(kafka::GROUP, kafka::TOPIC).await?;
    let letters = wait::until("the dead letters", LIMIT, async || {
        let letters = installation.kafka.read_all(kafka::DLQ).await?;
        ensure!(letters.len() >= before + kinds, "{} of {kinds} arrived", letters.len() - before);
        Ok(Some(letters))
    })
    .await?;
    for record in &unusable {
        let letter =
            letters.iter().find(|letter| letter.payload == record.payload && letter.key == record.key);
        let letter = letter
            .with_context(|| format!("no dead letter of {:?}", String::from_utf8_lossy(&record.payload)))?;
        let reason = letter.header("monthend-reason").unwrap_or_default();
        ensure!(
            reason.len() > 10,
            "dead letter {:?} has the reason {reason:?}",
            String::from_utf8_lossy(&record.payload)
        );
    }

    // Without committed offsets the consumers read everything again.
    installation.scale_operator(0).await?;
    installation.scale_consumers(0).await?;
    installation.kafka.delete_group(kafka::GROUP).await?;
    ensure!(
        installation.kafka.has_no_offsets(kafka::GROUP, kafka::TOPIC).await?,
        "the group still has committed offsets"
    );
    installation.scale_consumers(i32::try_from(CONSUMERS)?).await?;
    installation.kafka.wait_until_drained(kafka::GROUP, kafka::TOPIC).await?;
    installation.scale_operator(1).await?;
    let now = installation.mail.state().await?.messages;
    ensure!(now == sent, "{} messages were sent again", now - sent);
    Ok(())
}

/// Unusable messages, each for a different reason.
fn unusable_messages(cohort: &Cohort, run: &str) -> Vec<Record> {
    let member = data::member_id(cohort.members.start).to_string();
    let good = json!({"v": 1, "month": cohort.month, "memberId": member, "revision": 1, "run": run});
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
