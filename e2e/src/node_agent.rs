//! A privileged pod on the node, the agent, which kills processes of other pods with SIGKILL.
//!
//! Force-deleting a pod is not enough for a database: its successor could start on the same volume while the old process
//! still runs. The agent kills the process itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde_json::json;

use crate::{cluster, shell, wait};

const NAMESPACE: &str = "monthend-e2e-node";
const POD: &str = "agent";
const LIMIT: Duration = Duration::from_secs(120);

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

/// Starts the agent from the image of the development database, which is on the node already and has a shell.
pub async fn start(client: &Client, image: &str) -> Result<()> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
    });
    shell::run(&["kubectl", "apply", "-f", "-"], &[], Some(&namespace.to_string())).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": POD, "namespace": NAMESPACE},
        "spec": {
            "hostPID": true,
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "agent", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "infinity"],
                "securityContext": {"privileged": true, "runAsUser": 0, "runAsGroup": 0},
            }],
        },
    });
    shell::run(&["kubectl", "apply", "-f", "-"], &[], Some(&pod.to_string())).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    wait::until_true("the pod of the fault agent to run", LIMIT, async || {
        Ok(cluster::is_running(&pods.get(POD).await?))
    })
    .await
}

pub async fn stop() -> Result<()> {
    shell::run(&["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true"], &[], None)
        .await
        .map(drop)
}

/// Sends SIGKILL to the processes called `program` in the pod with this host name. Returns how many it killed.
pub async fn kill_all(host: &str, program: &str) -> Result<u32> {
    let command = ["kubectl", "-n", NAMESPACE, "exec", POD, "--", "bash", "-c", KILL, "kill", host, program];
    let killed =
        shell::run(&command, &[], None).await.with_context(|| format!("kill {program} on {host}"))?;
    killed.trim().parse().with_context(|| format!("the fault agent answered {killed:?}"))
}

/// [`kill_all`], which fails if there is no such process.
pub async fn kill(host: &str, program: &str) -> Result<()> {
    ensure!(kill_all(host, program).await? > 0, "{host} has no process {program} to kill");
    Ok(())
}
