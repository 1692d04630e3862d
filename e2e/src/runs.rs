//! How the tests apply, read, change and delete runs: what both kinds have in common, and
//! BillingRuns. NotificationRuns are in [`crate::notifications`].

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::installation::Installation;
use crate::{cluster, wait};

/// The limit for any single wait, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(240);
pub const PRICE_BOOK: &str = "pricebook";

/// The run's status, `Null` where it has none.
pub fn status(run: &DynamicObject) -> &Value {
    &run.data["status"]
}

pub fn phase(run: &DynamicObject) -> &str {
    status(run)["phase"].as_str().unwrap_or_default()
}

pub fn is_finished(run: &DynamicObject) -> bool {
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

    /// Waits until the run fulfils the condition; `what` describes it. Fails as soon as the run is
    /// finished without fulfilling it.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&DynamicObject) -> bool,
    ) -> Result<DynamicObject> {
        let run = wait::until(&format!("{} {name} to be {what}", self.kind), LIMIT, async || {
            let run = self.get(name).await?;
            if wanted(&run) || is_finished(&run) {
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

    /// Waits until the run is in this phase.
    pub async fn wait_for_phase(&self, name: &str, wanted: &str) -> Result<DynamicObject> {
        self.until(name, wanted, |run| phase(run) == wanted).await
    }

    /// Waits for a condition with this status and reason. Returns the condition's message.
    pub async fn wait_for_condition(
        &self,
        name: &str,
        kind: &str,
        wanted: &str,
        reason: &str,
    ) -> Result<String> {
        wait::until(
            &format!("{} {name} to have condition {kind}={wanted}, {reason}", self.kind),
            LIMIT,
            async || {
                let run = self.get(name).await?;
                match condition(&run, kind) {
                    Some((status, found, message)) if status == wanted && found == reason => {
                        Ok(Some(message.to_owned()))
                    }
                    other => bail!("the condition is {other:?} in phase {:?}", phase(&run)),
                }
            },
        )
        .await
    }

    /// Waits for a condition with this status and any reason.
    pub async fn wait_for_condition_status(&self, name: &str, kind: &str, wanted: &str) -> Result<()> {
        wait::until_true(
            &format!("{} {name} to have condition {kind}={wanted}", self.kind),
            LIMIT,
            async || {
                let run = self.get(name).await?;
                let found = condition(&run, kind);
                ensure!(found.is_some_and(|found| found.0 == wanted), "the condition is {found:?}");
                Ok(true)
            },
        )
        .await
    }

    /// Deletes a run and waits until its finalizer is removed and it is deleted.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let deleted = self.api.delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("delete {} {name}", self.kind))?;
        self.wait_until_deleted(name).await
    }

    pub async fn wait_until_deleted(&self, name: &str) -> Result<()> {
        wait::until_true(&format!("{} {name} to be deleted", self.kind), LIMIT, async || {
            Ok(self.api.get_opt(name).await?.is_none())
        })
        .await
    }
}

impl Installation {
    pub fn billing_runs(&self) -> Runs {
        Runs::new(&self.client, &self.namespace, "BillingRun")
    }

    /// A run with small chunks, so that faults can be injected between them. `spec` adds or
    /// replaces fields of the spec; a null removes a field.
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
        cluster::apply(&self.billing_runs().api, &run)
            .await
            .with_context(|| format!("apply BillingRun {name} for {month}"))?;
        Ok(())
    }

    pub async fn change_run(&self, name: &str, spec: Value) -> Result<()> {
        self.billing_runs().change(name, spec).await
    }

    /// See [`Runs::wait_for_phase`].
    pub async fn wait_for_phase(&self, name: &str, wanted: &str) -> Result<DynamicObject> {
        self.billing_runs().wait_for_phase(name, wanted).await
    }

    /// See [`Runs::wait_for_condition`].
    pub async fn wait_for_condition(
        &self,
        name: &str,
        kind: &str,
        wanted: &str,
        reason: &str,
    ) -> Result<String> {
        self.billing_runs().wait_for_condition(name, kind, wanted, reason).await
    }

    /// See [`Runs::delete`].
    pub async fn delete_run(&self, name: &str) -> Result<()> {
        self.billing_runs().delete(name).await
    }

    /// Approves the run in the name of the tests' own user.
    pub async fn approve(&self, name: &str, digest: &str) -> Result<()> {
        let by = self.user().await?;
        self.change_run(name, json!({"approval": {"digest": digest, "by": by}})).await
    }

    /// Bills the month without any fault, as a draft that is then rejected. The rows of a rejected
    /// revision stay, so later runs are compared with them. Returns the revision's number.
    pub async fn reference_revision(&self, month: &str) -> Result<i32> {
        self.reference_revision_with(month, json!({})).await
    }

    /// The same, with further fields of the spec.
    pub async fn reference_revision_with(&self, month: &str, further: Value) -> Result<i32> {
        let name = format!("reference-{month}");
        let mut spec = json!({"approvalPolicy": "Manual", "chunkSize": 1000, "shards": 2});
        if let (Some(into), Value::Object(from)) = (spec.as_object_mut(), further) {
            into.extend(from);
        }
        self.apply_run(&name, month, spec).await?;
        let run = self.wait_for_phase(&name, "AwaitingApproval").await?;
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

    /// Waits until the run succeeds. Fails unless the month's live rows equal those of the
    /// reference revision.
    pub async fn succeeds_with_bills_of(
        &self,
        name: &str,
        month: &str,
        reference: i32,
    ) -> Result<DynamicObject> {
        let run = self.wait_for_phase(name, "Succeeded").await?;
        crate::database::assert_live_equals(&self.pool, month, reference).await?;
        Ok(run)
    }
}
