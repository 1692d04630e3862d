//! Faults on kind's nodes, through the Docker engine that runs them: processes of pods are killed,
//! systemd units, the API server and whole nodes are restarted.
//!
//! A node has the name of its container. Force-deleting a pod is not enough for a database: its
//! successor could start on the same volume while the old process still runs. So the process itself
//! is killed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::{shell, wait};

/// A node with all its pods starts within this time on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// Kills all processes of a pod whose command line contains a word, and prints how many it killed.
const KILL: &str = r#"
killed=0
for process in /proc/[0-9]*; do
  tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q -- "$2" || continue
  tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "HOSTNAME=$1" || continue
  kill -9 "${process#/proc/}" && killed=$((killed + 1))
done
echo "$killed"
"#;

/// Sends SIGKILL to the processes called `program` in the pod with this host name. Returns how many
/// it killed.
pub async fn kill_all(client: &Client, host: &str, program: &str) -> Result<u32> {
    let mut killed = 0;
    for node in all(client).await? {
        let answer = exec(&node, &["bash", "-c", KILL, "kill", host, program])
            .await
            .with_context(|| format!("kill {program} on {host}"))?;
        killed += answer.trim().parse::<u32>().with_context(|| format!("node {node} answered {answer:?}"))?;
    }
    Ok(killed)
}

/// [`kill_all`], which fails if there is no such process.
pub async fn kill(client: &Client, host: &str, program: &str) -> Result<()> {
    ensure!(kill_all(client, host, program).await? > 0, "{host} has no process {program} to kill");
    Ok(())
}

/// Restarts a systemd unit, such as `kubelet`, on every node.
pub async fn restart_unit(client: &Client, unit: &str) -> Result<()> {
    for node in all(client).await? {
        exec(&node, &["systemctl", "restart", unit]).await?;
    }
    Ok(())
}

/// Kills the API server and waits until its successor answers. Watches cannot continue: the
/// successor does not have the versions that they ended with, so each client has to list again.
pub async fn restart_api_server(client: &Client) -> Result<()> {
    let node = named(client, CONTROL_PLANE).await?.pop().context("no node has the role control-plane")?;
    let process = async || exec(&node, &["pgrep", "--oldest", "kube-apiserver"]).await;
    let before = process().await?;
    exec(&node, &["pkill", "--signal", "KILL", "kube-apiserver"]).await?;
    wait::until_true("another API server to answer", LIMIT, async || {
        ensure!(process().await? != before, "the API server still runs as process {before}");
        client.apiserver_version().await?;
        Ok(true)
    })
    .await
}

/// Stops every node and starts it again, and waits until each is ready. Pods are not moved: they
/// start again where they were, with their volumes.
pub async fn restart_all(client: &Client) -> Result<()> {
    let nodes = all(client).await?;
    for change in ["stop", "start"] {
        let command: Vec<&str> =
            ["docker", change].into_iter().chain(nodes.iter().map(String::as_str)).collect();
        shell::run(&command, &[], None).await?;
    }
    for node in &nodes {
        let started =
            shell::run(&["docker", "inspect", "--format", "{{.State.StartedAt}}", node], &[], None).await?;
        let started: Timestamp =
            started.trim().parse().with_context(|| format!("read when {node} was started"))?;
        // Until the first heartbeat after the start, the API server reports what it knew before the stop.
        wait::until_true(&format!("node {node} to be ready again"), LIMIT, async || {
            let found = Api::<Node>::all(client.clone()).get(node).await?;
            let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
            let ready = ready.context("it has no condition Ready")?;
            let since = ready.last_heartbeat_time.as_ref().is_some_and(|time| time.0 > started);
            ensure!(ready.status == "True" && since, "it reports {ready:?}");
            Ok(true)
        })
        .await?;
    }
    Ok(())
}

async fn all(client: &Client) -> Result<Vec<String>> {
    named(client, "").await
}

async fn named(client: &Client, selector: &str) -> Result<Vec<String>> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default().labels(selector)).await;
    Ok(nodes.context("list nodes")?.items.into_iter().filter_map(|node| node.metadata.name).collect())
}

async fn exec(node: &str, command: &[&str]) -> Result<String> {
    let command: Vec<&str> = ["docker", "exec", node].iter().chain(command).copied().collect();
    shell::run(&command, &[], None).await
}
