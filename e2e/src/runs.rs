//! Runs as people use them: applied, looked at, changed and deleted. Here is what both kinds have in common, and
//! BillingRuns; `notices` has the other kind.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{cluster, installation::Installation, wait};

/// As long as anything in these tests may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(240);
pub const PRICE_BOOK: &str = "pricebook";

/// The status of a run, or what else is at a path in it; `Null` where there is nothing.
pub fn status(run: &DynamicObject) -> &Value {
    &run.data["status"]
}

pub fn phase(run: &DynamicObject) -> &str {
    status(run)["phase"].as_str().unwrap_or_default()
}

pub fn over(run: &DynamicObject) -> bool {
    matches!(phase(run), "Succeeded" | "CompletedWithFailures" | "Failed" | "Rejected")
}

/// Status, reason and message of a condition.
pub fn condition<'a>(run: &'a DynamicObject, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let all = status(run)["conditions"].as_array()?;
    let one = all.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| one[field].as_str().unwrap_or_default();
    Some((text("status"), text("reason"), text("message")))
}

/// The runs of one kind.
pub struct Runs {
    kind: &'static str,
    pub api: Api<DynamicObject>,
}

impl Runs {
    pub fn new(client: &Client, namespace: &str, kind: &'static str) -> Self {
        Self { kind, api: cluster::dynamic(client, namespace, "monthend.dev", "v1alpha1", kind) }
    }

    pub async fn get(&self, name: &str) -> Result<DynamicObject> {
        self.api.get(name).await.with_context(|| format!("get {} {name}", self.kind))
    }

    pub async fn all(&self) -> Result<Vec<DynamicObject>> {
        let all = self.api.list(&ListParams::default()).await;
        Ok(all.with_context(|| format!("list {}s", self.kind))?.items)
    }

    pub async fn change(&self, name: &str, spec: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        let changed = self.api.patch(name, &PatchParams::default(), &patch).await;
        changed.map(drop).with_context(|| format!("change {} {name}", self.kind))
    }

    /// Waits until the run is what is asked for. A run that is over is not waited for any longer.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&DynamicObject) -> bool,
    ) -> Result<DynamicObject> {
        let run = wait::until(&format!("{} {name} to be {what}", self.kind), LIMIT, async || {
            let run = self.get(name).await?;
            if wanted(&run) || over(&run) {
                return Ok(Some(run));
            }
            bail!("its status is {}", status(&run))
        })
        .await?;
        ensure!(
            wanted(&run),
            "{} {name} ended {}, not {what}: {}",
            self.kind,
            phase(&run),
            serde_json::to_string_pretty(status(&run))?
        );
        Ok(run)
    }

    /// Waits for a phase.
    pub async fn reach(&self, name: &str, wanted: &str) -> Result<DynamicObject> {
        self.until(name, wanted, |run| phase(run) == wanted).await
    }

    /// Waits for a condition with this status and reason; its message.
    pub async fn says(&self, name: &str, kind: &str, wanted: &str, reason: &str) -> Result<String> {
        wait::until(&format!("{} {name} to say {kind}={wanted}, {reason}", self.kind), LIMIT, async || {
            let run = self.get(name).await?;
            match condition(&run, kind) {
                Some((status, said, message)) if status == wanted && said == reason => {
                    Ok(Some(message.to_owned()))
                }
                other => bail!("it says {other:?} in phase {:?}", phase(&run)),
            }
        })
        .await
    }

    /// Waits for a condition with this status, whatever the reason.
    pub async fn says_status(&self, name: &str, kind: &str, wanted: &str) -> Result<()> {
        wait::until_true(&format!("{} {name} to say {kind}={wanted}", self.kind), LIMIT, async || {
            let run = self.get(name).await?;
            let said = condition(&run, kind);
            ensure!(said.is_some_and(|said| said.0 == wanted), "it says {said:?}");
            Ok(true)
        })
        .await
    }

    /// Deletes a run and waits until its finalizer has let it go.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let deleted = self.api.delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("delete {} {name}", self.kind))?;
        self.is_gone(name).await
    }

    pub async fn is_gone(&self, name: &str) -> Result<()> {
        wait::until_true(&format!("{} {name} to be gone", self.kind), LIMIT, async || {
            Ok(self.api.get_opt(name).await?.is_none())
        })
        .await
    }
}

impl Installation {
    pub fn billing(&self) -> Runs {
        Runs::new(&self.client, &self.namespace, "BillingRun")
    }

    pub fn runs(&self) -> Api<DynamicObject> {
        self.billing().api
    }

    /// A run over small chunks, so that there is a middle to disturb; `spec` adds to it, replaces, or with a null takes away.
    pub fn billing_run(&self, name: &str, month: &str, spec: Value) -> Value {
        let mut run = json!({
            "apiVersion": "monthend.dev/v1alpha1", "kind": "BillingRun",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"month": month, "priceBookRef": {"name": PRICE_BOOK}, "shards": 4, "parallelism": 2, "chunkSize": 40},
        });
        if let (Some(into), Value::Object(from)) = (run["spec"].as_object_mut(), spec) {
            into.extend(from);
            into.retain(|_, value| !value.is_null());
        }
        run
    }

    pub async fn apply_run(&self, name: &str, month: &str, spec: Value) -> Result<()> {
        let run = self.billing_run(name, month, spec);
        cluster::apply(&self.runs(), &run)
            .await
            .with_context(|| format!("apply BillingRun {name} for {month}"))?;
        Ok(())
    }

    pub async fn change_run(&self, name: &str, spec: Value) -> Result<()> {
        self.billing().change(name, spec).await
    }

    pub async fn all_runs(&self) -> Result<Vec<DynamicObject>> {
        self.billing().all().await
    }

    /// See [`Runs::reach`].
    pub async fn reach(&self, name: &str, wanted: &str) -> Result<DynamicObject> {
        self.billing().reach(name, wanted).await
    }

    /// See [`Runs::says`].
    pub async fn says(&self, name: &str, kind: &str, wanted: &str, reason: &str) -> Result<String> {
        self.billing().says(name, kind, wanted, reason).await
    }

    /// See [`Runs::delete`].
    pub async fn delete_run(&self, name: &str) -> Result<()> {
        self.billing().delete(name).await
    }

    /// Bills the month without any disturbance, as a draft that is then rejected: its rows stay, as the revision whose
    /// number this returns, to compare with.
    pub async fn undisturbed(&self, month: &str) -> Result<i32> {
        let name = format!("undisturbed-{month}");
        self.apply_run(&name, month, json!({"approvalPolicy": "Manual", "chunkSize": 1000, "shards": 2}))
            .await?;
        let run = self.reach(&name, "AwaitingApproval").await?;
        let revision = status(&run)["revision"].as_i64().context("a draft without a revision number")?;
        self.delete_run(&name).await?;
        let revision = i32::try_from(revision)?;
        let state: String =
            sqlx::query_scalar("select state from revision where month = $1 and revision = $2")
                .bind(month)
                .bind(revision)
                .fetch_one(&self.pool)
                .await?;
        ensure!(state == "REJECTED", "the deleted draft of {month} is {state}, not REJECTED");
        Ok(revision)
    }

    /// The run succeeds, and its month's live rows are those of the undisturbed revision.
    pub async fn succeeds_like(&self, name: &str, month: &str, reference: i32) -> Result<DynamicObject> {
        let run = self.reach(name, "Succeeded").await?;
        crate::database::assert_live_equals(&self.pool, month, reference).await?;
        Ok(run)
    }
}
