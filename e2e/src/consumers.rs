//! The consumers' Deployment: how the tests scale it, and how they kill consumers.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::installation::Installation;
use crate::runs::LIMIT;
use crate::{cluster, nodes, wait};

pub const DEPLOYMENT: &str = "monthend-notify";

impl Installation {
    /// The consumer pods that are running.
    pub async fn consumers(&self) -> Result<Vec<Pod>> {
        let pods = cluster::pods(&self.client, &self.namespace, "app.kubernetes.io/component=notify").await?;
        Ok(pods.into_iter().filter(cluster::is_running).collect())
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Changes the annotations that the operator scales the consumers' Deployment by; names without
    /// their prefix.
    pub async fn set_scaling_annotations(&self, annotations: &[(&str, u32)]) -> Result<()> {
        let annotations: BTreeMap<String, String> = annotations
            .iter()
            .map(|(name, value)| (format!("monthend.dev/{name}"), value.to_string()))
            .collect();
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        self.deployments()
            .patch(DEPLOYMENT, &PatchParams::default(), &patch)
            .await
            .context("annotate the consumers")?;
        Ok(())
    }

    /// Desired and ready replicas of the consumers' Deployment.
    pub async fn replicas(&self) -> Result<(i32, i32)> {
        let deployment = self.deployments().get(DEPLOYMENT).await.context("get the consumers' Deployment")?;
        let wanted = deployment.spec.replicas.unwrap_or(1);
        Ok((wanted, deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0)))
    }

    /// Waits until exactly this many consumers exist and are ready.
    pub async fn wait_for_consumers(&self, replicas: i32) -> Result<()> {
        wait::until_true(&format!("{replicas} consumers"), LIMIT, async || {
            let (wanted, ready) = self.replicas().await?;
            let pods = self.consumers().await?.len();
            ensure!(
                (wanted, ready) == (replicas, replicas) && pods == usize::try_from(replicas)?,
                "{wanted} are desired, {ready} ready, {pods} running"
            );
            Ok(true)
        })
        .await
    }

    /// Scales the consumers by hand. The operator must be scaled to 0, or its autoscaler reverts
    /// the change.
    pub async fn scale_consumers(&self, replicas: i32) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.deployments()
            .patch_scale(DEPLOYMENT, &PatchParams::default(), &patch)
            .await
            .context("scale the consumers")?;
        self.wait_for_consumers(replicas).await
    }

    /// Sends SIGKILL to all consumers and expires their leases: their deliveries are free or
    /// UNKNOWN at once.
    pub async fn kill_consumers(&self) -> Result<()> {
        let killed = self.kill_consumer_processes().await?;
        self.expire_leases(killed).await
    }

    /// Sends SIGKILL to all consumers. Returns the highest consumer id that the database had
    /// recorded before.
    pub async fn kill_consumer_processes(&self) -> Result<i64> {
        let last =
            sqlx::query_scalar("select coalesce(max(id), 0) from consumer").fetch_one(&self.pool).await?;
        let mut killed = 0;
        let consumers: Vec<String> = self.consumers().await?.iter().map(cluster::pod_name).collect();
        for consumer in &consumers {
            killed += nodes::kill_all(&self.client, consumer, "/usr/local/bin/monthend").await?;
        }
        ensure!(killed > 0, "no consumer is running, so none can be killed");
        // Restarts in the same pod would be delayed by the kubelet's back-off, so new pods replace these.
        for consumer in &consumers {
            cluster::force_delete(&self.client, &self.namespace, consumer).await?;
        }
        Ok(last)
    }

    /// Expires the leases of all consumers up to this id, instead of waiting for them to expire.
    pub async fn expire_leases(&self, last: i64) -> Result<()> {
        sqlx::query(
            "update delivery set lease_until = clock_timestamp()
             where state in ('CLAIMED', 'HANDED_OVER') and lease_until > clock_timestamp() and holder <= $1",
        )
        .bind(last)
        .execute(&self.pool)
        .await
        .context("expire the leases of the killed consumers")?;
        Ok(())
    }
}
