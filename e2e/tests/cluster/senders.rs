//! Consumers that are killed, restarted and scaled while they send.

use anyhow::{Context as _, Result, ensure};
use e2e::{
    data::Slice,
    database::Lock,
    installation::{CONSUMERS, Installation, SESSIONS},
    notices::members_with,
    runs::{LIMIT, status},
    suite::Suite,
    wait,
};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("consumers_killed_before_during_and_after_the_send", killed);
    suite.scenario("consumers_restarted_in_the_middle_lose_nothing", restarted);
    suite.scenario("consumers_are_scaled_out_and_in_again_with_the_lag", scaled);
}

async fn killed(on: &Installation) -> Result<()> {
    let slice = Slice::of(3);
    // All of one consumer's sessions, at the least.
    let some = u64::from(SESSIONS);
    on.mail.behave(&[json!({"at": "MAIL", "hold": true})]).await?;
    on.notify("killed", &slice, json!({})).await?;
    on.mail.holds("MAIL", some).await?;
    on.kill_consumers().await?;

    // Before the send nothing is lost, and nothing is in doubt.
    on.mail.behave(&[json!({"at": "REPLY", "hold": true})]).await?;
    on.mail.holds("REPLY", some).await?;
    ensure!(on.deliveries(&slice, "UNKNOWN").await? == 0, "a claim became an unknown outcome");
    // During the send: the mail server has the messages, and nobody heard so.
    on.kill_consumers().await?;

    // After the send: acknowledged, and not written down.
    on.mail.behave(&[json!({"at": "REPLY", "hold": true})]).await?;
    on.mail.holds("REPLY", some).await?;
    let lock = Lock::on(&on.pool, "delivery").await?;
    on.mail.behave(&[]).await?;
    on.mail.lets_go("REPLY").await?;
    lock.holds(&on.pool, 1).await?;
    let killed = on.kill_processes().await?;
    lock.let_go().await?;
    on.end_leases(killed).await?;

    let (_, targets) = on.notified("killed").await?;
    let unknown = members_with(&targets, "UNKNOWN");
    let open = usize::try_from(2 * CONSUMERS * SESSIONS)?;
    ensure!(!unknown.is_empty(), "messages were taken whose sender was killed, and none is unknown");
    ensure!(
        unknown.len() <= open,
        "{} are unknown after two kills; {open} sessions were open",
        unknown.len()
    );
    let failed = members_with(&targets, "FAILED");
    ensure!(failed.is_empty(), "a kill made {} of them fail", failed.len());

    // Only whoever asks for them gets those sent again, and nobody else.
    on.notify("of-the-unknown", &slice, json!({"select": "Unknown"})).await?;
    on.all_sent("of-the-unknown").await?;
    let again = members_with(&on.targets("of-the-unknown").await?, "SENT");
    ensure!(again == unknown, "{} were unknown, {} were sent again", unknown.len(), again.len());
    Ok(())
}

async fn restarted(on: &Installation) -> Result<()> {
    let slice = Slice::of(4);
    on.mail.behave(&[json!({"at": "REPLY", "delay": 0.2})]).await?;
    on.notify("restarted", &slice, json!({})).await?;
    on.ended("restarted", 20).await?;
    on.kubectl(&["rollout", "restart", "deployment/monthend-notify"]).await?;
    on.kubectl(&["rollout", "status", "deployment/monthend-notify", "--timeout=120s"]).await?;
    on.mail.behave(&[]).await?;
    on.all_sent("restarted").await.context("a restart with a grace period").map(drop)
}

async fn scaled(on: &Installation) -> Result<()> {
    // Slow enough that one consumer would need half a minute.
    let slice = Slice { members: 5 * e2e::data::SLICE..7 * e2e::data::SLICE, ..Slice::of(5) };
    on.scale_by(&[("min-replicas", 1), ("lag-per-replica", 50), ("cooldown-seconds", 4)]).await?;
    on.consumers_are(1).await?;
    on.scale_by(&[("max-replicas", 6)]).await?;
    on.mail.behave(&[json!({"at": "RCPT", "delay": 0.2})]).await?;
    on.notify("scaling", &slice, json!({})).await?;
    on.consumers_are(6).await?;
    wait::until_true("the run to say who sends for it", LIMIT, async || {
        let said = status(&on.notices().get("scaling").await?)["consumers"].clone();
        ensure!(said["desired"] == 6 && said["ready"] == 6, "it says {said}");
        Ok(true)
    })
    .await?;

    // With Kafka away nobody can tell the lag, and nobody is sent home for that.
    on.scale_kafka(0).await?;
    wait::until_true("the lag to be unreadable", LIMIT, async || {
        let metrics = on.operator_says("metrics").await?;
        let mut lines = metrics.lines().filter(|line| line.starts_with("monthend_kafka_lag_readable{"));
        Ok(lines.next_back().is_some_and(|line| line.ends_with(" 0")))
    })
    .await?;
    let (wanted, _) = on.replicas().await?;
    ensure!(wanted == 6, "nobody knew the lag, and {wanted} consumers are wanted");
    on.scale_kafka(1).await?;
    on.kafka.is_back().await?;
    on.mail.behave(&[]).await?;
    on.all_sent("scaling").await?;

    // The minimum, once the cool-down is over.
    on.consumers_are(1).await?;
    let events = on.kubectl(&["get", "events", "-o", "json"]).await?;
    let events: serde_json::Value = serde_json::from_str(&events)?;
    let said = events["items"].as_array().into_iter().flatten().filter(|event| {
        // Of the product, not of the Deployment's own controller.
        let reporter = format!("{}{}", event["reportingComponent"], event["source"]["component"]);
        let about = event["involvedObject"]["name"].as_str().or_else(|| event["regarding"]["name"].as_str());
        about == Some(e2e::notices::CONSUMERS) && reporter.contains("monthend-operator")
    });
    ensure!(said.count() >= 2, "no Events for scaling out and in");
    let metrics = on.operator_says("metrics").await?;
    for direction in ["out", "in"] {
        let counted = metrics.lines().any(|line| {
            let of_it = line.starts_with("monthend_scale_decisions_total{")
                && line.contains(&format!("\"{direction}\""));
            of_it && !line.ends_with(" 0")
        });
        ensure!(counted, "no decision `{direction}` is counted in:\n{metrics}");
    }
    Ok(())
}
