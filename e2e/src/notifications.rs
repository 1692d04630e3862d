//! NotificationRuns: how the tests create them, wait for them, and read their targets and
//! deliveries.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::data::Cohort;
use crate::installation::Installation;
use crate::runs::{LIMIT, Runs, is_finished, phase, status};
use crate::{cluster, wait};

const COUNTS: [&str; 7] = ["targets", "published", "sent", "failed", "skipped", "unknown", "open"];

/// A target of a run.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Target {
    pub member_id: i64,
    pub revision: i32,
    pub outcome: Option<String>,
    pub reason: Option<String>,
}

/// A number of `status.counts`, -1 where it is missing.
pub fn count(run: &DynamicObject, name: &str) -> i64 {
    status(run)["counts"][name].as_i64().unwrap_or(-1)
}

/// The ids of the members whose targets have this outcome.
pub fn members_with(targets: &[Target], outcome: &str) -> Vec<i64> {
    let of_it = targets.iter().filter(|target| target.outcome.as_deref() == Some(outcome));
    of_it.map(|target| target.member_id).collect()
}

impl Installation {
    pub fn notification_runs(&self) -> Runs {
        Runs::new(&self.client, &self.namespace, "NotificationRun")
    }

    /// Bills the month, unless an earlier scenario has billed it.
    pub async fn ensure_billed(&self, month: &str) -> Result<()> {
        let live: i64 =
            sqlx::query_scalar("select count(*) from revision where month = $1 and state = 'LIVE'")
                .bind(month)
                .fetch_one(&self.pool)
                .await?;
        if live == 0 {
            let name = format!("bills-{month}");
            self.apply_run(&name, month, json!({"chunkSize": 1000, "shards": 2})).await?;
            self.wait_for_phase(&name, "Succeeded").await?;
        }
        Ok(())
    }

    pub fn notification_run(&self, name: &str, cohort: &Cohort, spec: Value) -> Value {
        let mut run = json!({
            "apiVersion": "monthend.dev/v1alpha1", "kind": "NotificationRun",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"month": cohort.month, "scope": cohort.scope()},
        });
        if let (Some(into), Value::Object(from)) = (run["spec"].as_object_mut(), spec) {
            into.extend(from);
            into.retain(|_, value| !value.is_null());
        }
        run
    }

    /// Creates a run for the cohort's bills, after billing the month if necessary. `spec` adds or
    /// replaces fields of the spec; a null removes a field.
    pub async fn notify(&self, name: &str, cohort: &Cohort, spec: Value) -> Result<()> {
        self.ensure_billed(&cohort.month).await?;
        let run = self.notification_run(name, cohort, spec);
        cluster::apply(&self.notification_runs().api, &run)
            .await
            .with_context(|| format!("apply NotificationRun {name} for {}", cohort.month))?;
        Ok(())
    }

    /// Waits until the run is finished and returns its targets. Fails if the run failed.
    pub async fn wait_until_finished(&self, name: &str) -> Result<(DynamicObject, Vec<Target>)> {
        let run = self.notification_runs().until(name, "finished", is_finished).await?;
        ensure!(phase(&run) != "Failed", "NotificationRun {name} failed: {}", status(&run));
        let targets = self.targets(name).await?;
        Ok((run, targets))
    }

    /// [`Self::notified`], where everything was sent to everyone who has an address.
    pub async fn wait_until_all_sent(&self, name: &str) -> Result<DynamicObject> {
        let (run, targets) = self.wait_until_finished(name).await?;
        let other: Vec<_> = targets
            .iter()
            .filter(|target| target.outcome.as_deref() != Some("SENT"))
            .filter(|target| target.reason.as_deref() != Some("NO_ADDRESS"))
            .collect();
        ensure!(
            other.is_empty(),
            "{} of {} targets were not sent: {:?}",
            other.len(),
            targets.len(),
            &other[..other.len().min(5)]
        );
        ensure!(!targets.is_empty(), "NotificationRun {name} had nothing to send");
        ensure!(
            phase(&run) == "Succeeded",
            "everything was sent, but NotificationRun {name} is {}",
            phase(&run)
        );
        Ok(run)
    }

    /// The targets of the latest run of this name, by member id.
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

    /// Waits until at least this many of the run's targets have an outcome.
    pub async fn wait_for_outcomes(&self, name: &str, least: usize) -> Result<()> {
        wait::until_true(&format!("{least} outcomes of {name}"), LIMIT, async || {
            let with_outcome =
                self.targets(name).await?.iter().filter(|target| target.outcome.is_some()).count();
            ensure!(with_outcome >= least, "{with_outcome} targets have an outcome");
            Ok(true)
        })
        .await
    }

    /// Member id and total of the cohort's live bills, by member id.
    pub async fn bills(&self, cohort: &Cohort) -> Result<Vec<(i64, i64)>> {
        let (from, to) = cohort.ids();
        sqlx::query_as(
            "select member_id, total_amount from live_bill where month = $1 and member_id between $2 and $3 order by 1",
        )
        .bind(&cohort.month)
        .bind(i64::try_from(from)?)
        .bind(i64::try_from(to)?)
        .fetch_all(&self.pool)
        .await
        .context("read the live bills")
    }

    /// Status, tables and job_log agree about a finished run.
    pub async fn notification_status_matches_tables(&self, run: &DynamicObject) -> Result<()> {
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
            ensure!(phase(run) == "Failed", "the tables have no record of {name}, which is {}", phase(run));
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
        let reported = COUNTS.map(|name| count(run, name).max(0));
        ensure!(
            phase(run) == "Failed" || (reported == tables && targets == outcomes.values().sum::<i64>()),
            "{name}: the tables have {tables:?} ({COUNTS:?}), the status says {}",
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

    /// The number of the cohort's deliveries in this state.
    pub async fn deliveries(&self, cohort: &Cohort, state: &str) -> Result<i64> {
        let (from, to) = cohort.ids();
        Ok(sqlx::query_scalar(
            "select count(*) from delivery where month = $1 and member_id between $2 and $3 and state::text = $4",
        )
        .bind(&cohort.month)
        .bind(i64::try_from(from)?)
        .bind(i64::try_from(to)?)
        .bind(state)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Creates or replaces a ConfigMap with templates.
    pub async fn put_templates(&self, name: &str, templates: &BTreeMap<String, String>) -> Result<()> {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace}, "data": templates,
        });
        cluster::apply_typed::<k8s_openapi::api::core::v1::ConfigMap>(&self.client, &self.namespace, &map)
            .await
    }
}
