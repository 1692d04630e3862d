//! Notification runs that are suspended or deleted while they send, or that lose the operator.

use anyhow::{Result, ensure};
use e2e::data::Cohort;
use e2e::installation::Installation;
use e2e::notifications::{count, members_with};
use e2e::runs::{LIMIT, condition, is_finished, phase};
use e2e::suite::Suite;
use e2e::{cluster, kafka, wait};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_notification_run_is_suspended_and_resumed", suspended);
    suite.scenario("a_notification_run_is_deleted_halfway_and_applied_again", deleted_halfway);
    suite.scenario("the_operator_killed_and_scaled_to_zero_while_bills_are_sent", operator_down);
}

async fn suspended(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(17);
    installation.mail.set_rules(&[json!({"at": "MAIL", "hold": true})]).await?;
    installation.notify("suspended", &cohort, json!({})).await?;
    installation.mail.wait_until_held("MAIL", 1).await?;
    installation.notification_runs().change("suspended", json!({"suspend": true})).await?;
    installation
        .notification_runs()
        .wait_for_condition("suspended", "Suspended", "True", "Suspended")
        .await?;
    installation.mail.set_rules(&[]).await?;
    // Consumers commit its messages without sending, and release its claims.
    installation.kafka.wait_until_drained(kafka::GROUP, kafka::TOPIC).await?;
    wait::until_true("all claims to be released", LIMIT, async || {
        let (claimed, handed_over) = (
            installation.deliveries(&cohort, "CLAIMED").await?,
            installation.deliveries(&cohort, "HANDED_OVER").await?,
        );
        ensure!((claimed, handed_over) == (0, 0), "{claimed} are claimed, {handed_over} handed over");
        Ok(true)
    })
    .await?;
    let sent = installation.mail.messages_of(&cohort).await?.len();
    ensure!(sent == 0, "{sent} messages were sent by a suspended run");
    let run = installation.notification_runs().get("suspended").await?;
    ensure!(!is_finished(&run) && phase(&run) != "Pending", "the run is {} while suspended", phase(&run));

    installation.notification_runs().change("suspended", json!({"suspend": false})).await?;
    let run = installation.wait_until_all_sent("suspended").await?;
    ensure!(
        condition(&run, "Suspended").is_none_or(|found| found.0 == "False"),
        "the run is still suspended"
    );
    Ok(())
}

async fn deleted_halfway(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(18);
    let run = format!("{}/deleted", installation.namespace);
    // Bills are claimed and none is handed over: the run is deleted at once.
    installation.mail.set_rules(&[json!({"at": "MAIL", "hold": true})]).await?;
    installation.notify("deleted", &cohort, json!({})).await?;
    installation.mail.wait_until_held("MAIL", 1).await?;
    installation.notification_runs().delete("deleted").await?;
    let left =
        cluster::pods(&installation.client, &installation.namespace, "monthend.dev/run=deleted").await?;
    ensure!(left.is_empty(), "the run is deleted, but {} of its pods still exist", left.len());
    installation.mail.set_rules(&[]).await?;
    installation.kafka.wait_until_drained(kafka::GROUP, kafka::TOPIC).await?;
    let sent = installation.mail.messages_of(&cohort).await?.len();
    ensure!(sent == 0, "{sent} messages were sent by a deleted run");

    // Some bills are handed over: the run is deleted as soon as their outcome is known.
    installation.mail.set_rules(&[json!({"at": "REPLY", "hold": true})]).await?;
    installation.notify("deleted", &cohort, json!({})).await?;
    installation.mail.wait_until_held("REPLY", 1).await?;
    installation.notification_runs().api.delete("deleted", &kube::api::DeleteParams::default()).await?;
    wait::until_true("the run to claim nothing more", LIMIT, async || {
        Ok(installation.deliveries(&cohort, "CLAIMED").await? == 0)
    })
    .await?;
    ensure!(
        installation.notification_runs().api.get_opt("deleted").await?.is_some(),
        "the run was deleted before the outcome of its deliveries was known"
    );
    installation.mail.set_rules(&[]).await?;
    installation.notification_runs().wait_until_deleted("deleted").await?;
    let before = installation.targets("deleted").await?;
    let sent = members_with(&before, "SENT");
    ensure!(!sent.is_empty(), "no target is SENT although the mail server accepted messages");
    let jobs: Vec<(String, i64)> = sqlx::query_as(
        "select status, total - succeeded - failed - skipped from job_log where run = $1 and kind = 'SEND' order by id",
    )
    .bind(&run)
    .fetch_all(&installation.pool)
    .await?;
    let cancelled = ("CANCELLED".to_owned(), 0);
    ensure!(jobs == [cancelled.clone(), cancelled], "job_log: {jobs:?}");

    // The third run of this name sends everything that the second did not send.
    installation.notify("deleted", &cohort, json!({})).await?;
    installation.wait_until_all_sent("deleted").await?;
    let third = installation.targets("deleted").await?;
    let twice: Vec<i64> =
        members_with(&third, "SENT").into_iter().filter(|member| sent.contains(member)).collect();
    ensure!(twice.is_empty(), "{} members got their bill twice", twice.len());
    Ok(())
}

async fn operator_down(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(19);
    installation.mail.set_rules(&[json!({"at": "MAIL", "hold": true})]).await?;
    installation.notify("without-operator", &cohort, json!({})).await?;
    installation
        .notification_runs()
        .until("without-operator", "published", |run| {
            count(run, "targets") > 0 && count(run, "published") == count(run, "targets")
        })
        .await?;
    installation.mail.wait_until_held("MAIL", 1).await?;
    installation.kill_operator().await?;
    installation.scale_operator(0).await?;
    installation.mail.set_rules(&[]).await?;
    let target_count = installation.targets("without-operator").await?.len();
    installation.wait_for_outcomes("without-operator", target_count).await?;
    let run = installation.notification_runs().get("without-operator").await?;
    ensure!(phase(&run) == "Sending", "the phase changed to {} without an operator", phase(&run));
    installation.scale_operator(1).await?;
    installation.wait_until_all_sent("without-operator").await.map(drop)
}
