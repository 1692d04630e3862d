//! BillingRuns as people use them: applied, looked at, changed and deleted.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::{
    Api,
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
    matches!(phase(run), "Succeeded" | "Failed" | "Rejected")
}

/// Status, reason and message of a condition.
pub fn condition<'a>(run: &'a DynamicObject, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let all = status(run)["conditions"].as_array()?;
    let one = all.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| one[field].as_str().unwrap_or_default();
    Some((text("status"), text("reason"), text("message")))
}

impl Installation {
    pub fn runs(&self) -> Api<DynamicObject> {
        cluster::dynamic(&self.client, &self.namespace, "monthend.dev", "v1alpha1", "BillingRun")
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
        let patch = Patch::Merge(json!({"spec": spec}));
        self.runs()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("change BillingRun {name}"))?;
        Ok(())
    }

    pub async fn all_runs(&self) -> Result<Vec<DynamicObject>> {
        Ok(self.runs().list(&ListParams::default()).await.context("list BillingRuns")?.items)
    }

    /// Waits for a phase. A run that ends in another one is not waited for any longer.
    pub async fn reach(&self, name: &str, wanted: &str) -> Result<DynamicObject> {
        let run = wait::until(&format!("BillingRun {name} to be {wanted}"), LIMIT, async || {
            let run = self.runs().get(name).await?;
            Ok((phase(&run) == wanted || over(&run)).then_some(run))
        })
        .await?;
        ensure!(
            phase(&run) == wanted,
            "BillingRun {name} ended {}, not {wanted}: {}",
            phase(&run),
            serde_json::to_string_pretty(status(&run))?
        );
        Ok(run)
    }

    /// Waits for a condition with this status and reason; its message.
    pub async fn says(&self, name: &str, kind: &str, wanted: &str, reason: &str) -> Result<String> {
        wait::until(&format!("BillingRun {name} to say {kind}={wanted}, {reason}"), LIMIT, async || {
            let run = self.runs().get(name).await?;
            match condition(&run, kind) {
                Some((status, said, message)) if status == wanted && said == reason => {
                    Ok(Some(message.to_owned()))
                }
                other => bail!("it says {other:?} in phase {:?}", phase(&run)),
            }
        })
        .await
    }

    /// Deletes a run and waits until its finalizer has let it go.
    pub async fn delete_run(&self, name: &str) -> Result<()> {
        let runs = self.runs();
        runs.delete(name, &DeleteParams::default())
            .await
            .with_context(|| format!("delete BillingRun {name}"))?;
        wait::until_true(&format!("BillingRun {name} to be gone"), LIMIT, async || {
            Ok(runs.get_opt(name).await?.is_none())
        })
        .await
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
