//! Consumers that are killed, restarted and scaled while they send.

use anyhow::{Context as _, Result, ensure};
use e2e::data::Cohort;
use e2e::database::TableLock;
use e2e::installation::{CONSUMERS, Installation, SESSIONS};
use e2e::notifications::members_with;
use e2e::runs::{LIMIT, status};
use e2e::suite::Suite;
use e2e::wait;
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("consumers_killed_before_during_and_after_sending", killed);
    suite.scenario("consumers_restarted_while_sending_lose_nothing", restarted);
    suite.scenario("consumers_are_scaled_out_and_in_with_the_lag", scaled);
}

async fn killed(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(3);
    // At least all sessions of one consumer.
    let held = u64::from(SESSIONS);
    installation.mail.set_rules(&[json!({"at": "MAIL", "hold": true})]).await?;
    installation.notify("killed", &cohort, json!({})).await?;
    installation.mail.wait_until_held("MAIL", held).await?;
    installation.kill_consumers().await?;

    // Killed before sending: no outcome is UNKNOWN.
    installation.mail.set_rules(&[json!({"at": "REPLY", "hold": true})]).await?;
    installation.mail.wait_until_held("REPLY", held).await?;
    ensure!(installation.deliveries(&cohort, "UNKNOWN").await? == 0, "a claimed delivery became UNKNOWN");
    // Killed while sending: the mail server has the messages, and no consumer got its reply.
    installation.kill_consumers().await?;

    // Killed after sending: the messages are acknowledged, and the outcome is not recorded.
    installation.mail.set_rules(&[json!({"at": "REPLY", "hold": true})]).await?;
    installation.mail.wait_until_held("REPLY", held).await?;
    let lock = TableLock::acquire(&installation.pool, "delivery").await?;
    installation.mail.set_rules(&[]).await?;
    installation.mail.wait_until_released("REPLY").await?;
    lock.wait_until_blocking(&installation.pool, 1).await?;
    let killed = installation.kill_consumer_processes().await?;
    lock.release().await?;
    installation.expire_leases(killed).await?;

    let (_, targets) = installation.wait_until_finished("killed").await?;
    let unknown = members_with(&targets, "UNKNOWN");
    let open = usize::try_from(2 * CONSUMERS * SESSIONS)?;
    ensure!(!unknown.is_empty(), "no target is UNKNOWN although senders were killed while sending");
    ensure!(
        unknown.len() <= open,
        "{} targets are UNKNOWN after two kills with {open} open sessions",
        unknown.len()
    );
    let failed = members_with(&targets, "FAILED");
    ensure!(failed.is_empty(), "{} targets failed because a consumer was killed", failed.len());

    // Only a run with `select: Unknown` sends these again, and it sends no others.
    installation.notify("select-unknown", &cohort, json!({"select": "Unknown"})).await?;
    installation.wait_until_all_sent("select-unknown").await?;
    let again = members_with(&installation.targets("select-unknown").await?, "SENT");
    ensure!(again == unknown, "{} were UNKNOWN, {} were sent again", unknown.len(), again.len());
    Ok(())
}

async fn restarted(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(4);
    installation.mail.set_rules(&[json!({"at": "REPLY", "delay": 0.2})]).await?;
    installation.notify("restarted", &cohort, json!({})).await?;
    installation.wait_for_outcomes("restarted", 20).await?;
    installation.kubectl(&["rollout", "restart", "deployment/monthend-notify"]).await?;
    installation.kubectl(&["rollout", "status", "deployment/monthend-notify", "--timeout=120s"]).await?;
    installation.mail.set_rules(&[]).await?;
    installation.wait_until_all_sent("restarted").await.context("a restart with a grace period").map(drop)
}

async fn scaled(installation: &Installation) -> Result<()> {
    // The delay is long enough that one consumer would need half a minute.
    let cohort = Cohort { members: 5 * e2e::data::COHORT_SIZE..7 * e2e::data::COHORT_SIZE, ..Cohort::of(5) };
    installation
        .set_scaling_annotations(&[("min-replicas", 1), ("lag-per-replica", 50), ("cooldown-seconds", 4)])
        .await?;
    installation.wait_for_consumers(1).await?;
    installation.set_scaling_annotations(&[("max-replicas", 6)]).await?;
    installation.mail.set_rules(&[json!({"at": "RCPT", "delay": 0.2})]).await?;
    installation.notify("scaling", &cohort, json!({})).await?;
    installation.wait_for_consumers(6).await?;
    wait::until_true("the run's status to show its consumers", LIMIT, async || {
        let shown = status(&installation.notification_runs().get("scaling").await?)["consumers"].clone();
        ensure!(shown["desired"] == 6 && shown["ready"] == 6, "the status shows {shown}");
        Ok(true)
    })
    .await?;

    // Without Kafka the lag cannot be read, and the number of consumers stays.
    installation.scale_kafka(0).await?;
    wait::until_true("the lag to be unreadable", LIMIT, async || {
        let metrics = installation.operator_get("metrics").await?;
        let mut lines = metrics.lines().filter(|line| line.starts_with("monthend_kafka_lag_readable{"));
        Ok(lines.next_back().is_some_and(|line| line.ends_with(" 0")))
    })
    .await?;
    let (desired, _) = installation.replicas().await?;
    ensure!(desired == 6, "{desired} consumers are desired while the lag is unreadable");
    installation.scale_kafka(1).await?;
    installation.kafka.wait_until_available().await?;
    installation.mail.set_rules(&[]).await?;
    installation.wait_until_all_sent("scaling").await?;

    // The minimum again, after the cool-down.
    installation.wait_for_consumers(1).await?;
    wait::until_true("Events for scaling out and in", LIMIT, async || {
        let events = installation.kubectl(&["get", "events", "-o", "json"]).await?;
        let events: serde_json::Value = serde_json::from_str(&events)?;
        let scaling_events = events["items"].as_array().into_iter().flatten().filter(|event| {
            // Only Events of the operator, not those of the Deployment controller.
            let reporter = format!("{}{}", event["reportingComponent"], event["source"]["component"]);
            let about =
                event["involvedObject"]["name"].as_str().or_else(|| event["regarding"]["name"].as_str());
            about == Some(e2e::consumers::DEPLOYMENT) && reporter.contains("monthend-operator")
        });
        Ok(scaling_events.count() >= 2)
    })
    .await?;
    let metrics = installation.operator_get("metrics").await?;
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
