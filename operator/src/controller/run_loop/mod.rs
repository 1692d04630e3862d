//! The reconcile loop of every kind of object: observe, decide, write the status, apply the action,
//! and start over. What differs between kinds is behind [`Kind`]; nothing here knows what an
//! object is for.
//!
//! Each pass writes at most one status and applies at most one action. The decision is a value made
//! without a client.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::labels::{FINALIZER, MANAGER};
use api::reconciled::{Reconciled, ReconciledStatus as _};
use domain::backoff::Backoff;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::core::object::HasStatus as _;
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt as _};
use logging::chain;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::decision::Next;
use super::events::{self, EventRecord};
use super::kind::{Kind, StatusOf};
use crate::error::{Doing as _, ErrorClass, RunError};
use crate::metrics::Metrics;

/// More passes than any sequence of decisions needs; then the reconciliation ends and is scheduled
/// again.
const MAX_PASSES: usize = 12;
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// In characters; the API server rejects Events with longer notes.
const LONGEST_NOTE: usize = 1000;

pub(crate) struct Context<K> {
    pub(crate) client: Client,
    pub(crate) kind: K,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    /// Consecutive reconciliations that ended in an error or a [`Next::BackOff`], by the object's uid.
    failures: Mutex<HashMap<String, u32>>,
}

impl<K: Kind> Context<K> {
    pub(crate) fn new(client: Client, kind: K, recorder: Recorder, metrics: Metrics) -> Self {
        Self { client, kind, recorder, metrics, failures: Mutex::default() }
    }

    fn back_off(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        BACKOFF.after(*count)
    }

    fn succeeded(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Reconciles one run. The controller calls this when the run, its Job or its ConfigMap changes,
/// and after a requeue.
pub(crate) async fn reconcile<K: Kind>(
    cached: Arc<DeserializeGuard<K::Object>>,
    context: Arc<Context<K>>,
) -> Result<Action, RunError> {
    let run = format!("{}/{}", cached.namespace().unwrap_or_default(), cached.name_any());
    let span = tracing::info_span!("reconcile", kind = K::Object::KIND, run);
    async move {
        let started = Instant::now();
        let result = match &cached.0 {
            Ok(object) => reconcile_run(object, &context).await,
            Err(invalid) => {
                // Only a change of the spec helps, and that calls this again.
                tracing::error!(error = invalid.error, "the run's spec is invalid; correct it");
                Ok(Action::await_change())
            }
        };
        let outcome = result.as_ref().map(|_| ()).map_err(RunError::class);
        context.metrics.reconciled(K::Object::KIND, outcome, started.elapsed());
        result
    }
    .instrument(span)
    .await
}

/// The delay after an error. Errors are logged here and nowhere else.
pub(crate) fn on_error<K: Kind>(
    cached: Arc<DeserializeGuard<K::Object>>,
    error: &RunError,
    context: Arc<Context<K>>,
) -> Action {
    let delay = context.back_off(&cached.uid().unwrap_or_default());
    let run = format!("{}/{}", cached.namespace().unwrap_or_default(), cached.name_any());
    if error.class() == ErrorClass::Conflict {
        tracing::debug!(
            kind = K::Object::KIND,
            run,
            error = chain(error),
            "the object changed since it was read; trying again"
        );
    } else {
        tracing::warn!(
            kind = K::Object::KIND,
            run,
            error = chain(error),
            ?delay,
            "the reconciliation failed; trying again"
        );
    }
    Action::requeue(delay)
}

async fn reconcile_run<K: Kind>(cached: &K::Object, context: &Context<K>) -> Result<Action, RunError> {
    let name = cached.name_any();
    let uid = cached.uid().ok_or(RunError::Incomplete(K::Object::KIND, "uid"))?;
    let namespace = cached.namespace().ok_or(RunError::Incomplete(K::Object::KIND, "namespace"))?;
    let runs: Api<K::Object> = Api::namespaced(context.client.clone(), &namespace);
    // The controller's cache may be older than this operator's own last write.
    let found = runs.get_opt(&name).await.doing(|| format!("read {} {name}", K::Object::KIND))?;
    let Some(mut run) = found.filter(|found| found.uid().as_deref() == Some(uid.as_str())) else {
        context.succeeded(&uid);
        return Ok(Action::await_change());
    };
    let mut outcome = None;
    for _ in 0..MAX_PASSES {
        let observed = context.kind.observe(&run, outcome.take()).await?;
        let decision = context.kind.decide(&run, &observed);
        if let Some(written) = write_status(&run, &decision.status, &runs, context).await? {
            run = written;
        }
        match decision.next {
            Next::AddFinalizer => run = set_finalizers(&runs, &run, &[FINALIZER]).await?,
            Next::RemoveFinalizer => {
                set_finalizers(&runs, &run, &[]).await?;
                context.succeeded(&uid);
                return Ok(Action::await_change());
            }
            Next::DeleteRun => {
                tracing::info!("deleting the run: ttlSecondsAfterFinished is over");
                let this_run = Preconditions { uid: Some(uid), resource_version: None };
                let params = DeleteParams::background().preconditions(this_run);
                runs.delete(&name, &params).await.doing(|| format!("delete {} {name}", K::Object::KIND))?;
                return Ok(Action::await_change());
            }
            Next::Apply(action) => {
                tracing::info!(?action, "applying an action");
                outcome = Some(context.kind.apply(&run, action).await?);
            }
            Next::RequeueAfter(delay) => {
                context.succeeded(&uid);
                return Ok(Action::requeue(delay));
            }
            Next::BackOff => return Ok(Action::requeue(context.back_off(&uid))),
            Next::AwaitChange => {
                context.succeeded(&uid);
                return Ok(Action::await_change());
            }
        }
    }
    Ok(Action::requeue(Duration::from_millis(100)))
}

/// Writes the status if it has changed, and then an Event for each condition that changed.
async fn write_status<K: Kind>(
    run: &K::Object,
    status: &StatusOf<K>,
    runs: &Api<K::Object>,
    context: &Context<K>,
) -> Result<Option<K::Object>, RunError> {
    let before = run.status();
    if before.is_some_and(|before| K::without_estimates(before) == K::without_estimates(status)) {
        return Ok(None);
    }
    let name = run.name_any();
    let patch = json!({
        "apiVersion": K::Object::api_version(&()),
        "kind": K::Object::kind(&()),
        // With the uid, the patch fails for another run of the same name.
        "metadata": { "name": name, "uid": run.uid() },
        "status": status,
    });
    let written = runs
        .patch_status(&name, &PatchParams::apply(&format!("{MANAGER}-status")).force(), &Patch::Apply(&patch))
        .await
        .doing(|| format!("write the status of {} {name}", K::Object::KIND))?;
    for event in events::changes(run.conditions(), status.conditions()) {
        publish(&context.recorder, run, event).await;
    }
    Ok(Some(written))
}

/// An Event that cannot be written is logged; the reconciliation goes on.
async fn publish(recorder: &Recorder, run: &impl Resource<DynamicType = ()>, record: EventRecord) {
    let event = Event {
        type_: if record.warning { EventType::Warning } else { EventType::Normal },
        action: record.reason.clone(),
        reason: record.reason,
        note: Some(record.note.chars().take(LONGEST_NOTE).collect()),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &run.object_ref(&())).await {
        tracing::warn!(reason = event.reason, error = chain(&error), "cannot write an Event");
    }
}

/// Sets the finalizers that this operator owns on the run; those of others stay.
async fn set_finalizers<O>(runs: &Api<O>, run: &O, finalizers: &[&str]) -> Result<O, RunError>
where
    O: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
{
    let name = run.name_any();
    let patch = json!({
        "apiVersion": O::api_version(&()),
        "kind": O::kind(&()),
        "metadata": { "name": name, "uid": run.uid(), "finalizers": finalizers },
    });
    runs.patch(&name, &PatchParams::apply(&format!("{MANAGER}-finalizer")).force(), &Patch::Apply(&patch))
        .await
        .doing(|| format!("change the finalizers of {} {name}", O::kind(&())))
}

#[cfg(test)]
mod tests;
