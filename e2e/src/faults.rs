//! Fault injection: kills processes with SIGKILL, and scales the operator, PostgreSQL and Kafka
//! down and up.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::installation::Installation;
use crate::nodes::{kill, kill_all};
use crate::{cluster, shell, wait};

const LIMIT: Duration = Duration::from_secs(120);

impl Installation {
    /// The run's worker pods that are running.
    pub async fn workers(&self, run: &str) -> Result<Vec<Pod>> {
        let pods = cluster::pods(&self.client, &self.namespace, &format!("monthend.dev/run={run}")).await?;
        Ok(pods.into_iter().filter(cluster::is_running).collect())
    }

    /// Waits until the API server reports a running worker; it may connect to the database earlier
    /// than that.
    pub async fn wait_for_workers(&self, run: &str) -> Result<Vec<Pod>> {
        wait::until("a worker to run", LIMIT, async || {
            Ok(Some(self.workers(run).await?).filter(|found| !found.is_empty()))
        })
        .await
    }

    /// Sends SIGKILL to every worker of the run, and waits until it has killed at least one: a pod
    /// is reported as running shortly before its process starts and shortly after it ends.
    pub async fn kill_workers(&self, run: &str) -> Result<()> {
        wait::until_true("a worker to be killed", LIMIT, async || {
            let mut killed = 0;
            for worker in self.workers(run).await? {
                // The pods of an Indexed Job have host names that differ from their names.
                let host = worker.spec.as_ref().and_then(|spec| spec.hostname.clone());
                let host = host.unwrap_or_else(|| cluster::pod_name(&worker));
                killed += kill_all(&self.client, &host, "/usr/local/bin/monthend").await?;
            }
            Ok(killed > 0)
        })
        .await
    }

    /// Sends SIGKILL to PostgreSQL, to the postmaster and all backends at once.
    pub async fn kill_postgresql(&self) -> Result<()> {
        kill(&self.client, &format!("{}-0", self.postgresql()), "postgres").await
    }

    /// Waits until the database answers.
    pub async fn database_is_available(&self) -> Result<()> {
        wait::until_true("the database to answer", LIMIT, async || {
            let one: i32 = sqlx::query_scalar("select 1").fetch_one(&self.pool).await?;
            Ok(one == 1)
        })
        .await
    }

    pub async fn operators(&self) -> Result<Vec<Pod>> {
        cluster::pods(&self.client, &self.namespace, "app.kubernetes.io/component=operator").await
    }

    /// Scales the operator and waits until exactly this many pods exist and are ready.
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

    /// The operator pod that holds the Lease; none if that pod no longer exists.
    pub async fn leader(&self) -> Result<Option<String>> {
        let lease = Api::<Lease>::namespaced(self.client.clone(), &self.namespace)
            .get_opt("monthend-operator")
            .await?;
        let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
        let operators: Vec<String> = self.operators().await?.iter().map(cluster::pod_name).collect();
        Ok(holder.and_then(|holder| operators.into_iter().find(|operator| holder.contains(operator))))
    }

    /// Sends SIGKILL to the leading operator. Its Deployment starts it again at once.
    pub async fn kill_operator(&self) -> Result<()> {
        let leader = self.leader().await?;
        ensure!(leader.is_some(), "no operator leads, so none can be killed");
        kill(&self.client, &leader.unwrap_or_default(), "/usr/local/bin/operator").await
    }

    /// Sends SIGKILL to Kafka.
    pub async fn kill_kafka(&self) -> Result<()> {
        kill(&self.client, &format!("{}-0", self.kafka_service()), "java").await
    }

    /// Scales the development database, as a person would for maintenance.
    pub async fn scale_postgresql(&self, replicas: i32) -> Result<()> {
        self.scale_stack(&self.postgresql(), replicas).await
    }

    /// Scales Kafka, as a person would for maintenance.
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
