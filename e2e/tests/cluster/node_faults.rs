//! Faults below the runs: in what runs pods, in the API server, and of all nodes at once. After
//! each, the bills equal those of a run without faults, and no bill was sent twice or failed.

use anyhow::{Context as _, Result, ensure};
use e2e::data::Cohort;
use e2e::database::ChunkLock;
use e2e::installation::{CONSUMERS, Installation, SESSIONS};
use e2e::notifications::members_with;
use e2e::runs::condition;
use e2e::suite::Suite;
use e2e::{data, nodes};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("kubelet_and_containerd_restarted_in_the_middle_of_a_run", kubelet_and_containerd);
    suite.scenario("the_api_server_killed_in_the_middle_of_a_run", api_server);
    suite.scenario("every_node_stopped_and_started_in_the_middle_of_a_run", nodes_while_billing);
    suite.scenario("every_node_stopped_and_started_while_bills_are_sent", nodes_while_sending);
}

async fn kubelet_and_containerd(installation: &Installation) -> Result<()> {
    let month = data::month(21);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("kubelet-restarted", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 10, 1).await?;
    nodes::restart_unit(&installation.client, "kubelet").await?;
    nodes::restart_unit(&installation.client, "containerd").await?;
    chunk_lock.release().await?;
    installation.succeeds_with_bills_of("kubelet-restarted", &month, reference).await.map(drop)
}

async fn api_server(installation: &Installation) -> Result<()> {
    let month = data::month(22);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("api-server-killed", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 10, 1).await?;
    nodes::restart_api_server(&installation.client).await?;
    chunk_lock.release().await?;
    installation.succeeds_with_bills_of("api-server-killed", &month, reference).await?;
    // The operator watches again: it sees a run that is created now.
    installation.apply_run("created-later", &month, json!({})).await?;
    let run = installation.wait_for_phase("created-later", "Failed").await?;
    let reason = condition(&run, "Failed").context("no condition Failed")?.1.to_owned();
    ensure!(reason == "MonthAlreadyBilled", "the run created later failed with {reason}");
    Ok(())
}

async fn nodes_while_billing(installation: &Installation) -> Result<()> {
    let month = data::month(23);
    let reference = installation.reference_revision(&month).await?;
    installation.apply_run("nodes-stopped", &month, json!({})).await?;
    let chunk_lock = ChunkLock::after(&installation.pool, &month, 10, 1).await?;
    restart_nodes(installation).await?;
    // Its connection ended with the database.
    drop(chunk_lock);
    installation.succeeds_with_bills_of("nodes-stopped", &month, reference).await.map(drop)
}

async fn nodes_while_sending(installation: &Installation) -> Result<()> {
    let cohort = Cohort::of(24);
    installation.mail.set_rules(&[json!({"at": "REPLY", "delay": 0.2})]).await?;
    installation.notify("nodes-stopped", &cohort, json!({})).await?;
    installation.wait_for_outcomes("nodes-stopped", 20).await?;
    restart_nodes(installation).await?;
    installation.mail.set_rules(&[]).await?;
    let (_, targets) = installation.wait_until_finished("nodes-stopped").await?;
    let failed = members_with(&targets, "FAILED");
    ensure!(failed.is_empty(), "{} targets failed because the nodes were stopped", failed.len());
    // The mail server may have kept a message whose reply was lost.
    let (unknown, open) = (members_with(&targets, "UNKNOWN").len(), CONSUMERS * SESSIONS);
    ensure!(unknown <= usize::try_from(open)?, "{unknown} targets are UNKNOWN with {open} open sessions");
    Ok(())
}

/// Stops and starts every node, and waits until what the tests themselves use answers again.
async fn restart_nodes(installation: &Installation) -> Result<()> {
    nodes::restart_all(&installation.client).await?;
    installation.database_is_available().await?;
    installation.kafka.wait_until_available().await?;
    installation.mail.is_available().await.map(drop)
}
