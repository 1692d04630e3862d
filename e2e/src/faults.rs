//! The faults: processes killed with SIGKILL on their node, the operator taken away.
//!
//! A pod deleted by force is not enough for a database: its successor could start on the same volume while the old
//! process is still there. So a pod of our own on the node kills the very process, on any provider.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{cluster, installation::Installation, shell, wait};

const AGENT_NAMESPACE: &str = "monthend-e2e-node";
const AGENT: &str = "agent";
const LIMIT: Duration = Duration::from_secs(120);

/// Kills all processes of a pod whose command line holds a word, and prints how many.
const KILL: &str = r#"
killed=0
for process in /proc/[0-9]*; do
  tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q -- "$2" || continue
  tr '\0' '\n' <"$process/environ" 2>/dev/null | grep -qx "HOSTNAME=$1" || continue
  kill -9 "${process#/proc/}" && killed=$((killed + 1))
done
echo "$killed"
"#;

/// Starts the pod that kills, from the image of the development database: it is on the node and has a shell.
pub async fn start_agent(client: &Client, image: &str) -> Result<()> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": AGENT_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
    });
    shell::run(&["kubectl", "apply", "-f", "-"], &[], Some(&namespace.to_string())).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": AGENT, "namespace": AGENT_NAMESPACE},
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
    let pods = Api::<Pod>::namespaced(client.clone(), AGENT_NAMESPACE);
    wait::until_true("the pod that kills processes to run", LIMIT, async || {
        Ok(cluster::runs(&pods.get(AGENT).await?))
    })
    .await
}

pub async fn stop_agent() -> Result<()> {
    shell::run(
        &["kubectl", "delete", "namespace", AGENT_NAMESPACE, "--ignore-not-found", "--wait=true"],
        &[],
        None,
    )
    .await
    .map(drop)
}

/// SIGKILL to the processes called `program` of the pod that has this host name. How many there were.
pub async fn kill_any(host: &str, program: &str) -> Result<u32> {
    let command =
        ["kubectl", "-n", AGENT_NAMESPACE, "exec", AGENT, "--", "bash", "-c", KILL, "kill", host, program];
    let killed =
        shell::run(&command, &[], None).await.with_context(|| format!("kill {program} on {host}"))?;
    killed.trim().parse().with_context(|| format!("the agent answered {killed:?}"))
}

/// [`kill_any`], where one must be there.
pub async fn kill(host: &str, program: &str) -> Result<()> {
    ensure!(kill_any(host, program).await? > 0, "no {program} runs on {host}");
    Ok(())
}

impl Installation {
    /// The run's worker pods that run now.
    pub async fn workers(&self, run: &str) -> Result<Vec<Pod>> {
        let pods = cluster::pods(&self.client, &self.namespace, &format!("monthend.dev/run={run}")).await?;
        Ok(pods.into_iter().filter(cluster::runs).collect())
    }

    /// The run's workers, once the cluster knows that one runs: the database may have seen it before.
    pub async fn some_workers(&self, run: &str) -> Result<Vec<Pod>> {
        wait::until("a worker to run", LIMIT, async || {
            Ok(Some(self.workers(run).await?).filter(|found| !found.is_empty()))
        })
        .await
    }

    /// SIGKILL to every worker of the run, at least one. A pod is listed as running for a while before its process is
    /// there and after it has ended.
    pub async fn kill_workers(&self, run: &str) -> Result<()> {
        wait::until_true("a worker to be killed", LIMIT, async || {
            let mut killed = 0;
            for worker in self.workers(run).await? {
                // An Indexed Job names its pods' hosts by index, unlike the pods.
                let host = worker.spec.as_ref().and_then(|spec| spec.hostname.clone());
                let host = host.unwrap_or_else(|| cluster::name(&worker));
                killed += kill_any(&host, "/usr/local/bin/monthend").await?;
            }
            Ok(killed > 0)
        })
        .await
    }

    /// SIGKILL to PostgreSQL, postmaster and backends at once.
    pub async fn kill_postgresql(&self) -> Result<()> {
        kill(&format!("{}-0", self.postgresql()), "postgres").await
    }

    pub fn postgresql(&self) -> String {
        format!("{}-postgresql", self.environment.release)
    }

    /// The database answers again.
    pub async fn database_is_back(&self) -> Result<()> {
        wait::until_true("the database to answer", LIMIT, async || {
            let one: i32 = sqlx::query_scalar("select 1").fetch_one(&self.pool).await?;
            Ok(one == 1)
        })
        .await
    }

    pub async fn operators(&self) -> Result<Vec<Pod>> {
        cluster::pods(&self.client, &self.namespace, "app.kubernetes.io/component=operator").await
    }

    /// Scales the operator and waits until so many are ready and no other is left.
    pub async fn scale_operator(&self, replicas: i32) -> Result<()> {
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments
            .patch_scale("monthend-operator", &PatchParams::default(), &patch)
            .await
            .context("scale the operator")?;
        wait::until_true(&format!("{replicas} operators"), LIMIT, async || {
            let ready =
                deployments.get("monthend-operator").await?.status.and_then(|status| status.ready_replicas);
            Ok(ready.unwrap_or(0) == replicas && self.operators().await?.len() == usize::try_from(replicas)?)
        })
        .await
    }

    /// The pod that holds the operator's Lease, if its holder lives.
    pub async fn leader(&self) -> Result<Option<String>> {
        let lease = Api::<Lease>::namespaced(self.client.clone(), &self.namespace)
            .get_opt("monthend-operator")
            .await?;
        let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
        let operators: Vec<String> = self.operators().await?.iter().map(cluster::name).collect();
        Ok(holder.and_then(|holder| operators.into_iter().find(|operator| holder.contains(operator))))
    }

    /// SIGKILL to the operator that leads; a Deployment brings another at once.
    pub async fn kill_operator(&self) -> Result<()> {
        let leader = self.leader().await?;
        ensure!(leader.is_some(), "no operator leads, so none can be killed");
        kill(&leader.unwrap_or_default(), "/usr/local/bin/operator").await
    }

    /// SIGKILL to Kafka.
    pub async fn kill_kafka(&self) -> Result<()> {
        kill(&format!("{}-0", self.kafka_service()), "java").await
    }

    pub fn kafka_service(&self) -> String {
        format!("{}-kafka", self.environment.release)
    }

    /// Scales the development database, as for maintenance.
    pub async fn scale_postgresql(&self, replicas: i32) -> Result<()> {
        self.scale_stack(&self.postgresql(), replicas).await
    }

    /// Scales Kafka, as for maintenance.
    pub async fn scale_kafka(&self, replicas: i32) -> Result<()> {
        self.scale_stack(&self.kafka_service(), replicas).await
    }

    async fn scale_stack(&self, set: &str, replicas: i32) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        let set = format!("statefulset/{set}");
        shell::run(&["kubectl", "-n", &self.environment.namespace, "scale", &set, &replicas], &[], None)
            .await
            .map(drop)
    }
}
