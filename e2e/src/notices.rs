//! NotificationRuns as people use them, and what the tables say of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cluster,
    data::Slice,
    faults,
    installation::Installation,
    runs::{LIMIT, Runs, over, phase, status},
    wait,
};

pub const CONSUMERS: &str = "monthend-notify";
const COUNTS: [&str; 7] = ["targets", "published", "sent", "failed", "skipped", "unknown", "open"];

/// A target of a run, in the order of members.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Target {
    pub member_id: i64,
    pub revision: i32,
    pub outcome: Option<String>,
    pub reason: Option<String>,
}

/// The numbers in a run's status.
pub fn count(run: &DynamicObject, name: &str) -> i64 {
    status(run)["counts"][name].as_i64().unwrap_or(-1)
}

/// The members that came to an outcome.
pub fn members_with(targets: &[Target], outcome: &str) -> Vec<i64> {
    let of_it = targets.iter().filter(|target| target.outcome.as_deref() == Some(outcome));
    of_it.map(|target| target.member_id).collect()
}

impl Installation {
    pub fn notices(&self) -> Runs {
        Runs::new(&self.client, &self.namespace, "NotificationRun")
    }

    /// Bills the month, unless a scenario before has.
    pub async fn billed(&self, month: &str) -> Result<()> {
        let live: i64 =
            sqlx::query_scalar("select count(*) from revision where month = $1 and state = 'LIVE'")
                .bind(month)
                .fetch_one(&self.pool)
                .await?;
        if live == 0 {
            let name = format!("bills-{month}");
            self.apply_run(&name, month, json!({"chunkSize": 1000, "shards": 2})).await?;
            self.reach(&name, "Succeeded").await?;
        }
        Ok(())
    }

    pub fn notification_run(&self, name: &str, slice: &Slice, spec: Value) -> Value {
        let mut run = json!({
            "apiVersion": "monthend.dev/v1alpha1", "kind": "NotificationRun",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"month": slice.month, "scope": slice.scope()},
        });
        if let (Some(into), Value::Object(from)) = (run["spec"].as_object_mut(), spec) {
            into.extend(from);
            into.retain(|_, value| !value.is_null());
        }
        run
    }

    /// A run over the slice's bills, which are made first if there are none; `spec` adds, replaces, or takes away by a null.
    pub async fn notify(&self, name: &str, slice: &Slice, spec: Value) -> Result<()> {
        self.billed(&slice.month).await?;
        let run = self.notification_run(name, slice, spec);
        cluster::apply(&self.notices().api, &run)
            .await
            .with_context(|| format!("apply NotificationRun {name} for {}", slice.month))?;
        Ok(())
    }

    /// Waits for the end of the run, which is not a failed one; its targets.
    pub async fn notified(&self, name: &str) -> Result<(DynamicObject, Vec<Target>)> {
        let run = self.notices().until(name, "over", over).await?;
        ensure!(phase(&run) != "Failed", "NotificationRun {name} failed: {}", status(&run));
        let targets = self.targets(name).await?;
        Ok((run, targets))
    }

    /// [`Self::notified`], where everything was sent to everyone who has an address.
    pub async fn all_sent(&self, name: &str) -> Result<DynamicObject> {
        let (run, targets) = self.notified(name).await?;
        let other: Vec<_> = targets
            .iter()
            .filter(|target| target.outcome.as_deref() != Some("SENT"))
            .filter(|target| target.reason.as_deref() != Some("NO_ADDRESS"))
            .collect();
        ensure!(
            other.is_empty(),
            "{} of {} were not sent: {:?}",
            other.len(),
            targets.len(),
            &other[..other.len().min(5)]
        );
        ensure!(!targets.is_empty(), "NotificationRun {name} had nothing to send");
        ensure!(phase(&run) == "Succeeded", "everything was sent, and it is {}", phase(&run));
        Ok(run)
    }

    /// What the run that has this name now, or had it last, was to tell.
    pub async fn targets(&self, name: &str) -> Result<Vec<Target>> {
        sqlx::query_as(
            "select member_id, revision, outcome::text as outcome, reason from notice_target
             where notification = (select max(id) from notification where run = $1) order by member_id",
        )
        .bind(format!("{}/{name}", self.namespace))
        .fetch_all(&self.pool)
        .await
        .with_context(|| format!("read the targets of {name}"))
    }

    /// Waits until so many of the run's targets have an outcome.
    pub async fn ended(&self, name: &str, least: usize) -> Result<()> {
        wait::until_true(&format!("{least} outcomes of {name}"), LIMIT, async || {
            let ended = self.targets(name).await?.iter().filter(|target| target.outcome.is_some()).count();
            ensure!(ended >= least, "there are {ended}");
            Ok(true)
        })
        .await
    }

    /// The slice's live bills: member and total, in the order of members.
    pub async fn bills(&self, slice: &Slice) -> Result<Vec<(i64, i64)>> {
        let (from, to) = slice.ids();
        sqlx::query_as(
            "select member_id, total_amount from live_bill where month = $1 and member_id between $2 and $3 order by 1",
        )
        .bind(&slice.month)
        .bind(i64::try_from(from)?)
        .bind(i64::try_from(to)?)
        .fetch_all(&self.pool)
        .await
        .context("read the live bills")
    }

    /// 5: status, tables and job_log say the same of a run that is over.
    pub async fn notice_status_agrees(&self, run: &DynamicObject) -> Result<()> {
        let name = run.metadata.name.clone().unwrap_or_default();
        let uid = run.metadata.uid.clone().unwrap_or_default();
        #[derive(sqlx::FromRow)]
        struct Logged {
            id: i64,
            rehearsal: bool,
            targets: i64,
            status: String,
            total: i64,
            succeeded: i64,
            failed: i64,
            skipped: i64,
        }
        let found: Option<Logged> = sqlx::query_as(
            "select n.id, n.rehearsal, n.targets, j.status, j.total, j.succeeded, j.failed, j.skipped
             from notification n join job_log j on j.id = n.job where n.run_uid = $1::uuid",
        )
        .bind(&uid)
        .fetch_optional(&self.pool)
        .await?;
        let Some(Logged { id, rehearsal, targets, status: job, total, succeeded, failed, skipped }) = found
        else {
            ensure!(phase(run) == "Failed", "the tables know nothing of {name}, which is {}", phase(run));
            return Ok(());
        };
        let outcomes: Vec<(Option<String>, i64)> = sqlx::query_as(
            "select outcome::text, count(*) from notice_target where notification = $1 group by 1",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await?;
        let outcomes: BTreeMap<String, i64> = outcomes
            .into_iter()
            .map(|(outcome, n)| (outcome.unwrap_or_else(|| "open".to_owned()), n))
            .collect();
        let of = |outcome: &str| outcomes.get(outcome).copied().unwrap_or(0);
        let published = if rehearsal { 0 } else { targets };
        let tables = [targets, published, of("SENT"), of("FAILED"), of("SKIPPED"), of("UNKNOWN"), of("open")];
        let said = COUNTS.map(|name| count(run, name).max(0));
        ensure!(
            phase(run) == "Failed" || (said == tables && targets == outcomes.values().sum::<i64>()),
            "{name}: the tables count {tables:?} ({COUNTS:?}), the status says {}",
            status(run)["counts"]
        );
        let logged = (job.as_str(), total, succeeded, failed, skipped);
        let wanted = (
            if of("FAILED") + of("UNKNOWN") == 0 { "SUCCEEDED" } else { "COMPLETED_WITH_FAILURES" },
            targets,
            of("SENT") + of("RENDERED"),
            of("FAILED") + of("UNKNOWN"),
            of("SKIPPED"),
        );
        ensure!(
            phase(run) == "Failed" || logged == wanted,
            "{name}: job_log says {logged:?}, the tables {wanted:?}"
        );
        let ends = if wanted.3 == 0 { "Succeeded" } else { "CompletedWithFailures" };
        ensure!(phase(run) == "Failed" || phase(run) == ends, "{name} is {}, not {ends}", phase(run));
        Ok(())
    }

    /// The consumers that run now.
    pub async fn consumers(&self) -> Result<Vec<Pod>> {
        let pods = cluster::pods(&self.client, &self.namespace, "app.kubernetes.io/component=notify").await?;
        Ok(pods.into_iter().filter(cluster::runs).collect())
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Changes what the Deployment of consumers is scaled by: annotations without their prefix.
    pub async fn scale_by(&self, annotations: &[(&str, u32)]) -> Result<()> {
        let annotations: BTreeMap<String, String> = annotations
            .iter()
            .map(|(name, value)| (format!("monthend.dev/{name}"), value.to_string()))
            .collect();
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        self.deployments()
            .patch(CONSUMERS, &PatchParams::default(), &patch)
            .await
            .context("annotate the consumers")?;
        Ok(())
    }

    /// Wanted and ready replicas.
    pub async fn replicas(&self) -> Result<(i32, i32)> {
        let deployment = self.deployments().get(CONSUMERS).await.context("get the consumers' Deployment")?;
        let wanted = deployment.spec.replicas.unwrap_or(1);
        Ok((wanted, deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0)))
    }

    /// Waits for so many consumers, all ready and no other left.
    pub async fn consumers_are(&self, replicas: i32) -> Result<()> {
        wait::until_true(&format!("{replicas} consumers"), LIMIT, async || {
            let (wanted, ready) = self.replicas().await?;
            let pods = self.consumers().await?.len();
            ensure!(
                (wanted, ready) == (replicas, replicas) && pods == usize::try_from(replicas)?,
                "{wanted} are wanted, {ready} ready, {pods} run"
            );
            Ok(true)
        })
        .await
    }

    /// Scales the consumers by hand, as the operator's scaler would undo at once: it has to be away.
    pub async fn set_consumers(&self, replicas: i32) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        self.deployments()
            .patch_scale(CONSUMERS, &PatchParams::default(), &patch)
            .await
            .context("scale the consumers")?;
        self.consumers_are(replicas).await
    }

    /// SIGKILL to all consumers. What they held is free, or unknown, at once.
    pub async fn kill_consumers(&self) -> Result<()> {
        let killed = self.kill_processes().await?;
        self.end_leases(killed).await
    }

    /// SIGKILL to all consumers; the last of those that there were, as the database numbers them.
    pub async fn kill_processes(&self) -> Result<i64> {
        let last =
            sqlx::query_scalar("select coalesce(max(id), 0) from consumer").fetch_one(&self.pool).await?;
        let mut killed = 0;
        let consumers: Vec<String> = self.consumers().await?.iter().map(cluster::name).collect();
        for consumer in &consumers {
            killed += faults::kill_any(consumer, "/usr/local/bin/monthend").await?;
        }
        ensure!(killed > 0, "no consumer runs, so none can be killed");
        // Their successors come in other pods: in the same ones they would have to wait, longer each time.
        for consumer in &consumers {
            cluster::force_delete(&self.client, &self.namespace, consumer).await?;
        }
        Ok(last)
    }

    /// Ends the leases of consumers that were killed, as the clock would in time.
    pub async fn end_leases(&self, last: i64) -> Result<()> {
        sqlx::query(
            "update delivery set lease_until = clock_timestamp()
             where state in ('CLAIMED', 'HANDED_OVER') and lease_until > clock_timestamp() and holder <= $1",
        )
        .bind(last)
        .execute(&self.pool)
        .await
        .context("end the leases of the killed consumers")?;
        Ok(())
    }

    /// Deliveries of the slice by state.
    pub async fn deliveries(&self, slice: &Slice, state: &str) -> Result<i64> {
        let (from, to) = slice.ids();
        Ok(sqlx::query_scalar(
            "select count(*) from delivery where month = $1 and member_id between $2 and $3 and state::text = $4",
        )
        .bind(&slice.month)
        .bind(i64::try_from(from)?)
        .bind(i64::try_from(to)?)
        .bind(state)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Puts templates where a run may find them.
    pub async fn put_templates(&self, name: &str, templates: &BTreeMap<String, String>) -> Result<()> {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace}, "data": templates,
        });
        cluster::put::<k8s_openapi::api::core::v1::ConfigMap>(&self.client, &self.namespace, &map).await
    }
}
