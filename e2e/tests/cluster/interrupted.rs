//! Notifications that somebody stops, takes away, or loses the operator of.

use anyhow::{Result, ensure};
use e2e::{
    cluster,
    data::Slice,
    installation::Installation,
    kafka,
    notices::{count, members_with},
    runs::{LIMIT, condition, over, phase},
    suite::Suite,
    wait,
};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("a_notification_suspended_and_resumed", suspended);
    suite.scenario("a_notification_deleted_half_way_and_applied_again", deleted_half_way);
    suite.scenario("the_operator_killed_and_away_while_notices_go_out", operator_away);
}

async fn suspended(on: &Installation) -> Result<()> {
    let slice = Slice::of(17);
    on.mail.behave(&[json!({"at": "MAIL", "hold": true})]).await?;
    on.notify("paused", &slice, json!({})).await?;
    on.mail.holds("MAIL", 1).await?;
    on.notices().change("paused", json!({"suspend": true})).await?;
    on.notices().says("paused", "Suspended", "True", "Suspended").await?;
    on.mail.behave(&[]).await?;
    // Its messages are committed unsent, and what was claimed is let go.
    on.kafka.drained(kafka::GROUP, kafka::TOPIC).await?;
    wait::until_true("everything in hand to be given back", LIMIT, async || {
        let (claimed, handed_over) =
            (on.deliveries(&slice, "CLAIMED").await?, on.deliveries(&slice, "HANDED_OVER").await?);
        ensure!((claimed, handed_over) == (0, 0), "{claimed} are claimed, {handed_over} handed over");
        Ok(true)
    })
    .await?;
    let sent = on.mail.messages_of(&slice).await?.len();
    ensure!(sent == 0, "{sent} messages were sent by a suspended run");
    let run = on.notices().get("paused").await?;
    ensure!(!over(&run) && phase(&run) != "Pending", "it is {} while suspended", phase(&run));

    on.notices().change("paused", json!({"suspend": false})).await?;
    let run = on.all_sent("paused").await?;
    ensure!(condition(&run, "Suspended").is_none_or(|said| said.0 == "False"), "it is still suspended");
    Ok(())
}

async fn deleted_half_way(on: &Installation) -> Result<()> {
    let slice = Slice::of(18);
    let run = format!("{}/phoenix", on.namespace);
    // Claimed, nothing handed over: it goes at once.
    on.mail.behave(&[json!({"at": "MAIL", "hold": true})]).await?;
    on.notify("phoenix", &slice, json!({})).await?;
    on.mail.holds("MAIL", 1).await?;
    on.notices().delete("phoenix").await?;
    let left = cluster::pods(&on.client, &on.namespace, "monthend.dev/run=phoenix").await?;
    ensure!(left.is_empty(), "the run is gone and {} of its pods are not", left.len());
    on.mail.behave(&[]).await?;
    on.kafka.drained(kafka::GROUP, kafka::TOPIC).await?;
    let sent = on.mail.messages_of(&slice).await?.len();
    ensure!(sent == 0, "{sent} messages were sent by a deleted run");

    // Some are with the mail server: it goes once their outcome is known.
    on.mail.behave(&[json!({"at": "REPLY", "hold": true})]).await?;
    on.notify("phoenix", &slice, json!({})).await?;
    on.mail.holds("REPLY", 1).await?;
    on.notices().api.delete("phoenix", &kube::api::DeleteParams::default()).await?;
    wait::until_true("the run to take nothing further", LIMIT, async || {
        Ok(on.deliveries(&slice, "CLAIMED").await? == 0)
    })
    .await?;
    ensure!(
        on.notices().api.get_opt("phoenix").await?.is_some(),
        "it is gone, and nobody knows what was sent"
    );
    on.mail.behave(&[]).await?;
    on.notices().is_gone("phoenix").await?;
    let before = on.targets("phoenix").await?;
    let sent = members_with(&before, "SENT");
    ensure!(!sent.is_empty(), "what the mail server took is not SENT");
    let jobs: Vec<(String, i64)> = sqlx::query_as(
        "select status, total - succeeded - failed - skipped from job_log where run = $1 and kind = 'SEND' order by id",
    )
    .bind(&run)
    .fetch_all(&on.pool)
    .await?;
    let cancelled = ("CANCELLED".to_owned(), 0);
    ensure!(jobs == [cancelled.clone(), cancelled], "job_log: {jobs:?}");

    // The third of this name tells everyone whom the second did not.
    on.notify("phoenix", &slice, json!({})).await?;
    on.all_sent("phoenix").await?;
    let again = on.targets("phoenix").await?;
    let twice: Vec<i64> =
        members_with(&again, "SENT").into_iter().filter(|member| sent.contains(member)).collect();
    ensure!(twice.is_empty(), "{} were told twice", twice.len());
    Ok(())
}

async fn operator_away(on: &Installation) -> Result<()> {
    let slice = Slice::of(19);
    on.mail.behave(&[json!({"at": "MAIL", "hold": true})]).await?;
    on.notify("alone", &slice, json!({})).await?;
    on.notices()
        .until("alone", "published", |run| {
            count(run, "targets") > 0 && count(run, "published") == count(run, "targets")
        })
        .await?;
    on.mail.holds("MAIL", 1).await?;
    on.kill_operator().await?;
    on.scale_operator(0).await?;
    on.mail.behave(&[]).await?;
    let all = on.targets("alone").await?.len();
    on.ended("alone", all).await?;
    let run = on.notices().get("alone").await?;
    ensure!(phase(&run) == "Sending", "somebody moved the run to {} without an operator", phase(&run));
    on.scale_operator(1).await?;
    on.all_sent("alone").await.map(drop)
}
