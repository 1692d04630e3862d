//! Faults below a billing run: in what runs pods, and in the API server. After each, the bills equal
//! those of a run without faults.

use anyhow::{Context as _, Result, ensure};
use e2e::database::ChunkLock;
use e2e::installation::Installation;
use e2e::runs::condition;
use e2e::suite::Suite;
use e2e::{data, nodes};
use serde_json::json;

pub(crate) fn add(suite: &mut Suite) {
    suite.scenario("kubelet_and_containerd_restarted_in_the_middle_of_a_run", kubelet_and_containerd);
    suite.scenario("the_api_server_killed_in_the_middle_of_a_run", api_server);
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
